#include "plat/spin.h"

#include "plat/clock.h"
#include "plat/wait.h"

/* Spin once more after a wait that was not longer than this: what made it long
   may have been the two wake-ups that spinning saves. */
#define WORTH_SPINNING 150000

/* A yield to another thread, rather than to nobody, takes longer than this (ns). */
#define SWITCH_TIME 800

/* A yield to somebody who computes takes longer than this (ns), which is less than a time
   slice; for how many times as long there are no more then. */
#define LOST_TIME 500000
#define REST 20

static void
learn_looks(cf_spin *spin, int32_t looks, bool after_switch)
{
    int32_t now = after_switch ? CF_LOOKS_MIN
                : looks < CF_LOOKS_MAX ? 2 * looks : CF_LOOKS_MAX;
    if (now != looks) {
        cf_store_relaxed(&spin->looks, now);
    }
}

static void
learn_lost(cf_spin *spin, int64_t now, int64_t lost)
{
    if (lost > LOST_TIME) {
        cf_store_relaxed(&spin->resume, now + REST * lost);
    }
}

/* Inlined together with `look`, which may be but a load. */
static inline __attribute__((always_inline)) bool
spin_while_not(cf_spin *spin, bool (*look)(void *arg), void *arg)
{
    int32_t looks = cf_load_relaxed(&spin->looks);
    int64_t end = 0, yielded = 0;
    for (;;) {
        for (int32_t i = 0; i < looks; i++) {
            if (look(arg)) {
                if (yielded != 0) {
                    int64_t now = cf_now();
                    learn_looks(spin, looks, i == 0 && now - yielded > SWITCH_TIME);
                    learn_lost(spin, now, now - yielded);
                }
                else if (i > 0) {
                    learn_looks(spin, looks, false);
                }
                return true;
            }
            cf_relax();
        }
        int64_t now = cf_now();
        if (end == 0) {
            end = now + cf_load_relaxed(&spin->limit);
            if (now < cf_load_relaxed(&spin->resume)) {
                return false;
            }
        }
        else {
            learn_lost(spin, now, now - yielded);
        }
        if (now >= end) {
            return false;
        }
        yielded = now;
        cf_yield();
    }
}

typedef struct {
    const cf_word *word;
    uint32_t mask;
} bits;

static inline bool
any_set(void *arg)
{
    const bits *b = arg;
    return (cf_load_acquire(b->word) & b->mask) != 0;
}

bool
cf_spin_until(cf_spin *spin, const cf_word *word, uint32_t mask)
{
    bits b = {word, mask};
    return spin_while_not(spin, any_set, &b);
}

bool
cf_spin_look(cf_spin *spin, bool (*look)(void *arg), void *arg)
{
    return spin_while_not(spin, look, arg);
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
