/* A FIFO of tasks in one process: many producers, many consumers, no allocation.

   Producers append with one exchange and never wait for anybody (the intrusive
   list of D. Vyukov, "Intrusive MPSC node-based queue", 1024cores.net).  Consumers
   take turns under a spin lock of a few instructions, which producers never touch;
   under the GIL it is never contended.

       head -> node -> node -> ... -> node <- tail        (a stub when empty)

   With CF_SERIALIZED callers take turns, and all this is a plain list.

   Its length is what was pushed less what was taken: two counts, as producers write the one
   and consumers the other, each on lines of their own. */
#ifndef CF_SYNC_TASKQ_H
#define CF_SYNC_TASKQ_H

#include "base/atomic.h"
#include "plat/spin.h"

typedef struct cf_link {
    struct cf_link *_Atomic next;
} cf_link;

typedef struct {
    /* producers */
    cf_link *_Atomic tail;
    cf_word pushed;         /* what is linked, or just being linked */
    cf_word closed;         /* anybody's: only ever set */
#if !CF_SERIALIZED
    char pad[CF_CACHE_LINE - sizeof(cf_link *) - 2 * sizeof(cf_word)];
#endif
    /* consumers */
    cf_spinlock lock;
    cf_word taken;          /* written with the lock held */
    cf_link *head;          /* guarded by lock; with CF_SERIALIZED always the stub, which
                               then stands before the first task */
    cf_link stub;
} cf_taskq;

void cf_taskq_init(cf_taskq *q);

/* Append a task.  The caller then tells an idle worker: cf_lot_notify(). */
void cf_taskq_push(cf_taskq *q, cf_link *task);

/* Take the oldest task, or NULL if there is none.  With a task `*busy` (may be NULL)
   becomes true before the length goes down: who reads the length first and the flags
   of the workers then never counts a worker as idle that has just taken a task. */
cf_link *cf_taskq_pop(cf_taskq *q, _Atomic bool *busy);

/* From now on idle workers find a reason to be awake. */
void cf_taskq_close(cf_taskq *q);

/* Tasks that wait to be taken.  0 is exact at the second load; what is taken between the two
   is counted still, so that a task which came meanwhile is never hidden by it. */
static inline uint32_t
cf_taskq_length(const cf_taskq *q)
{
    uint32_t taken = cf_load_seq(&q->taken);
    return cf_load_seq(&q->pushed) - taken;
}

/* There is a reason for a worker of this cf_taskq to be awake: a task, or the end.  For
   cf_lot_init(). */
bool cf_taskq_calls(const void *queue);

/* It is closed, and all that was pushed by then is taken. */
static inline bool
cf_taskq_ended(const cf_taskq *q)
{
    return cf_load_seq(&q->closed) != 0 && cf_taskq_length(q) == 0;
}

/* How many of the oldest `limit` tasks are such.  `is_such` is called with the queue's lock
   held, by a few instructions each. */
uint32_t cf_taskq_count(cf_taskq *q, bool (*is_such)(const cf_link *), uint32_t limit);

/* For the one thread of a forked child: forget who held the lock.  A task that
   another thread was just linking may be lost; then it is not counted either. */
void cf_taskq_after_fork(cf_taskq *q);

#endif
