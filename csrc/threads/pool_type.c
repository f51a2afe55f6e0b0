/* _core.ThreadPool: the engine of cfutures.ThreadPoolExecutor. */
#include "threads/pool.h"

#include "py/block.h"

/* ---- submit ---- */

/* There is an idle worker for each task that waits.  The length is read first: see
   cf_taskq_pop(). */
static bool
enough_idle(cf_pool *pool)
{
    uint32_t waiting = cf_taskq_length(&pool->queue), idle = 0;
    cf_spinlock_lock(&pool->workers_lock);
    for (cf_worker *w = pool->workers; w != NULL; w = w->next) {
        idle += !cf_load_acquire(&w->busy);
    }
    cf_spinlock_unlock(&pool->workers_lock);
    return idle >= waiting;
}

/* executor._spawn(number); see there what it returns.  0, or -1 with an exception. */
static int
spawn(cf_state *st, PyObject *executor, cf_pool *pool, uint32_t count)
{
    PyObject *number = PyLong_FromUnsignedLong(count);
    PyObject *r = number == NULL ? NULL
                : PyObject_CallMethodOneArg(executor, st->str_spawn, number);
    Py_XDECREF(number);
    if (r == NULL) {
        /* Wherever that was: Ctrl-C can come before the first line of _spawn(). */
        cf_pool_not_started(pool);
        return -1;
    }
    if (r == Py_False) {
        cf_pool_not_started(pool);
    }
    if (PyExceptionInstance_Check(r)) {
        PyErr_SetRaisedException(r);
        return -1;
    }
    Py_DECREF(r);
    return 0;
}

/* Start one more thread for `f`, unless there are enough.  0, or -1 with an exception:
   no thread, or Ctrl-C, and the task is taken back unless it has begun. */
static int
grow(cf_state *st, PyObject *executor, cf_pool *pool, FutureObject *f)
{
    uint32_t count;
    if (!cf_pool_begin_start(pool, &count)) {
        return 0;
    }
    int r = spawn(st, executor, pool, count);
    if (r < 0) {
        PyObject *exc = PyErr_GetRaisedException();
        cf_future_commit_cancel(f, false);
        if (cf_pool_threads(pool) == 0) {
            /* Others may have counted on this thread, and there is none. */
            cf_pool_fail_queued(st, pool, exc);
        }
        PyErr_SetRaisedException(exc);
    }
    cf_pool_started(pool);
    return r;
}

static PyObject *
submit(ExecutorObject *base, PyObject *fn, PyObject *const *args, size_t nargs,
       PyObject *kwnames)
{
    PyObject *self = (PyObject *)base;
    cf_pool *pool = cf_pool_of(self);
    if (pool == NULL) {
        PyErr_SetString(PyExc_RuntimeError, CF_NO_POOL_TEXT);
        return NULL;
    }
    cf_state *st = pool->st;
    uint32_t state = cf_load_seq(&pool->state);
    if (state == 0 && cf_load_relaxed(&st->finalizing)) {
        state = CF_POOL_FINALIZING;
    }
    if (state != 0) {
        cf_pool_raise_closed(st, state);
        return NULL;
    }
    FutureObject *f = cf_future_new(st, fn, args, nargs, kwnames);
    if (f == NULL) {
        return NULL;
    }
    cf_new_ref_for_another((PyObject *)f);      /* the queue's */
    cf_taskq_push(&pool->queue, &f->link);
    cf_lot_notify(&pool->lot);
    if (cf_pool_threads(pool) < pool->max_workers && !enough_idle(pool)) {
        if (grow(st, self, pool, f) < 0) {
            Py_DECREF(f);
            return NULL;
        }
        /* The exit hook sets `finalizing`, then closes the pools of the threads that it
           finds; this thread may have come after it looked. */
        if (cf_load_seq(&st->finalizing)) {
            cf_pool_close(pool, CF_POOL_FINALIZING);
        }
    }
    /* Closed or broken since? */
    state = cf_load_seq(&pool->state);
    if (state != 0 && cf_future_commit_cancel(f, false)) {
        Py_DECREF(f);
        cf_pool_raise_closed(st, state);
        return NULL;
    }
    return (PyObject *)f;
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

/* ---- the rest ---- */

static PyObject *
pool_py_open(PyObject *self, PyObject *args)
{
    unsigned int max_workers, number;
    double switch_interval;
    if (!PyArg_ParseTuple(args, "IId:_open", &max_workers, &number, &switch_interval)) {
        return NULL;
    }
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(self), &cf_module_def);
    cf_pool *pool = cf_pool_new(module, max_workers, number);
    if (pool == NULL) {
        return NULL;
    }
    pool->switch_interval = (int64_t)(switch_interval * 1e9);
    pool->former = cf_pool_of(self);
    while (!atomic_compare_exchange_weak_explicit(
        &((ThreadPoolObject *)self)->pool, &pool->former, pool, memory_order_acq_rel,
        memory_order_acquire)) {
    }
    if (pool->former != NULL) {         /* __init__ called again */
        cf_pool_close(pool->former, CF_POOL_SHUTDOWN);
    }
    Py_RETURN_NONE;
}

static PyObject *
pool_py_close(PyObject *self, PyObject *cancel_futures)
{
    cf_pool *pool = cf_pool_of(self);
    int cancel = PyObject_IsTrue(cancel_futures);
    if (cancel < 0) {
        return NULL;
    }
    if (pool != NULL) {
        cf_pool_close(pool, CF_POOL_SHUTDOWN);
        if (cancel && cf_pool_cancel_queued(cf_state_of(Py_TYPE(self)), pool) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *
pool_py_has_workers(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_pool *pool = cf_pool_of(self);
    bool some = false;
    if (pool != NULL) {
        cf_spinlock_lock(&pool->workers_lock);
        some = pool->workers != NULL;
        cf_spinlock_unlock(&pool->workers_lock);
    }
    return PyBool_FromLong(some);
}

static PyObject *
pool_py_settle(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_pool *pool = cf_pool_of(self);
    if (pool != NULL && cf_pool_settle(cf_state_of(Py_TYPE(self)), pool) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
pool_py_queued(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_pool *pool = cf_pool_of(self);
    return PyLong_FromUnsignedLong(pool == NULL ? 0 : cf_taskq_length(&pool->queue));
}

static bool
is_cancelled(const cf_link *link)
{
    const FutureObject *f = cf_container_of(link, FutureObject, link);
    return (cf_load_relaxed(&f->cell) & CF_CANCELLED) != 0;
}

static PyObject *
pool_py_counts(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_pool *pool = cf_pool_of(self);
    if (pool == NULL) {
        return Py_BuildValue("IIIKKKd", 0, 0, 0, 0ull, 0ull, 0ull, 0.0);
    }
    unsigned int workers = 0, running = 0;
    cf_spinlock_lock(&pool->workers_lock);
    uint64_t done = cf_load_relaxed(&pool->tally.done);
    uint64_t failed = cf_load_relaxed(&pool->tally.failed);
    uint64_t cancelled = cf_load_relaxed(&pool->tally.cancelled);
    for (cf_worker *w = pool->workers; w != NULL; w = w->next) {
        workers++;
        running += cf_load_relaxed(&w->current) != NULL;
        done += cf_load_relaxed(&w->tally.done);
        failed += cf_load_relaxed(&w->tally.failed);
        cancelled += cf_load_relaxed(&w->tally.cancelled);
    }
    cf_spinlock_unlock(&pool->workers_lock);
    /* Cancelled, and in the queue until a worker comes to it.  In a very long queue there
       may be more. */
    uint32_t dead = cf_taskq_count(&pool->queue, is_cancelled, 1u << 16);
    uint32_t queued = cf_taskq_length(&pool->queue);
    queued = queued > dead ? queued - dead : 0;
    cancelled += dead;
    int64_t active = cf_activity_total(&pool->activity, cf_now_coarse(), pool->opened);
    return Py_BuildValue("IIIKKKd", workers, (unsigned int)queued,
                         running, done, failed, cancelled, (double)active / 1e9);
}

static uint32_t
state_of(PyObject *self)
{
    cf_pool *pool = cf_pool_of(self);
    return pool == NULL ? 0 : cf_load_seq(&pool->state);
}

static PyObject *
pool_get_shutdown(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(state_of(self) != 0 && state_of(self) != CF_POOL_BROKEN);
}

static PyObject *
pool_get_broken(PyObject *self, void *Py_UNUSED(closure))
{
    if (state_of(self) & CF_POOL_BROKEN) {
        return PyUnicode_FromString(CF_BROKEN_TEXT);
    }
    Py_RETURN_FALSE;
}

static PyObject *
pool_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    ThreadPoolObject *self = (ThreadPoolObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        CF_BORN(thread_executor);
        self->base.submit = submit;
        self->base.submit_method = (PyCFunction)(void (*)(void))pool_py_submit;
    }
    return (PyObject *)self;
}

static void
pool_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    cf_pool *pool = cf_pool_of(self);
    while (pool != NULL) {
        cf_pool *former = pool->former;
        /* Collected: what is queued is still done, then the threads leave. */
        cf_pool_close(pool, CF_POOL_SHUTDOWN);
        cf_pool_decref(pool);
        pool = former;
    }
    CF_GONE(thread_executor);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef pool_methods[] = {
    {"submit", (PyCFunction)(void (*)(void))pool_py_submit, METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR(
     "submit($self, fn, /, *args, **kwargs)\n--\n\n"
     "Have fn(*args, **kwargs) called by a thread of the pool and return its Future.\n\n"
     "Raises RuntimeError after shutdown, BrokenThreadPool if an initializer failed.")},
    {"_open", pool_py_open, METH_VARARGS, PyDoc_STR(
     "_open($self, max_workers, number, switch_interval, /)\n--\n\n"
     "Make the pool: number is N of its default name, switch_interval in seconds.")},
    {"_close", pool_py_close, METH_O, PyDoc_STR(
     "_close($self, cancel_futures, /)\n--\n\nTake no more tasks; workers finish and leave.")},
    {"_has_workers", pool_py_has_workers, METH_NOARGS, PyDoc_STR(
     "_has_workers($self, /)\n--\n\n"
     "Called by _spawn(): whether some thread runs that will do what is queued.")},
    {"_settle", pool_py_settle, METH_NOARGS, PyDoc_STR(
     "_settle($self, /)\n--\n\n"
     "After _close(): wait until all threads that were being started are in _threads.\n"
     "Called in the middle of _spawn() (by a signal handler) it does not wait.")},
    {"_queued", pool_py_queued, METH_NOARGS, PyDoc_STR(
     "_queued($self, /)\n--\n\nThe number of tasks that no worker has taken.")},
    {"_counts", pool_py_counts, METH_NOARGS, PyDoc_STR(
     "_counts($self, /)\n--\n\n"
     "Return (workers, queued, running, done, failed, cancelled, active seconds).")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef pool_getset[] = {
    {"_shutdown", pool_get_shutdown, NULL, PyDoc_STR("True once it takes no more tasks"),
     NULL},
    {"_broken", pool_get_broken, NULL, PyDoc_STR("False, or why the pool is broken"), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot pool_slots[] = {
    {Py_tp_doc, PyDoc_STR("The engine of cfutures.ThreadPoolExecutor.")},
    {Py_tp_new, pool_tp_new},
    {Py_tp_dealloc, pool_tp_dealloc},
    {Py_tp_methods, pool_methods},
    {Py_tp_getset, pool_getset},
    {0, NULL},
};

static PyType_Spec pool_spec = {
    .name = "cfutures._core.ThreadPool",
    .basicsize = sizeof(ThreadPoolObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = pool_slots,
};

int
cf_threads_add_types(PyObject *module, cf_state *st)
{
    st->saturated = cf_pools_saturated;
    st->ThreadPool = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &pool_spec, (PyObject *)st->ExecutorBase);
    if (st->ThreadPool == NULL || PyModule_AddType(module, st->ThreadPool) < 0) {
        return -1;
    }
    return cf_worker_add_type(module, st);
}
