/* _core.ProcessPool: the base of cfutures.ProcessPoolExecutor, which submits; and
   _core.ProcessEngine, by which its manager works on after the executor is gone.
   Processes are started, watched and buried by Python (cfutures.process); tasks and
   results are C's. */
#include "procs/procpool.h"

#include "plat/peer.h"
#include "procs/code.h"
#include "py/block.h"

/* Of both types. */
typedef struct {
    ExecutorObject base;
    cf_procpool *pool;          /* owned; NULL until _open() */
} ProcessPoolObject;

static cf_procpool *
pool_of(PyObject *self)
{
    cf_procpool *pool = ((ProcessPoolObject *)self)->pool;
    if (pool == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "ProcessPoolExecutor.__init__() was not called");
    }
    return pool;
}

/* ---- submit ---- */

/* More waits than there are idle workers, and more may be started.  The length is read
   first: see cf_board_length(). */
static bool
wants_worker(cf_procpool *pool)
{
    if (cf_load_relaxed(&pool->running) >= cf_load_relaxed(&pool->limit)) {
        return false;
    }
    uint64_t waiting = cf_board_length(&pool->board);
    return waiting > cf_board_idle(&pool->board, cf_load_relaxed(&pool->enlisted));
}

/* Post the message and hang the task into the order.  0, or -1 with MemoryError; then the
   slot is still the caller's. */
static int
post(cf_procpool *pool, uint32_t slot, const cf_message *m, cf_definition *definition)
{
    cf_task *task = &pool->tasks[slot];
    task->definition = definition;
    task->buffers = m->buffers;
    if (m->place.where == CF_WHERE_SPILL) {
        if (!cf_procpool_remember_spill(pool, slot, &m->place)) {
            PyErr_NoMemory();
            return -1;
        }
    }
    else if (m->place.where != CF_WHERE_INLINE) {
        task->block = m->place.block;
    }
    cf_slot *shared = cf_board_slot(&pool->board, slot);
    cf_message_post(m, shared);
    shared->definition = definition == NULL ? 0 : definition->number;
    shared->definition_at = definition == NULL ? 0 : definition->at;
    cf_store_relaxed(&shared->pid, 0);
    cf_procpool_lock(pool);
    cf_status status = cf_board_push(&pool->board, slot);
    if (status == CF_AGAIN) {
        cf_board_advance(&pool->board);
        status = cf_board_push(&pool->board, slot);
    }
    if (status == CF_OK) {
        /* No read-modify-write: under the lock. */
        cf_store_relaxed(&pool->submitted, cf_load_relaxed(&pool->submitted) + 1);
    }
    cf_procpool_unlock(pool);
    if (status != CF_OK) {
        PyErr_SetString(PyExc_MemoryError, status == CF_AGAIN
                        ? "the queue of this process pool is full"
                        : "a worker wrote over the memory of this process pool");
        return -1;
    }
    return 0;
}

/* A task that cannot be pickled fails, with the exception that is set; the standard library
   finds out later, and has started a worker for it: so many are there for the next ones. */
static PyObject *
not_encoded(PyObject *self, cf_procpool *pool, PyObject *fn)
{
    PyObject *f = cf_procpool_failed_future(pool->st);
    if (f != NULL) {
        cf_future_set_name((FutureObject *)f, cf_call_name(fn));
        cf_procpool_lock(pool);
        cf_store_relaxed(&pool->submitted, cf_load_relaxed(&pool->submitted) + 1);
        cf_procpool_unlock(pool);
        cf_procpool_count(&pool->failed_here);
    }
    if (f != NULL && cf_load_relaxed(&pool->running) < cf_load_relaxed(&pool->limit)) {
        PyObject *r = PyObject_CallMethodNoArgs(self, pool->st->str_grow);
        if (r == NULL) {
            Py_CLEAR(f);
        }
        Py_XDECREF(r);
    }
    return f;
}

static PyObject *
submit(ExecutorObject *base, PyObject *fn, PyObject *const *args, size_t nargs,
       PyObject *kwnames)
{
    PyObject *self = (PyObject *)base;
    cf_procpool *pool = pool_of(self);
    if (pool == NULL) {
        return NULL;
    }
    cf_state *st = pool->st;
    uint32_t state = cf_load_seq(&pool->state);
    if (state != 0 || cf_load_relaxed(&st->finalizing)) {
        cf_procpool_raise_closed(pool, state);
        return NULL;
    }
    cf_definition *definition;
    cf_message m;
    if (cf_defs_hold(pool->defs, fn, &definition) < 0) {
        return not_encoded(self, pool, fn);
    }
    if (cf_encode_call(pool->codec, definition == NULL ? fn : NULL, args, nargs, kwnames,
                       &m) < 0)
    {
        if (definition != NULL) {
            cf_defs_release(pool->defs, definition);
        }
        return not_encoded(self, pool, fn);
    }
    uint32_t slot = cf_procpool_take_slot(pool);
    if (slot == CF_NO_SLOT) {
        PyErr_SetString(PyExc_MemoryError, "too many tasks in this process pool");
        goto no_slot;
    }
    FutureObject *f = cf_remote_future(st, &pool->remote, (cf_remote_slot){slot, 0},
                                       cf_call_name(fn));
    if (f == NULL || post(pool, slot, &m, definition) < 0) {
        goto not_posted;
    }
    f->u.remote.slot.turn =
        CF_SLOT_TURN(cf_load_relaxed(cf_procpool_word(pool, slot)));
    cf_board_notify(&pool->board);
    cf_procpool_stir(pool);
    if (wants_worker(pool)) {
        PyObject *r = PyObject_CallMethodNoArgs(self, st->str_grow);
        if (r == NULL) {
            /* No process, or Ctrl-C: the task is taken back, unless it has begun. */
            PyObject *exc = PyErr_GetRaisedException();
            cf_future_commit_cancel(f, false);
            Py_DECREF(f);
            PyErr_SetRaisedException(exc);
            return NULL;
        }
        Py_DECREF(r);
    }
    /* Closed or broken since? */
    state = cf_load_seq(&pool->state);
    if (state != 0 && cf_future_commit_cancel(f, false)) {
        Py_DECREF(f);
        cf_procpool_raise_closed(pool, state);
        return NULL;
    }
    return (PyObject *)f;

not_posted:
    if (f != NULL) {
        cf_future_set_has(f, CF_HAS_NAME);      /* it never had a task */
        cf_store_relaxed(&f->cell, 0);
        Py_DECREF(f);
    }
    cf_procpool_untake_slot(pool, slot);
no_slot:
    cf_message_release(pool->codec, &m.place, m.buffers);
    if (definition != NULL) {
        cf_defs_release(pool->defs, definition);
    }
    return NULL;
}

static PyObject *
pool_py_submit(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs < 1) {
        PyErr_SetString(PyExc_TypeError,
                        "submit() missing 1 required positional argument: 'fn'");
        return NULL;
    }
    return submit((ExecutorObject *)self, args[0], args + 1, (size_t)(nargs - 1), kwnames);
}

/* ---- what cfutures.process asks for ---- */

static PyObject *
pool_py_open(PyObject *self, PyObject *args)
{
    unsigned int max_workers;
    unsigned long long threshold;
    if (!PyArg_ParseTuple(args, "IK:_open", &max_workers, &threshold)) {
        return NULL;
    }
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(self), &cf_module_def);
    cf_procpool *pool = cf_procpool_new(module, max_workers, threshold);
    if (pool == NULL) {
        return NULL;
    }
    cf_store_relaxed(&pool->limit, max_workers);
    cf_procpool *old = ((ProcessPoolObject *)self)->pool;
    ((ProcessPoolObject *)self)->pool = pool;
    if (old != NULL) {          /* __init__ called again */
        cf_procpool_close(old, CF_PROCS_SHUTDOWN);
        cf_procpool_disown(old);
    }
    Py_RETURN_NONE;
}

static PyObject *
pool_py_freeze(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = pool_of(self);
    return pool == NULL ? NULL : PyBool_FromLong(cf_defs_freeze(pool->defs));
}

static PyObject *
pool_py_thaw(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = pool_of(self);
    if (pool == NULL) {
        return NULL;
    }
    cf_defs_thaw(pool->defs);
    Py_RETURN_NONE;
}

static PyObject *
pool_py_engine(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = pool_of(self);
    if (pool == NULL) {
        return NULL;
    }
    PyTypeObject *type = pool->st->ProcessEngine;
    ProcessPoolObject *engine = (ProcessPoolObject *)type->tp_alloc(type, 0);
    if (engine != NULL) {
        cf_procpool_own(pool);
        engine->pool = pool;
    }
    return (PyObject *)engine;
}

static PyObject *
pool_py_want(PyObject *self, PyObject *arg)
{
    cf_procpool *pool = pool_of(self);
    unsigned long limit = PyLong_AsUnsignedLong(arg);
    if (pool == NULL || PyErr_Occurred()) {
        return NULL;
    }
    cf_store_relaxed(&pool->limit, limit > UINT32_MAX ? UINT32_MAX : (uint32_t)limit);
    Py_RETURN_NONE;
}

static PyObject *
pool_py_enlist(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = pool_of(self);
    uint32_t number, arena;
    if (pool == NULL) {
        return NULL;
    }
    if (!cf_roster_enlist(pool, &number, &arena)) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("II", number, arena);
}

/* The number of a worker, checked.  -1 with an exception. */
static int
parse_number(cf_procpool *pool, PyObject *arg, uint32_t *number)
{
    unsigned long n = PyLong_AsUnsignedLong(arg);
    if (n == (unsigned long)-1 && PyErr_Occurred()) {
        return -1;
    }
    if (n >= pool->seg->geometry.workers) {
        PyErr_SetString(PyExc_ValueError, "no such worker");
        return -1;
    }
    *number = (uint32_t)n;
    return 0;
}

static PyObject *
pool_py_delist(PyObject *self, PyObject *arg)
{
    cf_procpool *pool = pool_of(self);
    uint32_t number;
    if (pool == NULL || parse_number(pool, arg, &number) < 0) {
        return NULL;
    }
    cf_roster_delist(pool, number);
    Py_RETURN_NONE;
}

static PyObject *
pool_py_dismiss(PyObject *self, PyObject *arg)
{
    cf_procpool *pool = pool_of(self);
    uint32_t number;
    if (pool == NULL || parse_number(pool, arg, &number) < 0) {
        return NULL;
    }
    cf_board_dismiss(&pool->board, number);
    Py_RETURN_NONE;
}

static PyObject *
pool_py_segment(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = pool_of(self);
    return pool == NULL ? NULL : Py_BuildValue("ii", pool->seg->fd, pool->bell);
}

static PyObject *
pool_py_poll(PyObject *self, PyObject *args)
{
    cf_procpool *pool = pool_of(self);
    PyObject *fds, *timeout;
    cf_deadline until;
    if (pool == NULL || !PyArg_ParseTuple(args, "O!O:_poll", &PyList_Type, &fds, &timeout)
        || cf_deadline_from_timeout(timeout, &until) < 0)
    {
        return NULL;
    }
    return cf_procpool_poll(pool, fds, until);
}

static PyObject *
pool_py_wake(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = pool_of(self);
    if (pool == NULL) {
        return NULL;
    }
    cf_store_release(&pool->nudged, 1);
    cf_bell_ring(pool->bell);
    Py_RETURN_NONE;
}

static PyObject *
pool_py_lasts(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = pool_of(self);
    return pool == NULL ? NULL : cf_roster_lasts(pool);
}

static PyObject *
pool_py_names(PyObject *self, PyObject *arg)
{
    cf_procpool *pool = pool_of(self);
    uint32_t number;
    if (pool == NULL || parse_number(pool, arg, &number) < 0) {
        return NULL;
    }
    PyObject *list = PyList_New(0);
    for (uint32_t slot = 0; list != NULL && slot < pool->used; slot++) {
        uint32_t word = cf_load_acquire(cf_procpool_word(pool, slot));
        if (!(word & CF_SLOT_TAKEN) || CF_SLOT_WORKER(word) != number) {
            continue;
        }
        cf_definition *definition = pool->tasks[slot].definition;
        PyObject *name = definition == NULL ? NULL : definition->name;
        PyObject *text = name != NULL ? Py_NewRef(name) : PyUnicode_FromString("a task");
        if (text == NULL || PyList_Append(list, text) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(text);
    }
    return list;
}

static PyObject *
pool_py_bury(PyObject *self, PyObject *args)
{
    cf_procpool *pool = pool_of(self);
    PyObject *number_obj, *error;
    uint32_t number;
    if (pool == NULL || !PyArg_ParseTuple(args, "OO:_bury", &number_obj, &error)
        || parse_number(pool, number_obj, &number) < 0)
    {
        return NULL;
    }
    PyObject *made = error != Py_None ? Py_NewRef(error) : PyObject_CallFunction(
        pool->st->broken_process_pool, "s",
        "the worker process ended before the task did");
    if (made == NULL) {
        return NULL;
    }
    cf_roster_bury(pool, number, made);
    Py_DECREF(made);
    Py_RETURN_NONE;
}

static PyObject *
pool_py_break(PyObject *self, PyObject *args)
{
    cf_procpool *pool = pool_of(self);
    PyObject *error, *text;
    if (pool == NULL || !PyArg_ParseTuple(args, "OU:_break", &error, &text)) {
        return NULL;
    }
    if (pool->broken_text == NULL) {
        pool->broken_text = Py_NewRef(text);
    }
    cf_procpool_close(pool, CF_PROCS_BROKEN);
    cf_procpool_fail_all(pool, error);
    Py_RETURN_NONE;
}

static PyObject *
pool_py_close(PyObject *self, PyObject *args)
{
    cf_procpool *pool = ((ProcessPoolObject *)self)->pool;
    int cancel;
    unsigned int spared = 0;
    if (!PyArg_ParseTuple(args, "p|I:_close", &cancel, &spared)) {
        return NULL;
    }
    if (pool != NULL) {
        cf_procpool_close(pool, CF_PROCS_SHUTDOWN);
        if (cancel && !(cf_load_relaxed(&pool->state) & CF_PROCS_FORKED)) {
            cf_procpool_cancel_queued(pool, spared);
        }
    }
    Py_RETURN_NONE;
}

static PyObject *
count_in(PyObject *self, uint32_t states)
{
    cf_procpool *pool = pool_of(self);
    if (pool == NULL) {
        return NULL;
    }
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < pool->used; slot++) {
        count += (cf_load_relaxed(cf_procpool_word(pool, slot)) & states) != 0;
    }
    return PyLong_FromUnsignedLong(count);
}

static PyObject *
pool_py_unfinished(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return count_in(self, CF_SLOT_QUEUED | CF_SLOT_TAKEN);
}

static PyObject *
pool_py_queued(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return count_in(self, CF_SLOT_QUEUED);
}

static PyObject *
pool_py_busy(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return count_in(self, CF_SLOT_TAKEN);
}

static PyObject *
pool_py_counts(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = pool_of(self);
    if (pool == NULL) {
        return NULL;
    }
    if (cf_load_relaxed(&pool->state) & CF_PROCS_FORKED) {
        /* What its processes do is the parent's to know. */
        return Py_BuildValue("IIIKKKd", 0, 0, 0, 0ull, 0ull, 0ull, 0.0);
    }
    cf_board_tally tally = cf_board_count_up(&pool->board, pool->opened);
    uint64_t failed_here = cf_load_relaxed(&pool->failed_here);
    uint64_t cancelled = cf_load_relaxed(&pool->cancelled);
    /* Each was read at another moment. */
    uint64_t known = tally.ended + failed_here + cancelled + tally.running;
    uint64_t submitted = cf_load_relaxed(&pool->submitted);
    return Py_BuildValue("IKIKKKd", (unsigned int)cf_load_relaxed(&pool->running),
                         submitted > known ? submitted - known : 0ull,
                         (unsigned int)tally.running, tally.ended - tally.failed,
                         tally.failed + failed_here, cancelled, (double)tally.active / 1e9);
}

static PyObject *
pool_py_trim(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = pool_of(self);
    return pool == NULL ? NULL : PyLong_FromUnsignedLongLong(cf_procpool_trim(pool, 0));
}

static PyObject *
pool_get_shutdown(PyObject *self, void *Py_UNUSED(closure))
{
    cf_procpool *pool = ((ProcessPoolObject *)self)->pool;
    return PyBool_FromLong(pool != NULL && (cf_load_seq(&pool->state)
                                            & (CF_PROCS_SHUTDOWN | CF_PROCS_FORKED)));
}

static PyObject *
pool_get_broken(PyObject *self, void *Py_UNUSED(closure))
{
    cf_procpool *pool = ((ProcessPoolObject *)self)->pool;
    if (pool != NULL && (cf_load_seq(&pool->state) & CF_PROCS_BROKEN)) {
        return Py_NewRef(pool->broken_text);
    }
    Py_RETURN_FALSE;
}

/* ---- the type ---- */

static PyObject *
pool_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    ProcessPoolObject *self = (ProcessPoolObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->base.submit = submit;
        self->base.submit_method = (PyCFunction)(void (*)(void))pool_py_submit;
    }
    return (PyObject *)self;
}

static void
pool_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    cf_procpool *pool = ((ProcessPoolObject *)self)->pool;
    if (pool != NULL) {
        cf_procpool_close(pool, CF_PROCS_SHUTDOWN);
        cf_procpool_disown(pool);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static void
engine_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    cf_procpool_disown(((ProcessPoolObject *)self)->pool);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef pool_methods[] = {
    {"submit", (PyCFunction)(void (*)(void))pool_py_submit, METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR(
     "submit($self, fn, /, *args, **kwargs)\n--\n\n"
     "Have fn(*args, **kwargs) called in a worker process and return its future.\n\n"
     "Function and arguments are encoded now: the task sees them as they are.  What cannot\n"
     "be pickled fails the future.  Raises RuntimeError after shutdown(),\n"
     "BrokenProcessPool after a worker crashed.")},
    {"_engine", pool_py_engine, METH_NOARGS, PyDoc_STR(
     "_engine($self, /)\n--\n\nThe ProcessEngine of this pool.")},
    {"_open", pool_py_open, METH_VARARGS, PyDoc_STR(
     "_open($self, max_workers, threshold, /)\n--\n\nMake the shared memory.")},
    {"_freeze", pool_py_freeze, METH_NOARGS, PyDoc_STR(
     "_freeze($self, /)\n--\n\n"
     "Until _thaw() no code of the user's runs in this thread: the globals that a function\n"
     "reads are looked at once.  False: another thread is at it, and nothing has changed.")},
    {"_thaw", pool_py_thaw, METH_NOARGS, PyDoc_STR(
     "_thaw($self, /)\n--\n\nEnd what _freeze() began.")},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef engine_methods[] = {
    {"_want", pool_py_want, METH_O, PyDoc_STR(
     "_want($self, limit, /)\n--\n\nsubmit() calls _grow() below so many workers.")},
    {"_enlist", pool_py_enlist, METH_NOARGS, PyDoc_STR(
     "_enlist($self, /)\n--\n\n(number, arena) for a new worker, or None.")},
    {"_delist", pool_py_delist, METH_O, PyDoc_STR(
     "_delist($self, number, /)\n--\n\nThat worker never came up.")},
    {"_dismiss", pool_py_dismiss, METH_O, PyDoc_STR(
     "_dismiss($self, number, /)\n--\n\nThat worker leaves after what it runs.")},
    {"_segment", pool_py_segment, METH_NOARGS, PyDoc_STR(
     "_segment($self, /)\n--\n\nDescriptors for a child: memory, bell.")},
    {"_poll", pool_py_poll, METH_VARARGS, PyDoc_STR(
     "_poll($self, fds, timeout, /)\n--\n\n"
     "The manager's wait: call callbacks of what is done, until a descriptor is ready.")},
    {"_wake", pool_py_wake, METH_NOARGS, PyDoc_STR(
     "_wake($self, /)\n--\n\nMake _poll() return.")},
    {"_lasts", pool_py_lasts, METH_NOARGS, PyDoc_STR(
     "_lasts($self, /)\n--\n\nWorkers that have begun their last task, each told once.")},
    {"_names", pool_py_names, METH_O, PyDoc_STR(
     "_names($self, number, /)\n--\n\nNames of the tasks that the worker is running.")},
    {"_bury", pool_py_bury, METH_VARARGS, PyDoc_STR(
     "_bury($self, number, error, /)\n--\n\n"
     "That worker is dead: what it ran fails with error.")},
    {"_break", pool_py_break, METH_VARARGS, PyDoc_STR(
     "_break($self, error, text, /)\n--\n\n"
     "All tasks fail with error; submit() raises BrokenProcessPool(text).")},
    {"_close", pool_py_close, METH_VARARGS, PyDoc_STR(
     "_close($self, cancel_futures, spared=0, /)\n--\n\n"
     "Take no more tasks; cancel those that wait, but for so many.")},
    {"_unfinished", pool_py_unfinished, METH_NOARGS, PyDoc_STR(
     "_unfinished($self, /)\n--\n\nHow many tasks are queued or running.")},
    {"_queued", pool_py_queued, METH_NOARGS, PyDoc_STR(
     "_queued($self, /)\n--\n\nHow many tasks wait.")},
    {"_busy", pool_py_busy, METH_NOARGS, PyDoc_STR(
     "_busy($self, /)\n--\n\nHow many tasks run.")},
    {"_counts", pool_py_counts, METH_NOARGS, PyDoc_STR(
     "_counts($self, /)\n--\n\n"
     "Return (workers, queued, running, done, failed, cancelled, active seconds).")},
    {"_trim", pool_py_trim, METH_NOARGS, PyDoc_STR(
     "_trim($self, /)\n--\n\nGive unused memory back to the system; bytes.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef pool_getset[] = {
    {"_shutdown", pool_get_shutdown, NULL, PyDoc_STR("takes no more tasks"), NULL},
    {"_broken", pool_get_broken, NULL, PyDoc_STR("False, or why it is broken"), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot engine_slots[] = {
    {Py_tp_doc, PyDoc_STR("A process pool without its executor, for its manager.")},
    {Py_tp_dealloc, engine_tp_dealloc},
    {Py_tp_methods, engine_methods},
    {Py_tp_getset, pool_getset},
    {0, NULL},
};

static PyType_Spec engine_spec = {
    .name = "cfutures._core.ProcessEngine",
    .basicsize = sizeof(ProcessPoolObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = engine_slots,
};

static PyType_Slot pool_slots[] = {
    {Py_tp_doc, PyDoc_STR("The engine of ProcessPoolExecutor.")},
    {Py_tp_new, pool_tp_new},
    {Py_tp_dealloc, pool_tp_dealloc},
    {Py_tp_methods, pool_methods},
    {Py_tp_getset, pool_getset},
    {0, NULL},
};

static PyType_Spec pool_spec = {
    .name = "cfutures._core.ProcessPool",
    .basicsize = sizeof(ProcessPoolObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = pool_slots,
};

int
cf_procs_add_types(PyObject *module, cf_state *st)
{
    st->ProcessPool = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &pool_spec, (PyObject *)st->ExecutorBase);
    st->ProcessEngine = (PyTypeObject *)PyType_FromModuleAndSpec(module, &engine_spec, NULL);
    if (st->ProcessPool == NULL || st->ProcessEngine == NULL || cf_codec_add_types(module, st) < 0
        || cf_code_add_types(module) < 0)
    {
        return -1;
    }
    if (PyModule_AddType(module, st->ProcessEngine) < 0) {
        return -1;
    }
    return PyModule_AddType(module, st->ProcessPool);
}
