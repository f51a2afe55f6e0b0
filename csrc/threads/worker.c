/* What a thread of the pool does: the C callable that is the target of a real
   threading.Thread.

       take a task ---> run it ---> finish its future --+
        ^   | none                                      |
        |   v                                           |
        |  closed? leave                                |
        |   | no                                        |
        +-- wait in the lot <---------------------------+ (when there is no more)

   The worker has the GIL all the time but for the wait; the interpreter takes it away
   at the switch interval when others want it, and between C callables, which never
   give it a chance to, we let go of it ourselves. */
#include "threads/pool.h"

#include "py/block.h"

typedef struct {
    PyObject_HEAD
    cf_pool *pool;
    cf_worker worker;
    PyObject *initializer;      /* or NULL */
    PyObject *initargs;
} WorkerObject;

static void
log_critical(cf_state *st, const char *text)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *r = PyObject_CallFunction(st->log_critical, "sO", text, exc);
    Py_XDECREF(exc);
    if (r == NULL) {
        PyErr_WriteUnraisable(st->log_critical);
    }
    Py_XDECREF(r);
}

/* No read-modify-write: nobody but the worker writes it. */
static void
count(_Atomic uint64_t *counter)
{
    cf_store_relaxed(counter, cf_load_relaxed(counter) + 1);
}

/* `clock`: the time, if the last task has just ended, or 0; then likewise for this one. */
static void
run_task(cf_state *st, cf_pool *pool, cf_worker *w, FutureObject *f, uint32_t *clock)
{
    bool unexpected;
    if (!cf_future_claim(st, f, &unexpected)) {
        if (unexpected) {
            PyErr_Format(PyExc_RuntimeError, "Future in unexpected state: %R", f);
        }
        else {
            count(&w->tally.cancelled);
        }
        if (PyErr_Occurred()) {
            log_critical(st, "Exception in worker");
        }
        return;
    }
    cf_trace trace = {*clock != 0 ? *clock : cf_now_stamp(), 0, pool->number, w->number};
    atomic_store_explicit(&w->current, f, memory_order_relaxed);
    PyObject *result = cf_future_run_call(f, &trace);
    bool failed = result == NULL;
    if (failed) {
        result = PyErr_GetRaisedException();
    }
    cf_hand_over(result);
    count(failed ? &w->tally.failed : &w->tally.done);
    /* Idle before the result is seen: whoever gets it and submits again finds this
       worker free, not a reason to start another one.  Callbacks keep it busy, and so
       does the end of a future that nobody else holds: its result may have a
       destructor. */
    bool over = !(cf_future_load(f) & (CF_HOOKED | CF_EMULATED)) && Py_REFCNT(f) > 1;
    if (over) {
        cf_store_release(&w->busy, false);
    }
    *clock = over ? cf_load_relaxed(&f->u.trace.finished) : 0;
    if (cf_future_finish(st, f, result, failed) < 0) {
        log_critical(st, "Exception in worker");
    }
    atomic_store_explicit(&w->current, NULL, memory_order_relaxed);
}

/* Functions written in Python meet the interpreter's own check when they are called. */
static bool
checks_by_itself(PyObject *fn)
{
    return PyFunction_Check(fn)
        || (PyMethod_Check(fn) && PyFunction_Check(PyMethod_GET_FUNCTION(fn)));
}

static void
work(cf_state *st, cf_pool *pool, cf_worker *w)
{
    int64_t gil_since = cf_now();
    uint32_t clock = 0;
    for (;;) {
        cf_link *link = cf_taskq_pop(&pool->queue, &w->busy);
        if (link != NULL) {
            cf_lot_found(&pool->lot, &w->berth);
            FutureObject *f = cf_container_of(link, FutureObject, link);
            bool give_way = (cf_future_has(f) & CF_HAS_CALL) && !checks_by_itself(f->u.call.fn);
            run_task(st, pool, w, f, &clock);
            Py_DECREF(f);
            cf_store_release(&w->busy, false);
            /* Half as long again as the interval: whoever waits for the GIL demands it
               when it has waited that long, and only then does letting go of it force the
               switch.  At the interval itself its wait would begin anew each time. */
            if (give_way && cf_now() - gil_since > pool->switch_interval * 3 / 2) {
                cf_gil_take(cf_gil_release());
                gil_since = cf_now();
                clock = 0;
            }
            continue;
        }
        clock = 0;
        cf_store_relaxed(&w->busy, false);
        if (cf_taskq_ended(&pool->queue)) {
            break;
        }
        cf_activity_end(&pool->activity, cf_now_coarse());
        PyThreadState *ts = cf_gil_release();
        cf_lot_wait(&pool->lot, &w->berth);
        /* Waiting for the GIL is part of what tasks take. */
        cf_activity_begin(&pool->activity, cf_now_coarse());
        cf_gil_take(ts);
        gil_since = cf_now();
    }
    cf_lot_found(&pool->lot, &w->berth);
}

static void
enlist(cf_pool *pool, cf_worker *w)
{
    cf_spinlock_lock(&pool->workers_lock);
    w->next = pool->workers;
    pool->workers = w;
    cf_spinlock_unlock(&pool->workers_lock);
}

static void
delist(cf_pool *pool, cf_worker *w)
{
    cf_spinlock_lock(&pool->workers_lock);
    for (cf_worker **at = &pool->workers; *at != NULL; at = &(*at)->next) {
        if (*at == w) {
            *at = w->next;
            break;
        }
    }
    cf_tally_add(&pool->tally.done, cf_load_relaxed(&w->tally.done));
    cf_tally_add(&pool->tally.failed, cf_load_relaxed(&w->tally.failed));
    cf_tally_add(&pool->tally.cancelled, cf_load_relaxed(&w->tally.cancelled));
    cf_spinlock_unlock(&pool->workers_lock);
}

static PyObject *
worker_tp_call(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    WorkerObject *op = (WorkerObject *)self;
    cf_state *st = cf_state_of(Py_TYPE(self));
    cf_pool *pool = op->pool;
    cf_worker *w = &op->worker;
    w->thread = PyThread_get_thread_ident();
    cf_store_relaxed(&w->busy, true);
    enlist(pool, w);
    bool ready = true;
    if (op->initializer != NULL) {
        /* Not kept: it may refer to the executor and so to this thread, and as long as the
           thread is referred to, `_threads_workers` (thread.py) keeps this worker. */
        PyObject *initializer = op->initializer, *initargs = op->initargs;
        op->initializer = op->initargs = NULL;
        PyObject *args_tuple = PySequence_Tuple(initargs);
        Py_DECREF(initargs);
        PyObject *r = args_tuple == NULL ? NULL
                    : PyObject_CallObject(initializer, args_tuple);
        Py_XDECREF(args_tuple);
        Py_DECREF(initializer);
        ready = r != NULL;
        Py_XDECREF(r);
        if (!ready) {
            log_critical(st, "Exception in initializer:");
            cf_pool_break(st, pool);
        }
    }
    if (ready) {
        cf_activity_begin(&pool->activity, cf_now_coarse());
        work(st, pool, w);
        cf_activity_end(&pool->activity, cf_now_coarse());
    }
    delist(pool, w);
    Py_RETURN_NONE;
}

/* ---- the type ---- */

static PyObject *
worker_tp_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    cf_state *st = cf_state_of(type);
    PyObject *executor, *initializer, *initargs;
    unsigned int number;
    if (!PyArg_ParseTuple(args, "O!IOO:Worker", st->ThreadPool, &executor, &number,
                          &initializer, &initargs)) {
        return NULL;
    }
    cf_pool *pool = cf_pool_of(executor);
    if (pool == NULL) {
        PyErr_SetString(PyExc_RuntimeError, CF_NO_POOL_TEXT);
        return NULL;
    }
    WorkerObject *self = (WorkerObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    CF_BORN(thread_worker);
    self->pool = pool;
    cf_pool_incref(pool);
    self->initializer = initializer == Py_None ? NULL : Py_NewRef(initializer);
    self->initargs = Py_NewRef(initargs);
    self->worker.number = number;
    cf_berth_init(&self->worker.berth);
    return (PyObject *)self;
}

static PyObject *
worker_py_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_pool_close(((WorkerObject *)self)->pool, CF_POOL_FINALIZING);
    Py_RETURN_NONE;
}

static int
worker_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    WorkerObject *op = (WorkerObject *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(op->initializer);
    Py_VISIT(op->initargs);
    return 0;
}

static int
worker_tp_clear(PyObject *self)
{
    WorkerObject *op = (WorkerObject *)self;
    Py_CLEAR(op->initializer);
    Py_CLEAR(op->initargs);
    return 0;
}

static void
worker_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    worker_tp_clear(self);
    cf_pool_decref(((WorkerObject *)self)->pool);
    CF_GONE(thread_worker);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef worker_methods[] = {
    {"close", worker_py_close, METH_NOARGS, PyDoc_STR(
     "close($self, /)\n--\n\n"
     "The interpreter exits: the pool takes no more tasks, its workers finish and leave.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot worker_slots[] = {
    {Py_tp_doc, PyDoc_STR(
     "Worker(executor, number, initializer, initargs)\n--\n\nThe target of a thread.")},
    {Py_tp_new, worker_tp_new},
    {Py_tp_call, worker_tp_call},
    {Py_tp_dealloc, worker_tp_dealloc},
    {Py_tp_traverse, worker_tp_traverse},
    {Py_tp_clear, worker_tp_clear},
    {Py_tp_methods, worker_methods},
    {0, NULL},
};

static PyType_Spec worker_spec = {
    .name = "cfutures._core.Worker",
    .basicsize = sizeof(WorkerObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = worker_slots,
};

int
cf_worker_add_type(PyObject *module, cf_state *st)
{
    st->Worker = (PyTypeObject *)PyType_FromModuleAndSpec(module, &worker_spec, NULL);
    return st->Worker == NULL ? -1 : PyModule_AddType(module, st->Worker);
}
