#include "sync/lot.h"

#include "plat/clock.h"
#include "plat/wait.h"

enum { AWAKE, PARKED, CALLED, DISMISSED };

void
cf_lot_init(cf_lot *lot, bool (*calls)(const void *arg), const void *arg)
{
    lot->calls = calls;
    lot->arg = arg;
    cf_store_relaxed(&lot->token, 0);
    cf_store_relaxed(&lot->parked_count, 0);
    cf_store_relaxed(&lot->lock.word, 0);
    lot->parked = NULL;
    lot->spin = (cf_spin)CF_SPIN_INIT;
}

void
cf_berth_init(cf_berth *berth)
{
    cf_store_relaxed(&berth->word, AWAKE);
    berth->searching = false;
    berth->below = NULL;
}

static bool
take_token(cf_lot *lot)
{
    uint32_t nobody = 0;
    return atomic_compare_exchange_strong_explicit(
        &lot->token, &nobody, 1, memory_order_seq_cst, memory_order_seq_cst);
}

static void
push_parked(cf_lot *lot, cf_berth *berth)
{
    cf_spinlock_lock(&lot->lock);
    cf_store_relaxed(&berth->word, PARKED);
    berth->below = lot->parked;
    lot->parked = berth;
    /* seq_cst: announced before the last look for a reason */
    atomic_fetch_add_explicit(&lot->parked_count, 1, memory_order_seq_cst);
    cf_spinlock_unlock(&lot->lock);
}

static cf_berth *
pop_parked(cf_lot *lot)
{
    cf_spinlock_lock(&lot->lock);
    cf_berth *berth = lot->parked;
    if (berth != NULL) {
        lot->parked = berth->below;
        atomic_fetch_sub_explicit(&lot->parked_count, 1, memory_order_seq_cst);
    }
    cf_spinlock_unlock(&lot->lock);
    return berth;
}

/* Take oneself off the stack; false if somebody else just did. */
static bool
remove_parked(cf_lot *lot, cf_berth *berth)
{
    bool found = false;
    cf_spinlock_lock(&lot->lock);
    for (cf_berth **at = &lot->parked; *at != NULL; at = &(*at)->below) {
        if (*at == berth) {
            *at = berth->below;
            atomic_fetch_sub_explicit(&lot->parked_count, 1, memory_order_seq_cst);
            cf_store_relaxed(&berth->word, AWAKE);
            found = true;
            break;
        }
    }
    cf_spinlock_unlock(&lot->lock);
    return found;
}

/* `why` is CALLED, with the token, or DISMISSED. */
static void
call(cf_berth *berth, uint32_t why)
{
    /* The berth can be gone as soon as its worker sees this, and only then. */
    cf_word *word = &berth->word;
    cf_store_release(word, why);
    cf_wake32(word, 1, CF_PRIVATE);
}

void
cf_lot_notify_slow(cf_lot *lot)
{
    for (;;) {
        if (!take_token(lot)) {
            return;
        }
        cf_berth *berth = pop_parked(lot);
        if (berth != NULL) {
            call(berth, CALLED);
            return;
        }
        /* Everybody left meanwhile.  Give the token back and look again: a worker
           may have parked while we had it, and have relied on us. */
        cf_store_seq(&lot->token, 0);
        if (cf_load_seq(&lot->parked_count) == 0 || !lot->calls(lot->arg)) {
            return;
        }
    }
}

static inline bool
look(void *arg)
{
    cf_lot *lot = arg;
    return lot->calls(lot->arg);
}

void
cf_lot_wait(cf_lot *lot, cf_berth *berth)
{
    int64_t start = cf_now();
    if (!berth->searching) {
        berth->searching = take_token(lot);
    }
    if (berth->searching && cf_spin_look(&lot->spin, look, lot)) {
        cf_spin_learn(&lot->spin, start);
        return;
    }
    push_parked(lot, berth);
    if (berth->searching) {
        berth->searching = false;
        cf_store_seq(&lot->token, 0);
    }
    /* The last look; its partner is cf_taskq_push. */
    if (lot->calls(lot->arg) && take_token(lot)) {
        /* Nobody calls while we own the token; only dismissal can come between,
           and then the word says so soon. */
        berth->searching = true;
        if (remove_parked(lot, berth)) {
            return;
        }
    }
    while (cf_load_acquire(&berth->word) == PARKED) {
        if (cf_wait32(&berth->word, PARKED, CF_FOREVER, CF_PRIVATE) == CF_SYSTEM) {
            cf_yield();     /* no way to sleep here: at least let others run */
        }
    }
    if (cf_load_relaxed(&berth->word) == CALLED) {
        berth->searching = true;
    }
    cf_store_relaxed(&berth->word, AWAKE);
    cf_spin_learn(&lot->spin, start);
}

void
cf_lot_dismiss(cf_lot *lot)
{
    cf_berth *berth;
    while ((berth = pop_parked(lot)) != NULL) {
        call(berth, DISMISSED);
    }
}

void
cf_lot_after_fork(cf_lot *lot)
{
    cf_lot_init(lot, lot->calls, lot->arg);
}
