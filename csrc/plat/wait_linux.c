#include "plat/wait.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

cf_status
cf_wait32(cf_word *word, uint32_t expected, cf_deadline until, cf_scope scope)
{
    /* FUTEX_WAIT_BITSET is the variant whose time-out is an absolute monotonic
       time, see futex(2): no drift when a wait is resumed. */
    int op = FUTEX_WAIT_BITSET | (scope == CF_PRIVATE ? FUTEX_PRIVATE_FLAG : 0);
    struct timespec ts, *timeout = NULL;
    if (until != CF_FOREVER) {
        if (until < 0) {
            until = 0;
        }
        ts.tv_sec = until / 1000000000;
        ts.tv_nsec = until % 1000000000;
        timeout = &ts;
    }
    if (syscall(SYS_futex, word, op, expected, timeout, NULL,
                FUTEX_BITSET_MATCH_ANY) == 0) {
        return CF_OK;
    }
    switch (errno) {
    case EAGAIN:
        return CF_AGAIN;
    case ETIMEDOUT:
        return CF_TIMEDOUT;
    case EINTR:
        return CF_INTR;
    default:
        return CF_SYSTEM;
    }
}

int
cf_wake32(cf_word *word, int count, cf_scope scope)
{
    int op = FUTEX_WAKE | (scope == CF_PRIVATE ? FUTEX_PRIVATE_FLAG : 0);
    long woken = syscall(SYS_futex, word, op, count, NULL, NULL, 0);
    return woken > 0 ? (int)woken : 0;
}

void
cf_yield(void)
{
    sched_yield();
}

bool
cf_is_first_thread(void)
{
    return syscall(SYS_gettid) == getpid();
}
