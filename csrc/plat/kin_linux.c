/* A pipe that nobody writes to: the children have its writing end, the parent sees the
   end of file when none of them has it any more. */
#define _GNU_SOURCE
#include "plat/kin.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

void
cf_kin_before_fork(cf_kin *kin)
{
    int ends[2], saved = errno;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        ends[0] = ends[1] = -1;
    }
    else if (cf_shm_identify(ends[0], &kin->pipe) != CF_OK) {
        close(ends[0]);
        close(ends[1]);
        ends[0] = ends[1] = -1;
    }
    kin->watched = ends[0];
    kin->held = ends[1];
    errno = saved;
}

void
cf_kin_in_parent(cf_kin *kin)
{
    if (kin->held >= 0) {
        close(kin->held);
        kin->held = -1;
    }
}

void
cf_kin_in_child(cf_kin *kin)
{
    cf_kin_forget(kin);         /* `held` stays open as long as the process lives */
}

/* Programs close descriptors that are not theirs: is this one still the pipe? */
static bool
is_ours(const cf_kin *kin)
{
    cf_shm_identity now;
    return kin->watched >= 0 && cf_shm_identify(kin->watched, &now) == CF_OK
           && now.device == kin->pipe.device && now.inode == kin->pipe.inode;
}

bool
cf_kin_gone(cf_kin *kin)
{
    struct pollfd look = {.fd = kin->watched, .events = 0};
    if (!is_ours(kin) || poll(&look, 1, 0) != 1 || !(look.revents & POLLHUP)) {
        return false;
    }
    close(kin->watched);
    kin->watched = -1;
    return true;
}

void
cf_kin_forget(cf_kin *kin)
{
    if (is_ours(kin)) {
        close(kin->watched);
    }
    kin->watched = -1;
}
