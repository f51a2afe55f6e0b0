#include "sync/taskq.h"

#include "plat/wait.h"

void
cf_taskq_init(cf_taskq *q)
{
    cf_store_relaxed(&q->stub.next, NULL);
    cf_store_relaxed(&q->tail, &q->stub);
    cf_store_relaxed(&q->pushed, 0);
    cf_store_relaxed(&q->taken, 0);
    cf_store_relaxed(&q->closed, 0);
    cf_store_relaxed(&q->lock.word, 0);
    q->head = &q->stub;
}

/* After `*busy`; who has the lock, or the GIL, is the only one who writes it. */
static void
count_taken(cf_taskq *q, _Atomic bool *busy)
{
    if (busy != NULL) {
        cf_store_relaxed(busy, true);
    }
    cf_store_release(&q->taken, cf_load_relaxed(&q->taken) + 1);
}

#if CF_SERIALIZED

static void
append(cf_taskq *q, cf_link *node)
{
    cf_store_relaxed(&node->next, NULL);
    cf_store_relaxed(&cf_load_relaxed(&q->tail)->next, node);
    cf_store_relaxed(&q->tail, node);
}

cf_link *
cf_taskq_pop(cf_taskq *q, _Atomic bool *busy)
{
    cf_link *task = cf_load_relaxed(&q->stub.next);
    if (task == NULL) {
        return NULL;
    }
    cf_link *next = cf_load_relaxed(&task->next);
    cf_store_relaxed(&q->stub.next, next);
    if (next == NULL) {
        cf_store_relaxed(&q->tail, &q->stub);
    }
    count_taken(q, busy);
    return task;
}

#else

static void
append(cf_taskq *q, cf_link *node)
{
    cf_store_relaxed(&node->next, NULL);
    /* acq_rel: what this producer wrote into the node goes with it, and what the
       previous one wrote into `prev` is seen before it is written to. */
    cf_link *prev = atomic_exchange_explicit(&q->tail, node, memory_order_acq_rel);
    /* Until this store the list is cut behind `prev`; take_linked() waits for it. */
    cf_store_release(&prev->next, node);
}

/* One try to unlink the first task; NULL if there is none, or while a producer is between
   its two steps.  Called with the lock held. */
static cf_link *
take_linked(cf_taskq *q)
{
    cf_link *head = q->head;
    cf_link *next = cf_load_acquire(&head->next);
    if (head == &q->stub) {
        if (next == NULL) {
            return NULL;
        }
        q->head = head = next;
        next = cf_load_acquire(&head->next);
    }
    if (next == NULL && head == cf_load_acquire(&q->tail)) {
        /* The last task: the stub goes behind it so that it can leave. */
        append(q, &q->stub);
        next = cf_load_acquire(&head->next);
    }
    if (next == NULL) {
        return NULL;
    }
    q->head = next;
    return head;
}

cf_link *
cf_taskq_pop(cf_taskq *q, _Atomic bool *busy)
{
    cf_link *task;
    cf_spinlock_lock(&q->lock);
    for (unsigned tries = 1;; tries++) {
        task = take_linked(q);
        if (task != NULL) {
            count_taken(q, busy);
            break;
        }
        /* Only now: the producers' line is better left alone. */
        if (cf_taskq_length(q) == 0) {
            break;
        }
        if (tries % 64 == 0) {
            cf_yield();
        }
        else {
            cf_relax();
        }
    }
    cf_spinlock_unlock(&q->lock);
    return task;
}

#endif

void
cf_taskq_push(cf_taskq *q, cf_link *task)
{
    /* Counted before it is linked: a consumer can take a task as soon as it is linked, and
       taken before it was counted it would hide another one for a while, or make the length
       less than nothing.

       seq_cst: publish, then (cf_lot_notify) look for an idle worker.  Its partner
       is cf_lot_wait, which announces itself and then looks at the length; weaker,
       both could miss. */
#if CF_SERIALIZED
    cf_store_seq(&q->pushed, cf_load_relaxed(&q->pushed) + 1);
#else
    atomic_fetch_add_explicit(&q->pushed, 1, memory_order_seq_cst);
#endif
    append(q, task);
}

bool
cf_taskq_calls(const void *queue)
{
    const cf_taskq *q = queue;
    return cf_taskq_length(q) != 0 || cf_load_seq(&q->closed) != 0;
}

void
cf_taskq_close(cf_taskq *q)
{
    cf_store_seq(&q->closed, 1);
}

uint32_t
cf_taskq_count(cf_taskq *q, bool (*is_such)(const cf_link *), uint32_t limit)
{
    uint32_t found = 0;
    /* Consumers take nothing meanwhile; what producers add is seen or not. */
    cf_spinlock_lock(&q->lock);
    for (cf_link *node = q->head; node != NULL && limit > 0;
         node = cf_load_acquire(&node->next)) {
        if (node != &q->stub) {
            found += is_such(node);
            limit--;
        }
    }
    cf_spinlock_unlock(&q->lock);
    return found;
}

void
cf_taskq_after_fork(cf_taskq *q)
{
    cf_store_relaxed(&q->lock.word, 0);
    /* A producer may have been between its two steps: what can be reached from the
       head is the queue from now on. */
    uint32_t linked = 0;
    cf_link *last = q->head;
    for (cf_link *node = q->head; node != NULL; node = cf_load_relaxed(&node->next)) {
        linked += node != &q->stub;
        last = node;
    }
    cf_store_relaxed(&q->tail, last);
    cf_store_relaxed(&q->pushed, cf_load_relaxed(&q->taken) + linked);
}
