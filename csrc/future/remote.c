#include "future/remote.h"

#include "py/block.h"

FutureObject *
cf_remote_future(cf_state *st, cf_remote *remote, cf_remote_slot slot, PyObject *name)
{
    FutureObject *f = cf_future_alloc(st);
    if (f == NULL) {
        Py_XDECREF(name);
        return NULL;
    }
    f->u.remote = (cf_remote_task){remote, slot};
    f->u.name = name;
    f->submitted = cf_now_stamp();
    cf_future_set_has(f, CF_HAS_REMOTE | CF_HAS_NAME);
    cf_store_relaxed(&f->cell, CF_REMOTE);
    return f;
}

/* ---- looking ---- */

uint32_t
cf_future_load_remote(FutureObject *f)
{
    /* Under the lock: with CF_REMOTE the slot is this future's, without it may be another
       task's by now. */
    uint32_t word = cf_cell_lock(&f->cell);
    if (!(word & CF_REMOTE)) {
        cf_cell_unlock(&f->cell, 0, 0);
        return word;
    }
    cf_remote_task *task = &f->u.remote;
    uint32_t there = task->pool->ops->look(task->pool, task->slot), clear = 0, set = 0;
    if (there & CF_DONE) {
        if (!(word & CF_EMULATED)) {        /* else the manager moves it, see arrived() */
            if (word & CF_HOOKED) {
                cf_future_post_tickets_lock_held(f, (there & CF_FAILED) != 0);
            }
            clear = CF_REMOTE | (word & CF_RUNNING);
            set = there | ((there & CF_CANCELLED) ? 0 : CF_ENCODED);
        }
    }
    else {
        set = there & ~word & CF_RUNNING;
    }
    cf_cell_unlock(&f->cell, clear, set);
    if (set & CF_CANCELLED) {
        cf_future_drop_remote(f);
    }
    return (word & ~clear) | set;
}

int
cf_future_block(cf_state *st, FutureObject *f, uint32_t mask, cf_deadline until)
{
    for (;;) {
        uint32_t word = cf_future_load(f);
        if (word & mask) {
            return 1;
        }
        if (!(word & CF_REMOTE) || (word & CF_EMULATED)) {
            return cf_block_until(st, &f->cell, mask, until);
        }
        if (until == CF_NO_WAIT) {
            return 0;
        }
        /* The task as it is now: another thread may take its result while we wait. */
        cf_cell_lock(&f->cell);
        bool here = (cf_future_has(f) & CF_HAS_REMOTE) != 0;
        cf_remote_task task = f->u.remote;
        cf_cell_unlock(&f->cell, 0, 0);
        int r = here ? task.pool->ops->block(st, task.pool, task.slot, until) : 1;
        if (r <= 0) {
            return r;
        }
    }
}

/* ---- the result ---- */

/* The future needs its slot no more. */
static void
let_go(FutureObject *f)
{
    uint32_t word = cf_cell_lock(&f->cell), has = cf_future_has(f);
    bool here = (has & CF_HAS_REMOTE) != 0;
    cf_remote_task task = f->u.remote;
    if (here && task.pool->ops->trace(task.pool, task.slot, &f->u.trace)) {
        has |= CF_HAS_TRACE;
    }
    cf_future_set_has(f, has & ~(uint32_t)(CF_HAS_REMOTE | CF_HAS_FETCHER));
    cf_cell_unlock(&f->cell, 0, 0);
    if (here) {
        task.pool->ops->let_go(task.pool, task.slot, (word & CF_READ) != 0);
    }
}

void
cf_future_drop_remote(FutureObject *f)
{
    if (cf_future_has(f) & CF_HAS_REMOTE) {
        let_go(f);
    }
}

int
cf_future_settle(cf_state *st, FutureObject *f, uint32_t *now)
{
    uint32_t word = *now = cf_future_load(f);
    if ((word & (CF_ENCODED | CF_DECODED)) != CF_ENCODED) {
        return 0;
    }
    word = cf_cell_lock(&f->cell);
    bool mine = !(word & CF_DECODED) && !(cf_future_has(f) & CF_HAS_FETCHER);
    if (mine) {
        cf_future_set_has(f, cf_future_has(f) | CF_HAS_FETCHER);
    }
    cf_cell_unlock(&f->cell, 0, 0);
    if (!mine) {
        int r = cf_block_until(st, &f->cell, CF_DECODED, CF_FOREVER);
        *now = cf_load_acquire(&f->cell);
        return r < 0 ? -1 : 0;
    }
    bool failed;
    cf_remote_task task = f->u.remote;
    PyObject *result = task.pool->ops->fetch(st, task.pool, task.slot, &failed);
#if CF_UNTRACK_PENDING
    if (PyObject_IS_GC(result)) {
        cf_future_track(f);
    }
#endif
    word = cf_cell_lock(&f->cell);
    f->result = result;
    uint32_t clear = !failed ? word & CF_FAILED : 0;
    uint32_t set = CF_DECODED | (failed ? CF_FAILED & ~word : 0);
    cf_cell_unlock(&f->cell, clear, set);
    let_go(f);
    *now = (word & ~clear) | set;
    return 0;
}

/* ---- telling ---- */

int
cf_remote_arrived(cf_state *st, FutureObject *f)
{
    uint32_t word = cf_future_load(f);
    if ((word & CF_REMOTE) && (word & CF_EMULATED) && (cf_future_has(f) & CF_HAS_REMOTE)) {
        /* Those who hold the condition see it change with its result. */
        bool failed;
        cf_remote_task task = f->u.remote;
        if (task.pool->ops->look(task.pool, task.slot) & CF_CANCELLED) {
            return cf_future_cancel(st, f) < 0 ? -1 : 0;
        }
        cf_cell_lock(&f->cell);
        bool mine = !(cf_future_has(f) & CF_HAS_FETCHER)
            && (task.pool->ops->look(task.pool, task.slot) & CF_DONE);
        if (mine) {
            cf_future_set_has(f, cf_future_has(f) | CF_HAS_FETCHER);
        }
        cf_cell_unlock(&f->cell, 0, 0);
        if (mine) {
            PyObject *result = task.pool->ops->fetch(st, task.pool, task.slot, &failed);
            int r = cf_future_finish(st, f, result, failed);
            if (r < 0 && PyErr_ExceptionMatches(st->invalid_state_error)) {
                PyErr_Clear();      /* another thread was here first */
                return 0;
            }
            return r;
        }
    }
    return (word & CF_DONE) ? cf_future_callbacks(st, f) : 0;
}

int
cf_remote_watch(cf_state *st, FutureObject *f)
{
    uint32_t word = cf_cell_lock(&f->cell);
    bool here = (word & CF_REMOTE) && (cf_future_has(f) & CF_HAS_REMOTE);
    bool told = true;
    if (here) {
        cf_remote_task *task = &f->u.remote;
        told = task->pool->ops->watch(task->pool, task->slot, f);
    }
    cf_cell_unlock(&f->cell, 0, 0);
    /* Not here: it has moved on in between, and so have its tickets. */
    return here && told ? 0 : cf_remote_arrived(st, f);
}
