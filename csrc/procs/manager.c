/* What the pool's manager thread does in C: it sleeps until a worker announces a watched
   task, dies, or somebody nudges it; completes what was announced, and calls callbacks.
   Nothing waits for it but callbacks, as_completed() and the like: result() and wait()
   look at the slots themselves. */
#include "procs/procpool.h"

#include "plat/peer.h"
#include "py/block.h"

#define BATCH 64

/* When no task was submitted for so long the burst is over, and memory beyond so much goes
   back to the system. */
#define QUIET_AFTER_NS 1000000000
#define KEEP_BYTES (1u << 20)

/* Whatever can be lost may be: words of slots, announcements.  Nothing of what was not told
   yet can be known; all of it ends, and the pool takes no more. */
static void
scribbled_over(cf_procpool *pool)
{
    PyObject *error = cf_procpool_scribble_error(pool);
    if (pool->broken_text == NULL) {
        pool->broken_text = PyObject_Str(error);
        if (pool->broken_text == NULL) {
            PyErr_Clear();
            pool->broken_text = Py_NewRef(Py_None);
        }
    }
    cf_procpool_close(pool, CF_PROCS_BROKEN);
    for (uint32_t slot = 0; slot < pool->used; slot++) {
        cf_procpool_end_by_force(pool, slot, error);
    }
    Py_DECREF(error);
    cf_store_release(&pool->nudged, 1);     /* the manager's Python half ends the workers */
    cf_bell_ring(pool->bell);
}

/* The future of a task died before its task failed: have the exception logged. */
static void
report_unread(cf_procpool *pool, uint32_t slot)
{
    cf_state *st = pool->st;
    uint32_t word = cf_load_acquire(cf_procpool_word(pool, slot));
    bool failed = (word & CF_SLOT_FAILED) != 0
        || (pool->tasks[slot].extra != NULL && pool->tasks[slot].extra->error != NULL);
    if (!failed || st->log_unread == NULL || !cf_load_relaxed(&st->warn_unread)) {
        return;
    }
    cf_definition *definition = pool->tasks[slot].definition;
    PyObject *name = definition == NULL ? NULL : definition->name;
    PyObject *exc = pool->remote.ops->fetch(st, &pool->remote, (cf_remote_slot){slot, 0},
                                            &failed);
    PyObject *r = PyObject_CallFunctionObjArgs(
        st->log_unread, name == NULL ? Py_None : name, exc, NULL);
    if (r == NULL) {
        PyErr_WriteUnraisable(st->log_unread);
    }
    Py_XDECREF(r);
    Py_DECREF(exc);
}

void
cf_procpool_settle(cf_procpool *pool, uint32_t slot)
{
    cf_task *task = &pool->tasks[slot];
    cf_procpool_lock(pool);
    FutureObject *f = task->watcher;
    task->watcher = NULL;
    bool let_go = cf_task_is(task, CF_TASK_LET_GO);
    cf_procpool_unlock(pool);
    if (let_go) {
        if (cf_task_is(task, CF_TASK_REPORT)) {
            report_unread(pool, slot);
        }
        cf_procpool_free_slot(pool, slot);
    }
    if (f != NULL) {
        /* From here on the slot is the future's, if it is not gone already. */
        if (cf_remote_arrived(pool->st, f) < 0) {
            PyErr_WriteUnraisable((PyObject *)f);
        }
        Py_DECREF(f);
    }
}

void
cf_procpool_settle_announced(cf_procpool *pool)
{
    uint32_t numbers[BATCH];
    size_t count;
    bool corrupt = false;
    for (;;) {
        cf_procpool_lock(pool);
        count = cf_board_announced(&pool->board, &pool->unread, numbers, BATCH, &corrupt);
        cf_procpool_unlock(pool);
        if (count == 0) {
            break;
        }
        for (size_t i = 0; i < count; i++) {
            /* Workers can scribble: it must be so. */
            uint32_t word = cf_load_acquire(cf_procpool_word(pool, numbers[i]));
            if (numbers[i] < pool->used && (word & CF_SLOT_DONE) && (word & CF_SLOT_WATCHED)) {
                cf_procpool_settle(pool, numbers[i]);
            }
        }
    }
    if (corrupt) {
        cf_store_relaxed(&pool->scribbled, 1);
    }
    if (cf_load_relaxed(&pool->scribbled)
        && atomic_exchange_explicit(&pool->scribbled, 0, memory_order_relaxed))
    {
        scribbled_over(pool);
    }
}

/* The descriptors of `fds` that are ready, as a list (new). */
static PyObject *
list_ready(const int *fds, const bool *ready, Py_ssize_t count)
{
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        if (ready[i]) {
            PyObject *fd = PyLong_FromLong(fds[i]);
            if (fd == NULL || PyList_Append(list, fd) < 0) {
                Py_CLEAR(list);
            }
            Py_XDECREF(fd);
        }
    }
    return list;
}

/* A worker has begun its last task and nobody was told. */
static bool
has_lasts(cf_procpool *pool)
{
    for (uint32_t i = 0; i < cf_load_relaxed(&pool->enlisted); i++) {
        if (cf_roster_is_last(pool, i)) {
            return true;
        }
    }
    return false;
}

PyObject *
cf_procpool_poll(cf_procpool *pool, PyObject *fds, cf_deadline until)
{
    Py_ssize_t count = PyList_GET_SIZE(fds);
    int *all = PyMem_Malloc((size_t)(count + 1) * sizeof *all);
    bool *ready = PyMem_Calloc((size_t)count + 1, sizeof *ready);
    PyObject *result = NULL;
    if (all == NULL || ready == NULL) {
        PyErr_NoMemory();
        goto finally;
    }
    all[0] = pool->bell;
    for (Py_ssize_t i = 0; i < count; i++) {
        all[i + 1] = (int)PyLong_AsLong(PyList_GET_ITEM(fds, i));
        if (all[i + 1] == -1 && PyErr_Occurred()) {
            goto finally;
        }
    }
    for (;;) {
        cf_procpool_settle_announced(pool);
        if (atomic_exchange_explicit(&pool->nudged, 0, memory_order_acquire)
            || has_lasts(pool))
        {
            result = PyList_New(0);
            break;
        }
        cf_status status = CF_OK;
        uint64_t pushed = cf_load_relaxed(&pool->board.shared->tail);
        cf_deadline end = cf_load_relaxed(&pool->quiet) ? CF_FOREVER : cf_now() + QUIET_AFTER_NS;
        PyThreadState *ts = cf_gil_release();
        if (cf_board_manager_sleeps(&pool->board)) {
            status = cf_poll(all, ready, (int)count + 1, end < until ? end : until);
            cf_board_manager_wakes(&pool->board);
        }
        if (ready[0]) {
            cf_bell_silence(pool->bell);
        }
        cf_gil_take(ts);
        if (status == CF_TIMEDOUT && end < until) {
            status = CF_OK;
            if (cf_load_relaxed(&pool->board.shared->tail) == pushed) {
                cf_store_relaxed(&pool->quiet, 1);
                cf_procpool_trim(pool, KEEP_BYTES);
                cf_roster_trim(pool);
            }
        }
        if (status == CF_SYSTEM) {
            PyErr_SetFromErrno(PyExc_OSError);
            break;
        }
        if (status == CF_INTR && PyErr_CheckSignals() < 0) {
            break;
        }
        bool some = false;
        for (Py_ssize_t i = 1; i <= count; i++) {
            some = some || ready[i];
        }
        if (some || status == CF_TIMEDOUT) {
            cf_procpool_settle_announced(pool);
            result = list_ready(all + 1, ready + 1, count);
            break;
        }
        ready[0] = false;
    }
finally:
    PyMem_Free(all);
    PyMem_Free(ready);
    return result;
}
