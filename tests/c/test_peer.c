/* plat/peer.h: other processes' deaths, bells, and waiting for several at once. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "plat/peer.h"

#define MS 1000000

static bool
rings(int fd)
{
    bool ready = false;
    cf_status status = cf_poll(&fd, &ready, 1, CF_NO_WAIT);
    CHECK_EQUAL(status, ready ? CF_OK : CF_TIMEDOUT);
    return ready;
}

/* A child that waits to be killed. */
static pid_t
sleeper(void)
{
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            pause();
        }
    }
    return child;
}

/* ---- deaths ---- */

static void
a_death_is_seen_before_anybody_reaps(void)
{
    pid_t child = sleeper();
    int fd = cf_peer_open(child);
    if (CHECK(fd >= 0)) {
        CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        CHECK(!rings(fd));
        kill(child, SIGKILL);
        bool ready = false;
        CHECK_EQUAL(cf_poll(&fd, &ready, 1, CF_FOREVER), CF_OK);
        CHECK(ready);
        CHECK(rings(fd));               /* it stays so */
        cf_peer_close(fd);
    }
    kill(child, SIGKILL);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
}

static void
a_death_that_was_not_awaited_is_still_seen(void)
{
    pid_t child = fork();
    if (child == 0) {
        _exit(0);
    }
    siginfo_t info;
    CHECK_EQUAL(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    int fd = cf_peer_open(child);
    CHECK(fd >= 0 && rings(fd));
    cf_peer_close(fd);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    errno = 0;
    CHECK_EQUAL(cf_peer_open(child), -1);       /* reaped */
    CHECK_EQUAL(errno, ESRCH);
}

static void
a_child_sees_its_parent_die(void)
{
    /* This process, a parent that dies when its child watches it, and that child. */
    int told[2], watching[2];
    CHECK_EQUAL(pipe(told), 0);
    CHECK_EQUAL(pipe(watching), 0);
    pid_t parent = fork();
    if (parent == 0) {
        char byte = 0;
        pid_t self = getpid();
        if (fork() == 0) {
            int fd = cf_peer_open(self);
            bool ready = false;
            byte = fd >= 0 && !rings(fd);
            bool ok = write(watching[1], &byte, 1) == 1;
            byte = byte && cf_poll(&fd, &ready, 1, cf_now() + 60000ll * MS) == CF_OK && ready;
            _exit(!ok || write(told[1], &byte, 1) != 1);
        }
        _exit(read(watching[0], &byte, 1) != 1 || byte != 1);
    }
    close(told[1]);
    char seen = 0;
    CHECK_EQUAL(read(told[0], &seen, 1), 1);
    CHECK_EQUAL(seen, 1);
    close(told[0]);
    close(watching[0]);
    close(watching[1]);
    int status = -1;
    CHECK_EQUAL(waitpid(parent, &status, 0), parent);
    CHECK_EQUAL(status, 0);
}

static void
nobody_is_an_error(void)
{
    errno = 0;
    CHECK_EQUAL(cf_peer_open(-5), -1);
    CHECK_EQUAL(errno, EINVAL);
}

/* ---- bells ---- */

static void
a_bell_rings_until_it_is_silenced(void)
{
    int fd = cf_bell_open();
    if (!CHECK(fd >= 0)) {
        return;
    }
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK(!rings(fd));
    cf_bell_silence(fd);                /* does not block */
    cf_bell_ring(fd);
    CHECK(rings(fd));
    CHECK(rings(fd));
    cf_bell_ring(fd);
    cf_bell_ring(fd);
    cf_bell_silence(fd);                /* all at once */
    CHECK(!rings(fd));
    cf_peer_close(fd);
}

static void
a_bell_that_was_rung_too_often_does_not_block(void)
{
    int fd = cf_bell_open();
    uint64_t most = UINT64_MAX - 1;
    CHECK_EQUAL(write(fd, &most, sizeof most), (ssize_t)sizeof most);
    errno = 4711;
    cf_bell_ring(fd);
    CHECK_EQUAL(errno, 4711);
    CHECK(rings(fd));
    cf_bell_silence(fd);
    CHECK_EQUAL(errno, 4711);
    CHECK(!rings(fd));
    errno = 4711;
    cf_bell_silence(fd);
    CHECK_EQUAL(errno, 4711);
    cf_peer_close(fd);
}

static int bell;

static void
ring_it(int number)
{
    (void)number;
    cf_bell_ring(bell);
}

static void
a_signal_handler_rings(void)
{
    struct sigaction act, old;
    memset(&act, 0, sizeof act);
    act.sa_handler = ring_it;
    sigaction(SIGUSR1, &act, &old);
    bell = cf_bell_open();
    errno = 4711;
    raise(SIGUSR1);
    CHECK_EQUAL(errno, 4711);
    CHECK(rings(bell));
    cf_peer_close(bell);
    sigaction(SIGUSR1, &old, NULL);
}

static void
another_process_rings(void)
{
    int fd = cf_bell_open();
    pid_t child = fork();
    if (child == 0) {
        cf_bell_ring(fd);
        _exit(0);
    }
    bool ready = false;
    CHECK_EQUAL(cf_poll(&fd, &ready, 1, CF_FOREVER), CF_OK);
    CHECK(ready);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    cf_peer_close(fd);
}

/* ---- waiting ---- */

static void
which_ones_are_ready(void)
{
    /* More than fit on its stack. */
    enum { MANY = 200 };
    int fds[MANY];
    bool ready[MANY];
    prng r = prng_new();
    for (int count = 1; count <= MANY; count = count * 3 + 1) {
        for (int i = 0; i < count; i++) {
            fds[i] = prng_below(&r, 4) == 0 ? -1 : cf_bell_open();
            ready[i] = true;
        }
        CHECK_EQUAL(cf_poll(fds, ready, count, CF_NO_WAIT), CF_TIMEDOUT);
        bool expected[MANY] = {false}, any = false;
        for (int i = 0; i < count; i++) {
            CHECK(!ready[i]);
            expected[i] = fds[i] >= 0 && prng_below(&r, 2);
            any |= expected[i];
            if (expected[i]) {
                cf_bell_ring(fds[i]);
            }
        }
        CHECK_EQUAL(cf_poll(fds, ready, count, CF_NO_WAIT), any ? CF_OK : CF_TIMEDOUT);
        for (int i = 0; i < count; i++) {
            CHECK_EQUAL(ready[i], expected[i]);
            if (fds[i] >= 0) {
                cf_peer_close(fds[i]);
            }
        }
    }
}

static void
a_deadline_is_not_early(void)
{
    int fd = cf_bell_open();
    bool ready;
    cf_deadline until = cf_now() + 20 * MS;
    CHECK_EQUAL(cf_poll(&fd, &ready, 1, until), CF_TIMEDOUT);
    CHECK(cf_now() >= until);
    CHECK_EQUAL(cf_poll(&fd, &ready, 1, until), CF_TIMEDOUT);
    CHECK_EQUAL(cf_poll(NULL, NULL, 0, CF_NO_WAIT), CF_TIMEDOUT);
    cf_peer_close(fd);
}

typedef struct {
    int fd;
    _Atomic bool left;
    cf_status status;
} poller;

static void *
poll_once(void *arg)
{
    poller *p = arg;
    bool ready;
    p->status = cf_poll(&p->fd, &ready, 1, CF_FOREVER);
    atomic_store(&p->left, true);
    return NULL;
}

static void
nothing(int number)
{
    (void)number;
}

static void
a_signal_handler_ends_a_wait(void)
{
    struct sigaction act, old;
    memset(&act, 0, sizeof act);
    act.sa_handler = nothing;
    sigaction(SIGUSR1, &act, &old);
    poller p = {.fd = cf_bell_open()};
    pthread_t thread = start(poll_once, &p);
    while (!atomic_load(&p.left)) {
        /* The first may come before it sleeps, so they go on. */
        pthread_kill(thread, SIGUSR1);
        poll(NULL, 0, 1);
    }
    join(thread);
    CHECK_EQUAL(p.status, CF_INTR);
    cf_peer_close(p.fd);
    sigaction(SIGUSR1, &old, NULL);
}

static void
a_ring_ends_a_wait(void)
{
    poller p = {.fd = cf_bell_open()};
    pthread_t thread = start(poll_once, &p);
    cf_bell_ring(p.fd);
    join(thread);
    CHECK_EQUAL(p.status, CF_OK);
    cf_peer_close(p.fd);
}

static void
a_closed_descriptor_is_an_error(void)
{
    int fds[2] = {cf_bell_open(), cf_bell_open()};
    bool ready[2] = {false, false};
    cf_peer_close(fds[1]);
    errno = 0;
    CHECK_EQUAL(cf_poll(fds, ready, 2, CF_FOREVER), CF_SYSTEM);
    CHECK_EQUAL(errno, EBADF);
    CHECK(!ready[0] && ready[1]);
    cf_peer_close(fds[0]);
}

int
main(void)
{
    RUN(a_death_is_seen_before_anybody_reaps);
    RUN(a_death_that_was_not_awaited_is_still_seen);
    RUN(a_child_sees_its_parent_die);
    RUN(nobody_is_an_error);
    RUN(a_bell_rings_until_it_is_silenced);
    RUN(a_bell_that_was_rung_too_often_does_not_block);
    RUN(a_signal_handler_rings);
    RUN(another_process_rings);
    RUN(which_ones_are_ready);
    RUN(a_deadline_is_not_early);
    RUN(a_signal_handler_ends_a_wait);
    RUN(a_ring_ends_a_wait);
    RUN(a_closed_descriptor_is_an_error);
    return finish_tests();
}
