#include "threads/pool.h"

#include "py/block.h"

static FutureObject *
future_of(cf_link *link)
{
    return cf_container_of(link, FutureObject, link);
}

cf_pool *
cf_pool_new(PyObject *module, uint32_t max_workers, uint32_t number)
{
    cf_pool *pool = PyMem_RawCalloc(1, sizeof *pool);
    if (pool == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    CF_BORN(thread_pool);
    cf_taskq_init(&pool->queue);
    cf_lot_init(&pool->lot, cf_taskq_calls, &pool->queue);
    cf_store_relaxed(&pool->refs, 1);
    pool->st = cf_state_of_module(module);
    pool->module = Py_NewRef(module);
    pool->max_workers = max_workers;
    pool->number = number;
    pool->opened = cf_now_coarse();

    cf_state *st = pool->st;
    cf_spinlock_lock(&st->pools_lock);
    pool->next = st->pools;
    if (st->pools != NULL) {
        st->pools->prev = pool;
    }
    st->pools = pool;
    cf_spinlock_unlock(&st->pools_lock);
    return pool;
}

void
cf_pool_incref(cf_pool *pool)
{
    atomic_fetch_add_explicit(&pool->refs, 1, memory_order_relaxed);
}

void
cf_pool_decref(cf_pool *pool)
{
    if (atomic_fetch_sub_explicit(&pool->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    cf_state *st = pool->st;
    cf_spinlock_lock(&st->pools_lock);
    if (pool->prev != NULL) {
        pool->prev->next = pool->next;
    }
    else {
        st->pools = pool->next;
    }
    if (pool->next != NULL) {
        pool->next->prev = pool->prev;
    }
    cf_spinlock_unlock(&st->pools_lock);
    /* Only what its submitter withdrew can be left. */
    cf_link *link;
    while ((link = cf_taskq_pop(&pool->queue, NULL)) != NULL) {
        Py_DECREF(future_of(link));
    }
    Py_DECREF(pool->module);
    CF_GONE(thread_pool);
    PyMem_RawFree(pool);
}

/* ---- starting threads ---- */

/* Starts that the current thread has begun and not ended, in any pool. */
static _Thread_local unsigned my_starts;

bool
cf_pool_begin_start(cf_pool *pool, uint32_t *number)
{
    uint64_t now = cf_load_relaxed(&pool->growth);
    do {
        *number = (uint32_t)now;
        if (*number >= pool->max_workers || (now & CF_GROWTH_CLOSED)) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&pool->growth, &now,
                                                    now + CF_GROWTH_START + 1,
                                                    memory_order_relaxed,
                                                    memory_order_relaxed));
    my_starts++;
    return true;
}

/* `growth` was just `now`: closed with nothing starting is what it stays. */
static void
settle_if(cf_pool *pool, uint64_t now)
{
    if (!(now & CF_GROWTH_CLOSED) || (now & ~CF_GROWTH_CLOSED) >= CF_GROWTH_START) {
        return;
    }
    uint32_t old = atomic_fetch_or_explicit(&pool->settled, CF_DONE, memory_order_release);
    if (old & CF_SLEEPERS) {
        cf_cell_wake(&pool->settled);
    }
}

void
cf_pool_started(cf_pool *pool)
{
    my_starts--;
    /* release: the thread is in `_threads`; acquire: so are those of earlier starts. */
    uint64_t old = atomic_fetch_sub_explicit(&pool->growth, CF_GROWTH_START,
                                             memory_order_acq_rel);
    settle_if(pool, old - CF_GROWTH_START);
}

void
cf_pool_not_started(cf_pool *pool)
{
    atomic_fetch_sub_explicit(&pool->growth, 1, memory_order_relaxed);
}

int
cf_pool_settle(cf_state *st, cf_pool *pool)
{
    if (my_starts != 0) {
        return 0;
    }
    /* The executor's __init__() may be called again while the GIL is released. */
    cf_pool_incref(pool);
    int r = cf_block_until(st, &pool->settled, CF_DONE, CF_FOREVER);
    cf_pool_decref(pool);
    return r < 0 ? -1 : 0;
}

/* ---- closing, breaking ---- */

void
cf_pool_close(cf_pool *pool, uint32_t bit)
{
    atomic_fetch_or_explicit(&pool->state, bit, memory_order_seq_cst);
    /* Between the two: see the head of pool.h for the first; and while a start is under
       way its task keeps the workers there, as they leave when the queue is closed and
       empty. */
    uint64_t old = atomic_fetch_or_explicit(&pool->growth, CF_GROWTH_CLOSED,
                                            memory_order_acq_rel);
    settle_if(pool, old | CF_GROWTH_CLOSED);
    cf_taskq_close(&pool->queue);
    cf_lot_dismiss(&pool->lot);
}

int
cf_pool_cancel_queued(cf_state *st, cf_pool *pool)
{
    PyObject *first = NULL;
    cf_link *link;
    while ((link = cf_taskq_pop(&pool->queue, NULL)) != NULL) {
        FutureObject *f = future_of(link);
        int r = cf_future_cancel(st, f);
        if (r > 0) {
            cf_tally_add(&pool->tally.cancelled, 1);
            r = cf_future_notify_cancelled(st, f);
        }
        if (r < 0) {
            PyObject *exc = PyErr_GetRaisedException();
            if (first == NULL) {
                first = exc;
            }
            else {
                Py_DECREF(exc);
            }
        }
        Py_DECREF(f);
    }
    if (first != NULL) {
        PyErr_SetRaisedException(first);
        return -1;
    }
    return 0;
}

PyObject *
cf_pool_broken_error(cf_state *st)
{
    return PyObject_CallFunction(st->broken_thread_pool, "s", CF_BROKEN_TEXT);
}

void
cf_pool_fail_queued(cf_state *st, cf_pool *pool, PyObject *reason)
{
    cf_link *link;
    while ((link = cf_taskq_pop(&pool->queue, NULL)) != NULL) {
        FutureObject *f = future_of(link);
        bool unexpected;
        if (cf_future_claim(st, f, &unexpected)) {
            PyObject *exc = reason != NULL ? Py_NewRef(reason) : cf_pool_broken_error(st);
            if (exc == NULL) {
                exc = PyErr_GetRaisedException();
            }
            cf_future_drop_call(f);
            cf_tally_add(&pool->tally.failed, 1);
            cf_future_finish(st, f, exc, true);
        }
        if (PyErr_Occurred()) {
            PyErr_WriteUnraisable((PyObject *)f);
        }
        Py_DECREF(f);
    }
}

void
cf_pool_break(cf_state *st, cf_pool *pool)
{
    atomic_fetch_or_explicit(&pool->state, CF_POOL_BROKEN, memory_order_seq_cst);
    cf_pool_fail_queued(st, pool, NULL);
}

void
cf_pool_raise_closed(cf_state *st, uint32_t state)
{
    if (state & CF_POOL_BROKEN) {
        PyErr_SetString(st->broken_thread_pool, CF_BROKEN_TEXT);
    }
    else if (state & CF_POOL_SHUTDOWN) {
        PyErr_SetString(PyExc_RuntimeError, "cannot schedule new futures after shutdown");
    }
    else if (state & CF_POOL_FORKED) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot schedule new futures after fork: the threads of this "
                        "pool are in the parent process; make a new executor");
    }
    else {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot schedule new futures after interpreter shutdown");
    }
}

uint32_t
cf_pools_saturated(cf_state *st, bool *all_busy)
{
    uint32_t found = 0;
    int looked = 0;
    cf_spinlock_lock(&st->pools_lock);
    for (cf_pool *pool = st->pools; pool != NULL && looked < 8; pool = pool->next, looked++) {
        /* One task may be the caller's own, that a worker is about to take. */
        uint32_t waiting = cf_taskq_length(&pool->queue);
        if (waiting < 2) {
            continue;
        }
        uint32_t workers = 0, busy = 0;
        cf_spinlock_lock(&pool->workers_lock);
        for (cf_worker *w = pool->workers; w != NULL; w = w->next) {
            workers++;
            busy += cf_load_relaxed(&w->busy);
        }
        cf_spinlock_unlock(&pool->workers_lock);
        *all_busy = busy == workers;
        if (workers >= (uint32_t)st->cpus && (*all_busy || waiting >= 4 * workers)) {
            found = waiting;
            break;
        }
    }
    cf_spinlock_unlock(&st->pools_lock);
    return found;
}

static void
forked(cf_state *st, cf_pool *pool)
{
    unsigned long me = PyThread_get_thread_ident();
    cf_taskq_after_fork(&pool->queue);
    cf_lot_after_fork(&pool->lot);
    cf_store_relaxed(&pool->workers_lock.word, 0);
    atomic_fetch_or_explicit(&pool->state, CF_POOL_FORKED, memory_order_relaxed);
    /* Starts that other threads had begun never end: settled all the same. */
    atomic_fetch_or_explicit(&pool->growth, CF_GROWTH_CLOSED, memory_order_relaxed);
    cf_store_relaxed(&pool->settled, CF_DONE);
    cf_taskq_close(&pool->queue);
    cf_link *link;
    while ((link = cf_taskq_pop(&pool->queue, NULL)) != NULL) {
        FutureObject *f = future_of(link);
        cf_future_abandon(f, NULL);
        Py_DECREF(f);
    }
    cf_worker *mine = NULL;
    for (cf_worker *w = pool->workers; w != NULL; w = w->next) {
        if (w->thread == me) {
            mine = w;           /* a task forked: it goes on here */
            continue;
        }
        FutureObject *f = cf_load_relaxed(&w->current);
        if (f != NULL) {
            cf_store_relaxed(&w->current, NULL);
            PyObject *exc = PyObject_CallFunction(
                st->broken_thread_pool, "s",
                "the thread that ran this task is in the parent process");
            if (exc == NULL) {
                exc = PyErr_GetRaisedException();
            }
            cf_future_abandon(f, exc);
            Py_DECREF(exc);
        }
    }
    pool->workers = mine;
    if (mine != NULL) {
        mine->next = NULL;
    }
}

void
cf_pool_after_fork(cf_state *st)
{
    cf_store_relaxed(&st->pools_lock.word, 0);
    for (cf_pool *pool = st->pools; pool != NULL; pool = pool->next) {
        cf_pool_incref(pool);
        forked(st, pool);
        /* The reference stays: workers that are no more still have theirs. */
        atomic_fetch_sub_explicit(&pool->refs, 1, memory_order_relaxed);
    }
}
