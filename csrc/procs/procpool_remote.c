/* What futures ask of the pool that has their tasks: see cf_remote_ops. */
#include "procs/procpool.h"

#include "plat/wait.h"
#include "py/block.h"

static cf_procpool *
pool_of(cf_remote *remote)
{
    return cf_container_of(remote, cf_procpool, remote);
}

static bool
is_forked(cf_procpool *pool)
{
    return (cf_load_relaxed(&pool->state) & CF_PROCS_FORKED) != 0;
}

static uint32_t
procpool_look(cf_remote *remote, cf_remote_slot slot)
{
    cf_procpool *pool = pool_of(remote);
    if (is_forked(pool)) {
        return CF_STATE_FINISHED | CF_FAILED;
    }
    /* acquire: the result that the worker wrote */
    uint32_t word = cf_load_acquire(cf_procpool_word(pool, slot.number));
    if (cf_procpool_nonsense(word, slot.turn)) {
        cf_procpool_suspect(pool);
        return CF_STATE_FINISHED | CF_FAILED;
    }
    if (word & CF_SLOT_DONE) {
        return CF_STATE_FINISHED | ((word & CF_SLOT_FAILED) ? CF_FAILED : 0);
    }
    if (word & CF_SLOT_CANCELLED) {
        cf_task_extra *extra = pool->tasks[slot.number].extra;
        return extra != NULL && extra->error != NULL ? CF_STATE_FINISHED | CF_FAILED
                                                     : CF_STATE_CANCELLED_AND_NOTIFIED;
    }
    return (word & CF_SLOT_TAKEN) ? CF_RUNNING : 0;
}

static bool
procpool_cancel(cf_remote *remote, cf_remote_slot slot)
{
    cf_procpool *pool = pool_of(remote);
    if (is_forked(pool)) {
        return false;
    }
    if (cf_board_cancel(&pool->board, slot.number)) {
        cf_procpool_count(&pool->cancelled);
        return true;
    }
    return procpool_look(remote, slot) == CF_STATE_CANCELLED_AND_NOTIFIED;
}

static bool
procpool_trace(cf_remote *remote, cf_remote_slot slot, cf_trace *trace)
{
    cf_procpool *pool = pool_of(remote);
    cf_slot *shared = cf_board_slot(&pool->board, slot.number);
    /* acquire: when it began.  Of a slot that is free again there is nothing to tell. */
    uint32_t pid = is_forked(pool) ? 0 : cf_load_acquire(&shared->pid);
    if (pid == 0) {
        return false;
    }
    *trace = (cf_trace){cf_load_relaxed(&shared->started), cf_load_relaxed(&shared->finished),
                        CF_IN_PROCESS, pid};
    return true;
}

typedef struct {
    cf_procpool *pool;
    cf_word *word;
    uint32_t turn;
} slot_wait;

static bool
over(uint32_t word, uint32_t turn)
{
    return !(word & (CF_SLOT_QUEUED | CF_SLOT_TAKEN)) || cf_procpool_nonsense(word, turn);
}

static cf_status
slot_sleep(void *arg, cf_deadline until)
{
    slot_wait *w = arg;
    for (;;) {
        uint32_t now = cf_load_acquire(w->word);
        if (over(now, w->turn)) {
            return CF_OK;
        }
        /* The whole word is compared: the bit is never set on another task's turn. */
        if (!(now & CF_SLOT_SLEEPERS)
            && !atomic_compare_exchange_strong_explicit(w->word, &now,
                                                        now | CF_SLOT_SLEEPERS,
                                                        memory_order_relaxed,
                                                        memory_order_relaxed))
        {
            continue;
        }
        cf_status st = cf_wait32(w->word, now | CF_SLOT_SLEEPERS, until, CF_SHARED);
        if (st == CF_TIMEDOUT || st == CF_INTR || st == CF_SYSTEM) {
            return over(cf_load_acquire(w->word), w->turn) ? CF_OK : st;
        }
    }
}

static cf_beginning
begin_on_slot(void *arg, uint32_t *waiting)
{
    cf_procpool *pool = ((slot_wait *)arg)->pool;
    uint32_t enlisted = cf_load_relaxed(&pool->enlisted);
    /* Processes that are only starting take milliseconds, and a thread that yields to one
       of them has no processor for as long as it computes. */
    if (!cf_board_begun(&pool->board, enlisted)) {
        return CF_SLEEP_AT_ONCE;
    }
    /* Every worker has a task and more are queued: the processors have better to do than to
       watch a thread spin. */
    *waiting = (uint32_t)cf_board_length(&pool->board);
    return cf_load_relaxed(&pool->running) >= (uint32_t)pool->st->cpus
            && *waiting > 0 && cf_board_idle(&pool->board, enlisted) == 0
        ? CF_NAP_FIRST : CF_SPIN_FIRST;
}

/* Callers of result() and wait() on process pools, all of the process. */
static cf_spin waiters_spin = CF_SPIN_INIT;

static int
procpool_block(cf_state *Py_UNUSED(st), cf_remote *remote, cf_remote_slot slot,
               cf_deadline until)
{
    cf_procpool *pool = pool_of(remote);
    if (is_forked(pool)) {
        return 1;
    }
    cf_word *word = cf_procpool_word(pool, slot.number);
    slot_wait w = {pool, word, slot.turn};
    cf_blocker b = {word, CF_SLOT_DONE | CF_SLOT_CANCELLED, begin_on_slot, slot_sleep, &w,
                    &waiters_spin};
    int r = cf_block_on(&b, until);
    return r != 0 ? r : over(cf_load_acquire(word), slot.turn);
}

static bool
procpool_watch(cf_remote *remote, cf_remote_slot slot, FutureObject *f)
{
    cf_procpool *pool = pool_of(remote);
    if (is_forked(pool)) {
        return false;
    }
    cf_task *task = &pool->tasks[slot.number];
    if (task->watcher != NULL) {
        return true;
    }
    /* First the watcher: once the slot is watched the manager may be here at once. */
    cf_procpool_lock(pool);
    task->watcher = (FutureObject *)Py_NewRef(f);
    cf_procpool_unlock(pool);
    if (!(cf_board_watch(&pool->board, slot.number) & (CF_SLOT_DONE | CF_SLOT_CANCELLED))) {
        return true;
    }
    /* Nobody will announce it any more. */
    cf_procpool_lock(pool);
    bool mine = task->watcher == f;
    task->watcher = mine ? NULL : task->watcher;
    cf_procpool_unlock(pool);
    if (mine) {
        Py_DECREF(f);
    }
    return false;
}

static PyObject *
lost_to_fork(cf_procpool *pool)
{
    PyObject *error = PyObject_CallFunction(
        pool->st->broken_process_pool, "s",
        "the processes of this pool are children of the process that made it: make a new "
        "executor after a fork");
    return error != NULL ? error : PyErr_GetRaisedException();
}

void
cf_raise_not_decoded(cf_state *st, const char *what)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *told = PyObject_CallFunction(st->transfer_failed, "sO", what, exc);
    if (told == NULL) {
        PyErr_Clear();      /* no memory: the reason itself, then */
        PyErr_SetRaisedException(exc);
        return;
    }
    Py_DECREF(exc);
    PyErr_SetRaisedException(told);
}

static PyObject *
procpool_fetch(cf_state *Py_UNUSED(st), cf_remote *remote, cf_remote_slot slot, bool *failed)
{
    cf_procpool *pool = pool_of(remote);
    *failed = true;
    if (is_forked(pool)) {
        return lost_to_fork(pool);
    }
    cf_task *task = &pool->tasks[slot.number];
    if (task->extra != NULL && task->extra->error != NULL) {
        return Py_NewRef(task->extra->error);
    }
    /* A copy: what the worker could still scribble over is read once. */
    cf_slot copy = cf_slot_copy(cf_board_slot(&pool->board, slot.number));
    cf_task_flag(task, CF_TASK_FETCHED);
    if ((cf_load_relaxed(&copy.word) & CF_SLOT_STATE) != CF_SLOT_DONE) {
        return cf_procpool_scribble_error(pool);
    }
    if (copy.place.where != CF_WHERE_INLINE) {
        cf_procpool_stir(pool);         /* the worker gets a block back, and may sleep */
    }
    bool raised = (cf_load_relaxed(&copy.word) & CF_SLOT_FAILED) != 0;
    PyObject *result = cf_decode_result(pool->codec, &copy);
    if (result == NULL) {
        if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
            /* Ctrl-C, most likely.  What there was of the result is gone, but exception()
               must not hand the interrupt out as if it was the task's. */
            PyErr_SetInterrupt();
        }
        cf_raise_not_decoded(pool->st, "The result of the task");
        return PyErr_GetRaisedException();
    }
    *failed = raised;
    return result;
}

static void
procpool_let_go(cf_remote *remote, cf_remote_slot slot, bool read)
{
    cf_procpool *pool = pool_of(remote);
    if (is_forked(pool)) {
        return;
    }
    cf_task *task = &pool->tasks[slot.number];
    bool report = !read && cf_load_relaxed(&pool->st->warn_unread)
        && !cf_task_is(task, CF_TASK_FETCHED);
    cf_procpool_lock(pool);
    cf_task_flag(task, CF_TASK_LET_GO | (report ? CF_TASK_REPORT : 0));
    FutureObject *watcher = task->watcher;
    uint32_t word = cf_load_acquire(cf_procpool_word(pool, slot.number));
    bool taken_back = (word & CF_SLOT_CANCELLED) != 0 || cf_procpool_nonsense(word, slot.turn);
    if (taken_back) {
        task->watcher = NULL;      /* such a slot is never announced */
    }
    cf_procpool_unlock(pool);
    bool ended = taken_back || (word & CF_SLOT_DONE) != 0;
    if (watcher == NULL && !ended) {
        word = cf_board_watch(&pool->board, slot.number);
        ended = (word & (CF_SLOT_DONE | CF_SLOT_CANCELLED)) != 0;
    }
    if (watcher == NULL ? ended : taken_back) {
        cf_procpool_free_slot(pool, slot.number);
    }
    /* Else the manager frees it when it is announced. */
    if (taken_back) {
        Py_XDECREF(watcher);
    }
}

const cf_remote_ops cf_procpool_ops = {
    .look = procpool_look,
    .cancel = procpool_cancel,
    .block = procpool_block,
    .watch = procpool_watch,
    .fetch = procpool_fetch,
    .trace = procpool_trace,
    .let_go = procpool_let_go,
};
