/* Where idle workers wait, and how one is called.

   A worker with nothing to do either searches (spins for a short while, or was
   just called and is on its way) or is parked (asleep on a word of its own).

                    push + notify
        PARKED ------------------------> CALLED --(takes the token over)--> awake
          ^                                                                  |
          +------ gives the token back, looks once more at the length <------+

   At most one worker searches at a time; the right to do so is the token, and
   somebody definite owns it: the spinner, or whoever was CALLED.  So a burst of
   pushes costs one wake-up: the others see that somebody searches.  A searcher
   that finds a task gives the token back and, if there is more to do, calls the
   next one.  Nobody waits for nothing: a worker gives the token back before its
   last look at the length, a producer adds to the length before it looks at the
   token, and both are sequentially consistent, so one of them sees the other. */
#ifndef CF_SYNC_LOT_H
#define CF_SYNC_LOT_H

#include "base/atomic.h"
#include "plat/spin.h"

/* One worker's place; the memory is the worker's. */
typedef struct cf_berth {
    cf_word word;               /* AWAKE, PARKED, CALLED, DISMISSED */
    bool searching;             /* owns the token; the worker's own */
    struct cf_berth *below;     /* guarded by the lot's lock */
} cf_berth;

typedef struct {
    /* Is there a reason to be awake?  Sequentially consistent loads. */
    bool (*calls)(const void *arg);
    const void *arg;
    cf_word token;              /* 1: somebody searches */
    cf_word parked_count;
    cf_spinlock lock;
    cf_berth *parked;           /* a stack, last in first out; guarded by lock */
    cf_spin spin;
} cf_lot;

void cf_lot_init(cf_lot *lot, bool (*calls)(const void *arg), const void *arg);
void cf_berth_init(cf_berth *berth);

/* A task was pushed, or a searcher leaves some behind: call a parked worker
   unless somebody searches already. */
void cf_lot_notify_slow(cf_lot *lot);

static inline void
cf_lot_notify(cf_lot *lot)
{
    /* seq_cst: after the push, before these looks; see the head of this file. */
    if (cf_load_seq(&lot->token) == 0 && cf_load_seq(&lot->parked_count) != 0) {
        cf_lot_notify_slow(lot);
    }
}

/* Wait until there is a reason to be awake or somebody calls.  Call with the GIL
   released.  Afterwards the worker tries to take a task and says how that went
   by cf_lot_found(), or waits again. */
void cf_lot_wait(cf_lot *lot, cf_berth *berth);

/* The worker has taken a task, or leaves for good: it searches no more. */
static inline void
cf_lot_found(cf_lot *lot, cf_berth *berth)
{
    if (berth->searching) {
        berth->searching = false;
        cf_store_seq(&lot->token, 0);
        if (lot->calls(lot->arg)) {
            cf_lot_notify(lot);
        }
    }
}

/* Call everybody (who looks will see why). */
void cf_lot_dismiss(cf_lot *lot);

/* For the one thread of a forked child: nobody waits here any more. */
void cf_lot_after_fork(cf_lot *lot);

#endif
