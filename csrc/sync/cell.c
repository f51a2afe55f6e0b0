#include "sync/cell.h"

#include <limits.h>

#include "plat/wait.h"

uint32_t
cf_cell_lock_contended(cf_word *cell)
{
    for (unsigned tries = 1;; tries++) {
        uint32_t old = cf_load_relaxed(cell);
        if (!(old & CF_LOCKED)
            && atomic_compare_exchange_weak_explicit(cell, &old, old | CF_LOCKED,
                                                     memory_order_acquire,
                                                     memory_order_relaxed))
        {
            return old;
        }
        /* The holder may have lost its processor. */
        if (tries % 64 == 0) {
            cf_yield();
        }
        else {
            cf_relax();
        }
    }
}

void
cf_cell_wake(cf_word *cell)
{
    /* Relaxed: a sleeper that sets the bit again in between either sees the new
       state and does not sleep, or is woken for nothing and looks again. */
    atomic_fetch_and_explicit(cell, ~CF_SLEEPERS, memory_order_relaxed);
    cf_wake32(cell, INT_MAX, CF_PRIVATE);
}

cf_status
cf_cell_wait(cf_word *cell, uint32_t mask, cf_deadline until)
{
    for (;;) {
        uint32_t now = cf_load_acquire(cell);
        if (now & mask) {
            return CF_OK;
        }
        if (!(now & CF_SLEEPERS)
            && !atomic_compare_exchange_strong_explicit(cell, &now, now | CF_SLEEPERS,
                                                        memory_order_relaxed,
                                                        memory_order_relaxed))
        {
            continue;
        }
        /* The kernel compares the whole word: a state that changed since is not
           slept on, and whoever changes it from here on sees CF_SLEEPERS. */
        cf_status st = cf_wait32(cell, now | CF_SLEEPERS, until, CF_PRIVATE);
        if (st == CF_TIMEDOUT || st == CF_INTR || st == CF_SYSTEM) {
            return (cf_load_acquire(cell) & mask) ? CF_OK : st;
        }
    }
}
