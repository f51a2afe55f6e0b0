#include "sync/waitset.h"

void
cf_waitset_init(cf_waitset *set, cf_wake_when when, uint32_t tickets)
{
    cf_store_relaxed(&set->cell, 0);
    set->when = when;
    cf_store_relaxed(&set->remaining, tickets);
    cf_store_relaxed(&set->posted, NULL);
}

void
cf_waitset_post(cf_waitset *set, cf_ticket *ticket, bool failed)
{
    ticket->next = cf_load_relaxed(&set->posted);
    while (!atomic_compare_exchange_weak_explicit(&set->posted, &ticket->next, ticket,
                                                  memory_order_seq_cst,
                                                  memory_order_relaxed)) {
    }
    if (set->when != CF_WAKE_EACH) {
        uint32_t left = atomic_fetch_sub_explicit(&set->remaining, 1,
                                                  memory_order_acq_rel) - 1;
        if (left != 0 && !(failed && set->when == CF_WAKE_FAILURE)) {
            return;
        }
    }
    /* The waiter has not looked since an earlier post: it will find this one too.
       seq_cst, after the push: partner of cf_waitset_take, which forgets and then takes;
       weaker, this could see the reason to look that is just being forgotten. */
    if (cf_load_seq(&set->cell) & CF_DONE) {
        return;
    }
    /* release: partner of the acquire in cf_cell_wait */
    uint32_t old = atomic_fetch_or_explicit(&set->cell, CF_DONE, memory_order_acq_rel);
    if (old & CF_SLEEPERS) {
        cf_cell_wake(&set->cell);
    }
}

cf_ticket *
cf_waitset_take(cf_waitset *set)
{
    /* First forget, then take: a post between the two is taken now and leaves a
       reason to look behind, which is harmless; the other way round it is lost. */
    atomic_fetch_and_explicit(&set->cell, ~CF_DONE, memory_order_seq_cst);
    cf_ticket *newest = atomic_exchange_explicit(&set->posted, NULL,
                                                 memory_order_seq_cst);
    cf_ticket *oldest = NULL;
    while (newest != NULL) {
        cf_ticket *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}
