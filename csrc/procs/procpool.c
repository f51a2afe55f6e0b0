#include "procs/procpool.h"

#include "plat/peer.h"
#include "plat/reserve.h"
#include "plat/wait.h"
#include "py/block.h"

/* Slots and arenas are as large as they can ever be: memory comes with use. */
#define SLOTS (1u << 24)
#define ARENA_BYTES (1ull << 36)
#define MIN_RECORDS 16u
/* But all together they leave address space (128 TiB) to the program, to other pools, and
   to a forked worker, which maps them once more. */
#define ALL_ARENAS_BYTES (1ull << 43)

/* ---- life ---- */

static void
procpool_free(cf_procpool *pool)
{
    cf_state *st = pool->st;
    cf_spinlock_lock(&st->pools_lock);
    if (pool->prev != NULL) {
        pool->prev->next = pool->next;
    }
    else if (st->procpools == pool) {
        st->procpools = pool->next;
    }
    if (pool->next != NULL) {
        pool->next->prev = pool->prev;
    }
    cf_spinlock_unlock(&st->pools_lock);
    if (pool->defs != NULL) {
        cf_defs_free(pool->defs);
    }
    if (pool->codec != NULL) {
        cf_codec_free(pool->codec);
    }
    if (pool->arena != NULL) {
        cf_arena_close(pool->arena);
    }
    if (pool->seg != NULL) {
        cf_unreserve(pool->tasks, pool->seg->geometry.slots * sizeof *pool->tasks);
        cf_unreserve(pool->free_slots, pool->seg->geometry.slots * sizeof *pool->free_slots);
        cf_segment_decref(pool->seg);
    }
    if (pool->bell >= 0) {
        cf_peer_close(pool->bell);
    }
    PyMem_RawFree(pool->records);
    Py_XDECREF(pool->broken_text);
    Py_DECREF(pool->module);
    PyMem_RawFree(pool);
}

cf_procpool *
cf_procpool_new(PyObject *module, uint32_t max_workers, uint64_t threshold)
{
    cf_procpool *pool = PyMem_RawCalloc(1, sizeof *pool);
    if (pool == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    cf_state *st = cf_state_of_module(module);
    pool->remote.ops = &cf_procpool_ops;
    pool->st = st;
    pool->owners = 1;
    pool->opened = cf_now_coarse();
    cf_store_relaxed(&pool->quiet, 1);
    pool->module = Py_NewRef(module);
    /* More records than workers: one that is gone may have left results behind, which
       others read, and its successor may start before it has ended. */
    uint32_t records = max_workers > CF_MAX_WORKERS / 4 ? CF_MAX_WORKERS : 4 * max_workers;
    cf_geometry geometry = {SLOTS, records < MIN_RECORDS ? MIN_RECORDS : records, 0,
                            ARENA_BYTES};
    geometry.arenas = 1 + geometry.workers;
    while (geometry.arena_bytes * geometry.arenas > ALL_ARENAS_BYTES) {
        geometry.arena_bytes /= 2;
    }
    pool->bell = cf_bell_open();
    if (pool->bell < 0 || cf_segment_create(&geometry, &pool->seg) != CF_OK) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto error;
    }
    cf_board_init(&pool->board, pool->seg);
    pool->tasks = cf_reserve(pool->seg->geometry.slots * sizeof *pool->tasks);
    pool->free_slots = cf_reserve(pool->seg->geometry.slots * sizeof *pool->free_slots);
    pool->records = PyMem_RawCalloc(pool->seg->geometry.workers, 1);
    if (pool->tasks == NULL || pool->free_slots == NULL || pool->records == NULL
        || cf_arena_open(pool->seg, 0, &pool->arena) != CF_OK)
    {
        PyErr_NoMemory();
        goto error;
    }
    pool->codec = cf_codec_new(st, pool->seg, pool->arena, 0, threshold);
    pool->defs = pool->codec == NULL ? NULL : cf_defs_new(st, pool->seg, pool->codec);
    if (pool->defs == NULL) {
        goto error;
    }
    cf_spinlock_lock(&st->pools_lock);
    pool->next = st->procpools;
    if (st->procpools != NULL) {
        st->procpools->prev = pool;
    }
    st->procpools = pool;
    cf_spinlock_unlock(&st->pools_lock);
    return pool;
error:
    procpool_free(pool);
    return NULL;
}

void
cf_procpool_own(cf_procpool *pool)
{
    cf_procpool_lock(pool);
    pool->owners++;
    cf_procpool_unlock(pool);
}

void
cf_procpool_disown(cf_procpool *pool)
{
    cf_procpool_lock(pool);
    bool last = --pool->owners == 0 && pool->live == 0;
    cf_procpool_unlock(pool);
    if (last) {
        procpool_free(pool);
    }
}

/* ---- slots ---- */

uint32_t
cf_procpool_take_slot(cf_procpool *pool)
{
    uint32_t slot = CF_NO_SLOT;
    cf_procpool_lock(pool);
    if (pool->free_count > 0) {
        slot = pool->free_slots[--pool->free_count];
    }
    else if (pool->used < pool->seg->geometry.slots) {
        slot = pool->used++;
    }
    if (slot != CF_NO_SLOT) {
        pool->live++;
        cf_task *task = &pool->tasks[slot];
        task->watcher = NULL;
        task->definition = NULL;
        task->extra = NULL;
        task->block = task->buffers = CF_NO_BLOCK;
        cf_store_relaxed(&task->flags, 0);
    }
    cf_procpool_unlock(pool);
    return slot;
}

void
cf_procpool_free_slot(cf_procpool *pool, uint32_t slot)
{
    cf_task *task = &pool->tasks[slot];
    cf_slot *shared = cf_board_slot(&pool->board, slot);
    if (!cf_task_is(task, CF_TASK_FETCHED | CF_TASK_ENDED)
        && (cf_load_acquire(&shared->word) & CF_SLOT_DONE))
    {
        cf_slot copy = *shared;
        cf_discard_result(pool->codec, &copy);
    }
    cf_place place = {0, 0, CF_WHERE_INLINE, 0};
    if (task->block != CF_NO_BLOCK) {
        place = (cf_place){0, 0, 1, task->block};
    }
    if (task->extra != NULL) {
        Py_XDECREF(task->extra->error);
        if (task->extra->spilled.where == CF_WHERE_SPILL) {
            place = task->extra->spilled;
        }
        PyMem_RawFree(task->extra);
    }
    if (place.where != CF_WHERE_INLINE || task->buffers != CF_NO_BLOCK) {
        cf_message_release(pool->codec, &place, task->buffers);
    }
    if (task->definition != NULL) {
        cf_defs_release(pool->defs, task->definition);
    }
    cf_procpool_lock(pool);
    cf_board_free(&pool->board, slot);
    pool->free_slots[pool->free_count++] = slot;
    bool last = --pool->live == 0 && pool->owners == 0;
    cf_procpool_unlock(pool);
    if (last) {
        procpool_free(pool);
    }
}

static PyObject *procpool_fetch(cf_state *st, cf_remote *remote, cf_remote_slot slot,
                                bool *failed);

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
    PyObject *exc = procpool_fetch(st, &pool->remote, (cf_remote_slot){slot, 0}, &failed);
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
cf_procpool_untake_slot(cf_procpool *pool, uint32_t slot)
{
    PyMem_RawFree(pool->tasks[slot].extra);
    cf_procpool_lock(pool);
    pool->free_slots[pool->free_count++] = slot;
    pool->live--;
    cf_procpool_unlock(pool);
}

static void
trim_arena(cf_arena *arena, void *arg)
{
    uint64_t *bytes = arg;              /* in: to keep; out: given back */
    *bytes = cf_arena_trim(arena, *bytes);
}

uint64_t
cf_procpool_trim(cf_procpool *pool, uint64_t keep)
{
    cf_segment *seg = pool->seg;
    uint64_t freed = 0, size;
    cf_procpool_lock(pool);
    if (pool->live == 0 && cf_board_advance(&pool->board) == 0) {
        /* Nothing is anywhere: begin again with slots that were never used. */
        size = (uint64_t)pool->used * sizeof(cf_slot);
        uint64_t part = keep < size ? keep : size;
        if (size > part && cf_segment_discard(seg, seg->slots + part, size - part) == CF_OK) {
            freed += size - part;
        }
        cf_reserve_discard(pool->tasks, pool->used * sizeof *pool->tasks);
        cf_reserve_discard(pool->free_slots, pool->used * sizeof *pool->free_slots);
        cf_segment_discard(seg, seg->order, (uint64_t)seg->geometry.slots * sizeof(uint64_t));
        pool->used = pool->free_count = 0;
    }
    cf_procpool_unlock(pool);
    size = keep;
    cf_codec_with_arena(pool->codec, trim_arena, &size);
    return freed + size;
}

PyObject *
cf_procpool_failed_future(cf_state *st)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return NULL;
    }
    PyObject *error = PyErr_GetRaisedException();
    PyObject *f = PyObject_CallNoArgs(st->future_type);
    if (f == NULL || cf_future_finish(st, (FutureObject *)f, Py_NewRef(error), true) < 0) {
        Py_CLEAR(f);
    }
    Py_DECREF(error);
    return f;
}

static cf_task_extra *
extra_of(cf_task *task)
{
    if (task->extra == NULL) {
        task->extra = PyMem_RawCalloc(1, sizeof *task->extra);
    }
    return task->extra;
}

bool
cf_procpool_remember_spill(cf_procpool *pool, uint32_t slot, const cf_place *place)
{
    cf_task_extra *extra = extra_of(&pool->tasks[slot]);
    if (extra != NULL) {
        extra->spilled = *place;
    }
    return extra != NULL;
}

bool
cf_procpool_fail(cf_procpool *pool, uint32_t slot, PyObject *error)
{
    cf_task *task = &pool->tasks[slot];
    uint32_t word = cf_load_acquire(cf_procpool_word(pool, slot));
    if (!(word & (CF_SLOT_QUEUED | CF_SLOT_TAKEN))) {
        return false;
    }
    cf_task_extra *extra = extra_of(task);
    if (extra != NULL && extra->error == NULL) {
        extra->error = Py_NewRef(error);        /* before the word: see procpool_look() */
    }
    bool watched = task->watcher != NULL || cf_task_is(task, CF_TASK_LET_GO);
    if (cf_board_cancel(&pool->board, slot)) {
        cf_procpool_count(&pool->failed_here);
        if (watched) {          /* such a slot is never announced */
            cf_procpool_settle(pool, slot);
        }
        return true;
    }
    word = cf_load_acquire(cf_procpool_word(pool, slot));
    cf_task_flag(task, CF_TASK_ENDED);
    cf_store_relaxed(&cf_board_slot(&pool->board, slot)->finished, cf_now_stamp());
    cf_procpool_count(&pool->failed_here);
    if ((word & CF_SLOT_TAKEN) && cf_board_fail(&pool->board, slot, CF_SLOT_WORKER(word))) {
        return true;
    }
    atomic_fetch_sub_explicit(&pool->failed_here, 1, memory_order_relaxed);
    atomic_fetch_and_explicit(&task->flags, ~(uint32_t)CF_TASK_ENDED,
                              memory_order_relaxed);    /* its worker was faster */
    return false;
}

void
cf_procpool_fail_all(cf_procpool *pool, PyObject *error)
{
    for (uint32_t slot = 0; slot < pool->used; slot++) {
        cf_procpool_fail(pool, slot, error);
    }
    cf_procpool_settle_announced(pool);
}

void
cf_procpool_cancel_queued(cf_procpool *pool, uint32_t spared)
{
    for (uint32_t slot = 0; slot < pool->used; slot++) {
        cf_task *task = &pool->tasks[slot];
        if (spared > 0
            && (cf_load_relaxed(cf_procpool_word(pool, slot)) & CF_SLOT_QUEUED))
        {
            spared--;
            continue;
        }
        if (!cf_board_cancel(&pool->board, slot)) {
            continue;
        }
        cf_procpool_count(&pool->cancelled);
        if (task->watcher != NULL || cf_task_is(task, CF_TASK_LET_GO)) {
            cf_procpool_settle(pool, slot);
        }
    }
}

void
cf_procpool_close(cf_procpool *pool, uint32_t bit)
{
    uint32_t was = atomic_fetch_or_explicit(&pool->state, bit, memory_order_seq_cst);
    if (!((was | bit) & CF_PROCS_FORKED)) {     /* in a forked child the board is the parent's */
        cf_board_close(&pool->board);
    }
}

void
cf_procpool_raise_closed(cf_procpool *pool, uint32_t state)
{
    cf_state *st = pool->st;
    if (state & CF_PROCS_FORKED) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot schedule new futures after fork: the processes of this "
                        "pool belong to the parent process; make a new executor");
    }
    else if (state & CF_PROCS_BROKEN) {
        PyErr_SetObject(st->broken_process_pool, pool->broken_text);
    }
    else if (state & CF_PROCS_SHUTDOWN) {
        PyErr_SetString(PyExc_RuntimeError, "cannot schedule new futures after shutdown");
    }
    else {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot schedule new futures after interpreter shutdown");
    }
}

void
cf_procs_after_fork(cf_state *st)
{
    st->pools_lock = (cf_spinlock){0};
    for (cf_procpool *pool = st->procpools; pool != NULL; pool = pool->next) {
        pool->lock = (cf_spinlock){0};
        cf_procpool_close(pool, CF_PROCS_FORKED);
        cf_segment_disown(pool->seg);
    }
}

/* ---- what futures ask for ---- */

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
    return !(word & (CF_SLOT_QUEUED | CF_SLOT_TAKEN)) || word >> CF_SLOT_TURN_SHIFT != turn;
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

/* Every worker has a task and more are queued: the processors have better to do than to
   watch a thread spin. */
static bool
slot_crowded(void *arg)
{
    cf_procpool *pool = ((slot_wait *)arg)->pool;
    return cf_load_relaxed(&pool->running) >= (uint32_t)pool->st->cpus
        && cf_board_length(&pool->board) > 0
        && cf_board_idle(&pool->board, cf_load_relaxed(&pool->enlisted)) == 0;
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
    cf_blocker b = {word, CF_SLOT_DONE | CF_SLOT_CANCELLED, slot_crowded, slot_sleep, &w,
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
    cf_slot copy = *cf_board_slot(&pool->board, slot.number);
    cf_task_flag(task, CF_TASK_FETCHED);
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
    bool taken_back = (word & CF_SLOT_CANCELLED) != 0;
    if (taken_back) {
        task->watcher = NULL;      /* such a slot is never announced */
    }
    cf_procpool_unlock(pool);
    if (watcher == NULL && !(word & (CF_SLOT_DONE | CF_SLOT_CANCELLED))) {
        word = cf_board_watch(&pool->board, slot.number);
    }
    if (watcher == NULL ? (word & (CF_SLOT_DONE | CF_SLOT_CANCELLED)) != 0 : taken_back) {
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
