#include "perturb.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

/* One nap in so many steps.  More of them, and the tests take minutes; longer ones are
   rare, so that a thread that sleeps meets others that do not. */
#define YIELD_EVERY 256u
#define NAP_EVERY   2000u
#define SLEEP_EVERY 40000u

static uint64_t seed = 1;
static _Atomic uint64_t sequences;      /* begun in this process and its ancestors */
static _Thread_local uint64_t state;    /* 0: this thread has none yet */

/* Its own state is that of the thread that forked, and so is everybody else's. */
static void
begin_anew(void)
{
    state = 0;
    seed ^= (uint64_t)getpid() << 32;
}

void
perturb_seed(uint64_t s)
{
    seed = s;
    pthread_atfork(NULL, NULL, begin_anew);
}

/* Marsaglia's xorshift64; a state that is not 0 never becomes 0. */
static uint32_t
next(void)
{
    if (state == 0) {
        state = (seed + atomic_fetch_add(&sequences, 1) * 0x9e3779b97f4a7c15u) | 1;
    }
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

void
perturb(void)
{
    uint32_t r = next();
    if (r % YIELD_EVERY == 0) {
        sched_yield();
    }
    else if (r % NAP_EVERY == 1) {
        usleep(50 + (r >> 16) % 250);
    }
    else if (r % SLEEP_EVERY == 2) {
        usleep(300 + (r >> 16) % 2700);
    }
}
