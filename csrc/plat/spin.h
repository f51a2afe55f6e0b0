/* Short waits without the kernel: an adaptive spin, and a lock for a few
   instructions. */
#ifndef CF_PLAT_SPIN_H
#define CF_PLAT_SPIN_H

#include "base/atomic.h"

/* ---- adaptive spin ----

   Waking a sleeper costs the waker about 7 us and the sleeper about 50 us, so a
   wait that ends sooner is better spent awake.  A wait that lasts longer must
   cost nothing.  Each kind of waiter (the workers of a pool, the callers of
   result()) remembers how long its waits were and spins at most that long.

   Between looks the spin yields the processor: where both sides share one CPU a
   plain spin keeps the other side from doing what is waited for.  There it should
   yield soon; where the sides have a CPU each a yield only makes the waiter late.  So
   it also learns how often to look in between: a yield that took long, and after which
   the wait was over, means that they share one.

   A yield to a stranger that computes lasts as long as the system lets that one run,
   milliseconds, whatever the limit says.  Asleep the waiter would be woken at once.  So
   after such a yield nobody spins for a while: yields lose a twentieth of the time. */

typedef struct {
    /* Hints: any thread may write them, a lost update does not matter. */
    _Atomic int32_t limit;      /* nanoseconds to spin before sleeping */
    _Atomic int32_t looks;      /* between two yields */
    _Atomic int64_t resume;     /* cf_now() from which on yields are tried again */
} cf_spin;

#define CF_SPIN_MAX 100000          /* ns; about two wake-ups of a sleeper */
#define CF_SPIN_INIT {50000, CF_LOOKS_MIN, 0}
#define CF_LOOKS_MIN 8
#define CF_LOOKS_MAX 128

/* Look at `*word & mask` until it is not 0 (true) or the limit is over (false). */
bool cf_spin_until(cf_spin *spin, const cf_word *word, uint32_t mask);

/* The same for what is no bit of a word: look(arg) until it is true. */
bool cf_spin_look(cf_spin *spin, bool (*look)(void *arg), void *arg);

/* A wait that began at `start` (cf_now()) is over; adapt the limit to it. */
void cf_spin_learn(cf_spin *spin, int64_t start);

/* ---- spin lock ----

   For a few instructions that neither call out nor sleep.  A holder can lose its
   processor, so contenders yield. */

typedef struct {
    cf_word word;
} cf_spinlock;

void cf_spinlock_contended(cf_spinlock *lock);

static inline void
cf_spinlock_lock(cf_spinlock *lock)
{
    if (atomic_exchange_explicit(&lock->word, 1, memory_order_acquire) != 0) {
        cf_spinlock_contended(lock);
    }
}

static inline void
cf_spinlock_unlock(cf_spinlock *lock)
{
    cf_store_release(&lock->word, 0);
}

#endif
