/* For how long at least one of many was at work.

   Each says when it begins and when it ends, in any order and in any thread or process:

       sum -= now   by whoever comes when nobody is there
       sum += now   by the last one to go

   Additions commute, so nothing is lost however these cross.  A reader in between may see
   nonsense for a moment, and therefore says what is possible. */
#ifndef CF_BASE_ACTIVITY_H
#define CF_BASE_ACTIVITY_H

#include "base/atomic.h"

typedef struct {
    _Atomic int64_t sum;        /* nanoseconds, see above */
    cf_word present;            /* how many are at work */
} cf_activity;

/* `now`: any clock, the same for all. */
static inline void
cf_activity_begin(cf_activity *a, int64_t now)
{
    if (atomic_fetch_add_explicit(&a->present, 1, memory_order_relaxed) == 0) {
        atomic_fetch_sub_explicit(&a->sum, now, memory_order_relaxed);
    }
}

static inline void
cf_activity_end(cf_activity *a, int64_t now)
{
    if (atomic_fetch_sub_explicit(&a->present, 1, memory_order_relaxed) == 1) {
        atomic_fetch_add_explicit(&a->sum, now, memory_order_relaxed);
    }
}

/* Nanoseconds in all, at most those since `since`. */
static inline int64_t
cf_activity_total(const cf_activity *a, int64_t now, int64_t since)
{
    int64_t total = cf_load_relaxed(&a->sum);
    if (cf_load_relaxed(&a->present) != 0) {
        total += now;
    }
    return total < 0 ? 0 : total > now - since ? now - since : total;
}

#endif
