#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "plat/peer.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#  define SYS_pidfd_open 434        /* the same on every architecture */
#endif

#define FEW 64                      /* descriptors for which the stack is enough */

int
cf_peer_open(int pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);        /* close-on-exec always */
}

int
cf_bell_open(void)
{
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void
cf_bell_ring(int fd)
{
    int saved = errno;
    uint64_t one = 1;
    /* It can only fail because the counter is at its end, and then the bell rings. */
    ssize_t n = write(fd, &one, sizeof one);
    (void)n;
    errno = saved;
}

void
cf_bell_silence(int fd)
{
    int saved = errno;
    uint64_t rings;
    /* It can only fail because nobody has rung. */
    ssize_t n = read(fd, &rings, sizeof rings);
    (void)n;
    errno = saved;
}

static cf_status
poll_until(struct pollfd *polls, int count, cf_deadline until)
{
    struct timespec ts, *timeout = NULL;
    if (until != CF_FOREVER) {
        int64_t left = until > 0 ? until - cf_now() : 0;
        left = left > 0 ? left : 0;
        ts.tv_sec = left / 1000000000;
        ts.tv_nsec = left % 1000000000;
        timeout = &ts;
    }
    int n = ppoll(polls, (nfds_t)count, timeout, NULL);
    if (n < 0) {
        return errno == EINTR ? CF_INTR : CF_SYSTEM;
    }
    return n == 0 ? CF_TIMEDOUT : CF_OK;
}

cf_status
cf_poll(const int *fds, bool *ready, int count, cf_deadline until)
{
    struct pollfd few[FEW], *polls = few;
    if (count > FEW) {
        polls = malloc((size_t)count * sizeof *polls);
        if (polls == NULL) {
            return CF_SYSTEM;
        }
    }
    for (int i = 0; i < count; i++) {
        polls[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
        ready[i] = false;
    }
    cf_status status = poll_until(polls, count, until);
    if (status == CF_OK) {
        for (int i = 0; i < count; i++) {
            ready[i] = polls[i].revents != 0;
            if (polls[i].revents & POLLNVAL) {
                errno = EBADF;
                status = CF_SYSTEM;
            }
        }
    }
    if (polls != few) {
        int saved = errno;
        free(polls);
        errno = saved;
    }
    return status;
}

void
cf_peer_close(int fd)
{
    close(fd);
}
