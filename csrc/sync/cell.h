/* The word at the heart of a future: its state, a lock bit and a "somebody
   sleeps" bit in 32 bits.

   Moves go only rightwards; whoever wins the move out of a state owns the fields
   that belong to the next one.

       PENDING --claim--> RUNNING --resolve--> FINISHED
          |  +--------------------resolve------^
          +--cancel--> CANCELLED --notify--> CANCELLED_AND_NOTIFIED

   A state is a set of bits, so that each kind of waiter has one mask to look for:
   result() wakes on CF_DONE, wait() and as_completed() on CF_NOTIFIED.

       state                    RUNNING DONE CANCELLED NOTIFIED
       PENDING                     -     -       -        -
       RUNNING                     x     -       -        -
       CANCELLED                   -     x       x        -
       CANCELLED_AND_NOTIFIED      -     x       x        x
       FINISHED                    -     x       -        x

   CF_LOCKED guards the fields beside the word (result, hooks); it is held for a
   few instructions in which nothing is called that could run Python code, and
   only its holder changes any bit but CF_SLEEPERS.  (With CF_SERIALIZED holding the
   GIL is holding the lock, and the bit is not used.)  CF_SLEEPERS is set by anyone,
   at any time, before sleeping on the word: so all other changes are
   read-modify-write, a plain store could erase it. */
#ifndef CF_SYNC_CELL_H
#define CF_SYNC_CELL_H

#include "base/atomic.h"
#include "base/status.h"
#include "plat/clock.h"
#include "plat/spin.h"

#define CF_RUNNING   (1u << 0)
#define CF_DONE      (1u << 1)
#define CF_CANCELLED (1u << 2)
#define CF_NOTIFIED  (1u << 3)
#define CF_STATE     (CF_RUNNING | CF_DONE | CF_CANCELLED | CF_NOTIFIED)

#define CF_STATE_PENDING   0u
#define CF_STATE_RUNNING   CF_RUNNING
#define CF_STATE_CANCELLED (CF_DONE | CF_CANCELLED)
#define CF_STATE_CANCELLED_AND_NOTIFIED (CF_DONE | CF_CANCELLED | CF_NOTIFIED)
#define CF_STATE_FINISHED  (CF_DONE | CF_NOTIFIED)

#define CF_FAILED    (1u << 4)      /* with FINISHED: the result is an exception */
#define CF_LOCKED    (1u << 5)
#define CF_SLEEPERS  (1u << 6)
#define CF_HOOKED    (1u << 7)      /* somebody must be told when it is done */
#define CF_EMULATED  (1u << 8)      /* the standard library's private view exists */
#define CF_OVERRIDDEN (1u << 9)     /* the instance has an _invoke_callbacks of its own */
#define CF_REMOTE    (1u << 10)     /* its task is elsewhere and may be further on; the   */
#define CF_ENCODED   (1u << 11)     /* next two: future/remote.h */
#define CF_DECODED   (1u << 12)
#define CF_READ      (1u << 13)     /* somebody was given the exception, or needs no telling */

uint32_t cf_cell_lock_contended(cf_word *cell);

/* Take the lock; returns the word as it was (without CF_LOCKED). */
static inline uint32_t
cf_cell_lock(cf_word *cell)
{
    if (CF_SERIALIZED) {
        return cf_load_relaxed(cell);       /* the GIL is the lock */
    }
    uint32_t old = cf_load_relaxed(cell) & ~CF_LOCKED;
    /* acquire: what the last holder wrote beside the word is seen */
    if (atomic_compare_exchange_strong_explicit(cell, &old, old | CF_LOCKED,
                                                memory_order_acquire,
                                                memory_order_relaxed)) {
        return old;
    }
    return cf_cell_lock_contended(cell);
}

void cf_cell_wake(cf_word *cell);

/* Release the lock and change bits in the same step: `clear` must be set now and
   `set` must be clear now.  Wakes the sleepers if it is now done, notified or decoded. */
static inline void
cf_cell_unlock(cf_word *cell, uint32_t clear, uint32_t set)
{
    /* One addition clears and sets known bits and keeps CF_SLEEPERS, whoever sets
       it meanwhile.  Release: partner of the acquire in cf_cell_lock and of the
       loads in cf_spin_until and cf_cell_wait. */
    uint32_t change = set - clear - (CF_SERIALIZED ? 0 : CF_LOCKED);
    if (change == 0) {
        return;
    }
    uint32_t old = atomic_fetch_add_explicit(cell, change, memory_order_release);
    if ((old & CF_SLEEPERS) && (set & (CF_DONE | CF_NOTIFIED | CF_DECODED))) {
        cf_cell_wake(cell);
    }
}

/* Sleep (at once: see cf_spin_until) until `*cell & mask`.  Call with the GIL
   released.  CF_OK, CF_TIMEDOUT, CF_INTR or CF_SYSTEM (errno). */
cf_status cf_cell_wait(cf_word *cell, uint32_t mask, cf_deadline until);

#endif
