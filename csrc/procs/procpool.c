#include "procs/procpool.h"

#include "plat/peer.h"
#include "plat/reserve.h"

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
    CF_GONE(process_pool);
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
    CF_BORN(process_pool);
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
        CF_BORN(task);
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
        cf_slot copy = cf_slot_copy(shared);
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
        CF_GONE(task_extra);
        PyMem_RawFree(task->extra);
    }
    if (place.where != CF_WHERE_INLINE || task->buffers != CF_NO_BLOCK) {
        cf_message_release(pool->codec, &place, task->buffers);
    }
    if (task->definition != NULL) {
        cf_defs_release(pool->defs, task->definition);
    }
    cf_procpool_lock(pool);
    cf_store_relaxed(&task->flags, 0);
    cf_board_free(&pool->board, slot);
    pool->free_slots[pool->free_count++] = slot;
    CF_GONE(task);
    bool last = --pool->live == 0 && pool->owners == 0;
    cf_procpool_unlock(pool);
    if (last) {
        procpool_free(pool);
    }
}

void
cf_procpool_untake_slot(cf_procpool *pool, uint32_t slot)
{
    if (pool->tasks[slot].extra != NULL) {
        CF_GONE(task_extra);
        PyMem_RawFree(pool->tasks[slot].extra);
    }
    cf_procpool_lock(pool);
    pool->free_slots[pool->free_count++] = slot;
    pool->live--;
    CF_GONE(task);
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
        if (task->extra != NULL) {
            CF_BORN(task_extra);
        }
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

/* ---- nonsense in shared memory ---- */

void
cf_procpool_suspect(cf_procpool *pool)
{
    cf_store_relaxed(&pool->scribbled, 1);
    /* Release, with the manager's exchange: what it is woken for. */
    cf_store_release(&pool->nudged, 1);
    cf_bell_ring(pool->bell);
}

PyObject *
cf_procpool_scribble_error(cf_procpool *pool)
{
    PyObject *error = PyObject_CallFunction(
        pool->st->broken_process_pool, "s",
        "a worker process wrote over the memory of the process pool");
    return error != NULL ? error : PyErr_GetRaisedException();
}

bool
cf_procpool_astray(cf_procpool *pool, uint32_t slot)
{
    cf_word *flags = &pool->tasks[slot].flags;
    uint32_t before = cf_load_acquire(flags), turn = CF_SLOT_TURN(before);
    if (!(before & CF_TASK_PUSHED)
        || !cf_procpool_nonsense(cf_load_acquire(cf_procpool_word(pool, slot)), turn))
    {
        return false;
    }
    /* Or was it freed just now?  That changes the flags before the word. */
    uint32_t now = cf_load_relaxed(flags);
    return (now & CF_TASK_PUSHED) && CF_SLOT_TURN(now) == turn;
}

void
cf_procpool_end_by_force(cf_procpool *pool, uint32_t slot, PyObject *error)
{
    cf_procpool_fail(pool, slot, error);
    cf_task *task = &pool->tasks[slot];
    cf_word *word = cf_procpool_word(pool, slot);
    if (cf_procpool_astray(pool, slot)) {
        cf_task_extra *extra = extra_of(task);
        if (extra != NULL && extra->error == NULL) {
            extra->error = Py_NewRef(error);
        }
        uint32_t turn = CF_SLOT_TURN(cf_load_relaxed(&task->flags));
        cf_store_release(word, turn << CF_SLOT_TURN_SHIFT | CF_SLOT_CANCELLED);
    }
    if (cf_task_is(task, CF_TASK_PUSHED)) {
        cf_board_wake(&pool->board, slot);
        cf_procpool_settle(pool, slot);
    }
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
