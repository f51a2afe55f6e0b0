#include "sync/spin.h"

#include "plat/clock.h"
#include "plat/wait.h"

#define LOOKS_PER_ROUND 8

/* Spin once more after a wait that was not longer than this: what made it long
   may have been the two wake-ups that spinning saves. */
#define WORTH_SPINNING 150000

bool
cf_spin_until(cf_spin *spin, const cf_word *word, uint32_t mask)
{
    int64_t end = 0;
    for (;;) {
        for (int i = 0; i < LOOKS_PER_ROUND; i++) {
            if (cf_load_acquire(word) & mask) {
                return true;
            }
            cf_relax();
        }
        int64_t now = cf_now();
        if (end == 0) {
            end = now + cf_load_relaxed(&spin->limit);
        }
        if (now >= end) {
            return false;
        }
        cf_yield();
    }
}

void
cf_spin_learn(cf_spin *spin, int64_t start)
{
    int64_t waited = cf_now() - start;
    int32_t limit = cf_load_relaxed(&spin->limit);
    if (waited > WORTH_SPINNING) {
        limit /= 2;
    }
    else if (2 * waited > limit) {
        limit = 2 * waited > CF_SPIN_MAX ? CF_SPIN_MAX : (int32_t)(2 * waited);
    }
    cf_store_relaxed(&spin->limit, limit);
}

void
cf_spinlock_contended(cf_spinlock *lock)
{
    for (unsigned tries = 1;; tries++) {
        if (cf_load_relaxed(&lock->word) == 0
            && atomic_exchange_explicit(&lock->word, 1, memory_order_acquire) == 0)
        {
            return;
        }
        if (tries % 64 == 0) {
            cf_yield();
        }
        else {
            cf_relax();
        }
    }
}
