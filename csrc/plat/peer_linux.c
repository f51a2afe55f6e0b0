#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "plat/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
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

/* The third and the 22nd field of /proc/PID/stat: a letter, and when it was started; the
   second one can hold spaces and brackets.  0: there is no such process, or no such file. */
static uint64_t
look_up(int pid, char *state)
{
    char name[64], text[1024];
    *state = '?';
    snprintf(name, sizeof name, "/proc/%d/stat", pid);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *at = strrchr(text, ')');
    if (at != NULL && at[1] == ' ') {
        *state = at[2];
    }
    for (int field = 2; at != NULL && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    return at == NULL ? 0 : strtoull(at, NULL, 10);
}

static uint64_t
own_space(void)
{
    struct stat st;
    return stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;
}

cf_peer
cf_peer_of(int pid)
{
    char state;
    return (cf_peer){.pid = pid, .started = look_up(pid, &state), .space = own_space()};
}

cf_peer
cf_peer_self(void)
{
    return cf_peer_of(getpid());
}

bool
cf_peer_is_gone(const cf_peer *peer)
{
    uint64_t space = own_space();
    if (peer->space != 0 && space != 0 && peer->space != space) {
        return false;
    }
    bool ended = false;
    int fd = cf_peer_open(peer->pid);
    if (fd >= 0) {
        ended = cf_poll(&fd, &ended, 1, CF_NO_WAIT) == CF_OK && ended;
        cf_peer_close(fd);
    }
    else {
        ended = errno == ESRCH || (kill(peer->pid, 0) != 0 && errno == ESRCH);
    }
    if (ended) {
        return true;
    }
    /* Without a descriptor the state says that it ended and nobody has waited for it yet.
       (With one it must not: the first thread of a living process can have ended.) */
    char state;
    uint64_t now = look_up(peer->pid, &state);
    return (fd < 0 && (state == 'Z' || state == 'X'))
           || (peer->started != 0 && now != 0 && now != peer->started);
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
