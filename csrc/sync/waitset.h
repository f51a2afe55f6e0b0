/* One thread waits for many futures: wait() and as_completed().

   The waiter has one ticket for each future and hangs it on the future as a hook;
   whoever completes the future posts the ticket.  A post is a push on a list and,
   when the waiter wants to know and sleeps, one wake-up: O(1) for each completion,
   nothing is allocated, nothing is polled. */
#ifndef CF_SYNC_WAITSET_H
#define CF_SYNC_WAITSET_H

#include "base/atomic.h"
#include "sync/cell.h"

typedef enum {
    CF_WAKE_EACH,       /* at every completion */
    CF_WAKE_FAILURE,    /* at a failure, and when none is left */
    CF_WAKE_LAST,       /* when none is left */
} cf_wake_when;

typedef struct cf_ticket {
    struct cf_ticket *next;     /* the poster's until posted, then the waiter's */
} cf_ticket;

typedef struct {
    cf_word cell;               /* CF_DONE: look; CF_SLEEPERS: the waiter sleeps */
    cf_wake_when when;
    cf_word remaining;          /* tickets not yet posted */
    cf_ticket *_Atomic posted;  /* a stack, newest first */
} cf_waitset;

void cf_waitset_init(cf_waitset *set, cf_wake_when when, uint32_t tickets);

/* A ticket's future is complete.  Once this returns the set is not touched. */
void cf_waitset_post(cf_waitset *set, cf_ticket *ticket, bool failed);

/* The waiter: take what was posted since the last time, oldest first (or NULL),
   and forget that there was a reason to look. */
cf_ticket *cf_waitset_take(cf_waitset *set);

#endif
