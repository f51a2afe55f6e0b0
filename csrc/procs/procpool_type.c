/* _core.ProcessPool: the base of cfutures.ProcessPoolExecutor, which submits. */
#include "procs/procpool_type.h"

#include "procs/code.h"

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
    cf_procpool *pool = cf_procpool_of(self);
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
    uint32_t turn = CF_SLOT_TURN(cf_load_relaxed(cf_procpool_word(pool, slot)));
    f->u.remote.slot.turn = turn;
    cf_task_pushed(&pool->tasks[slot], turn);
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

/* ---- what the executor asks for ---- */

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
    pool->former = cf_procpool_or_null(self);
    while (!atomic_compare_exchange_weak_explicit(
        &((ProcessPoolObject *)self)->pool, &pool->former, pool, memory_order_acq_rel,
        memory_order_acquire)) {
    }
    if (pool->former != NULL) {         /* __init__ called again */
        cf_procpool_close(pool->former, CF_PROCS_SHUTDOWN);
    }
    Py_RETURN_NONE;
}

static PyObject *
pool_py_freeze(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = cf_procpool_of(self);
    return pool == NULL ? NULL : PyBool_FromLong(cf_defs_freeze(pool->defs));
}

static PyObject *
pool_py_thaw(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = cf_procpool_of(self);
    if (pool == NULL) {
        return NULL;
    }
    cf_defs_thaw(pool->defs);
    Py_RETURN_NONE;
}

static PyObject *
pool_py_engine(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = cf_procpool_of(self);
    if (pool == NULL) {
        return NULL;
    }
    PyTypeObject *type = pool->st->ProcessEngine;
    ProcessPoolObject *engine = (ProcessPoolObject *)type->tp_alloc(type, 0);
    if (engine != NULL) {
        CF_BORN(process_engine);
        cf_procpool_own(pool);
        atomic_init(&engine->pool, pool);
    }
    return (PyObject *)engine;
}

/* ---- the type ---- */

static PyObject *
pool_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    ProcessPoolObject *self = (ProcessPoolObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        CF_BORN(process_executor);
        self->base.submit = submit;
        self->base.submit_method = (PyCFunction)(void (*)(void))pool_py_submit;
    }
    return (PyObject *)self;
}

static void
pool_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    cf_procpool *pool = cf_procpool_or_null(self);
    while (pool != NULL) {
        cf_procpool *former = pool->former;
        cf_procpool_close(pool, CF_PROCS_SHUTDOWN);
        cf_procpool_disown(pool);
        pool = former;
    }
    CF_GONE(process_executor);
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

static PyType_Slot pool_slots[] = {
    {Py_tp_doc, PyDoc_STR("The engine of ProcessPoolExecutor.")},
    {Py_tp_new, pool_tp_new},
    {Py_tp_dealloc, pool_tp_dealloc},
    {Py_tp_methods, pool_methods},
    {Py_tp_getset, cf_procpool_getset},
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
    if (st->ProcessPool == NULL || cf_engine_add_type(module, st) < 0
        || cf_codec_add_types(module, st) < 0 || cf_code_add_types(module) < 0)
    {
        return -1;
    }
    return PyModule_AddType(module, st->ProcessPool);
}
