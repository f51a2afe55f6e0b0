/* Executor.map(): submits eagerly (or `buffersize` tasks ahead) and returns an iterator
   that behaves like the standard library's generator.

       NEW --first next()--> RUNNING --exhausted, error, close(), dropped--> CLOSED

   Leaving RUNNING cancels what was not reached; an iterator that was dropped or closed
   while NEW cancels nothing, so map() can be called for its effects alone. */
#include "executor/executor.h"

#include <string.h>

#include "py/block.h"

typedef enum { NEW, RUNNING, CLOSED } phase;

typedef struct {
    PyObject_HEAD
    PyObject *module;           /* owned: the state must outlive this object */
    phase phase;
    _Atomic bool busy;          /* a thread is in next(); guards all below */
    cf_deadline until;
    /* a ring of futures, the oldest at `head` */
    PyObject **ring;
    size_t capacity, head, count;
    /* with buffersize: what is needed to submit more */
    PyObject *executor_ref;     /* weak, so that the executor can go */
    PyObject *fn;
    PyObject *iterators;        /* a tuple; NULL once they are exhausted */
    PyObject *observer;         /* called with each future that is submitted; or NULL */
} MapIteratorObject;

/* ---- submitting ---- */

typedef struct {
    PyObject *submit;           /* self.submit, whatever it is (owned) */
    ExecutorObject *fast;       /* not NULL: it is the type's own (borrowed) */
} submitter;

static int
submitter_init(cf_state *st, submitter *s, PyObject *executor)
{
    s->fast = NULL;
    s->submit = PyObject_GetAttr(executor, st->str_submit);
    if (s->submit == NULL) {
        return -1;
    }
    if (PyObject_TypeCheck(executor, st->ExecutorBase) && PyCFunction_Check(s->submit)) {
        ExecutorObject *e = (ExecutorObject *)executor;
        if (e->submit != NULL && PyCFunction_GET_SELF(s->submit) == executor
            && PyCFunction_GET_FUNCTION(s->submit) == e->submit_method)
        {
            s->fast = e;
        }
    }
    return 0;
}

static int
ring_push(MapIteratorObject *m, PyObject *future)
{
    if (m->count == m->capacity) {
        size_t capacity = m->capacity == 0 ? 8 : 2 * m->capacity;
        PyObject **ring = PyMem_Malloc(capacity * sizeof *ring);
        if (ring == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        for (size_t i = 0; i < m->count; i++) {
            ring[i] = m->ring[(m->head + i) & (m->capacity - 1)];
        }
        PyMem_Free(m->ring);
        m->ring = ring;
        m->capacity = capacity;
        m->head = 0;
    }
    m->ring[(m->head + m->count++) & (m->capacity - 1)] = future;
    return 0;
}

static PyObject *
ring_pop(MapIteratorObject *m)
{
    PyObject *future = m->ring[m->head];
    m->head = (m->head + 1) & (m->capacity - 1);
    m->count--;
    return future;
}

#define MAP_INLINE_ARGS 8

/* Submit one call with the next item of each iterator.  1 submitted, 0 exhausted,
   -1 error. */
static int
submit_next(MapIteratorObject *m, const submitter *s)
{
    PyObject *space[1 + MAP_INLINE_ARGS], **args = space;
    Py_ssize_t count = PyTuple_GET_SIZE(m->iterators), got = 0;
    int r = 0;
    if (count > MAP_INLINE_ARGS) {
        args = PyMem_Malloc((size_t)(1 + count) * sizeof *args);
        if (args == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    for (; got < count; got++) {
        PyObject *it = PyTuple_GET_ITEM(m->iterators, got);
        args[1 + got] = Py_TYPE(it)->tp_iternext(it);
        if (args[1 + got] == NULL) {
            if (PyErr_Occurred()) {
                if (PyErr_ExceptionMatches(PyExc_StopIteration)) {
                    PyErr_Clear();
                }
                else {
                    r = -1;
                }
            }
            break;
        }
    }
    if (got == count && count > 0) {
        PyObject *future;
        if (s->fast != NULL) {
            future = s->fast->submit(s->fast, m->fn, args + 1, (size_t)count, NULL);
        }
        else {
            args[0] = m->fn;
            future = PyObject_Vectorcall(s->submit, args, (size_t)(1 + count), NULL);
        }
        r = future == NULL ? -1 : 1;
        if (future != NULL && ring_push(m, future) < 0) {
            Py_DECREF(future);
            r = -1;
        }
        if (r > 0 && m->observer != NULL) {
            PyObject *seen = PyObject_CallOneArg(m->observer, future);
            r = seen == NULL ? -1 : 1;
            Py_XDECREF(seen);
        }
    }
    while (got > 0) {
        Py_DECREF(args[got--]);
    }
    if (args != space) {
        PyMem_Free(args);
    }
    return r;
}

/* The executor may be gone, or its iterators at an end: then there is no more to
   submit. */
static int
submit_ahead(MapIteratorObject *m, cf_state *st)
{
    if (m->iterators == NULL) {
        return 0;
    }
    PyObject *executor = PyObject_CallNoArgs(m->executor_ref);
    if (executor == NULL) {
        return -1;
    }
    int r = 0;
    if (executor != Py_None) {
        submitter s;
        r = submitter_init(st, &s, executor);
        if (r == 0) {
            r = submit_next(m, &s);
            Py_DECREF(s.submit);
        }
    }
    Py_DECREF(executor);
    if (r == 0) {
        Py_CLEAR(m->iterators);
    }
    return r < 0 ? -1 : 0;
}

/* ---- the iterator ---- */

static int
cancel(cf_state *st, PyObject *future)
{
    if (cf_future_check(st, future)) {
        return cf_future_cancel(st, (FutureObject *)future);
    }
    PyObject *r = PyObject_CallMethodNoArgs(future, st->str_cancel);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

/* End the iteration; keeps an exception that is set, and reports others.  `raises`: next()
   is raising it, so the caller learns that tasks fail, and what others raised is not
   reported as unread. */
static void
close_it(MapIteratorObject *m, cf_state *st, bool cancel_rest, bool raises)
{
    m->phase = CLOSED;
    PyObject **ring = m->ring;
    size_t mask = m->capacity - 1, head = m->head, count = m->count;
    m->ring = NULL;
    m->capacity = m->head = m->count = 0;
    PyObject *pending = PyErr_GetRaisedException();
    Py_CLEAR(m->iterators);
    Py_CLEAR(m->fn);
    Py_CLEAR(m->executor_ref);
    Py_CLEAR(m->observer);
    for (size_t i = 0; i < count; i++) {
        PyObject *future = ring[(head + i) & mask];
        if (cancel_rest && cancel(st, future) < 0) {
            PyErr_WriteUnraisable(future);
        }
        if (raises && cf_future_check(st, future)) {
            cf_future_mark_read((FutureObject *)future);
        }
        Py_DECREF(future);
    }
    PyMem_Free(ring);
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

static PyObject *
result_of(cf_state *st, PyObject *future, cf_deadline until)
{
    if (cf_future_check(st, future)) {
        return cf_future_result(st, (FutureObject *)future, until);
    }
    if (until == CF_FOREVER) {
        return PyObject_CallMethodNoArgs(future, st->str_result);
    }
    PyObject *left = PyFloat_FromDouble((double)(until - cf_now()) / 1e9);
    if (left == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_CallMethodOneArg(future, st->str_result, left);
    Py_DECREF(left);
    return result;
}

static PyObject *
next_result(MapIteratorObject *m, cf_state *st)
{
    if (m->count == 0 || submit_ahead(m, st) < 0) {
        return NULL;
    }
    PyObject *future = ring_pop(m);
    PyObject *result = result_of(st, future, m->until);
    if (result == NULL) {
        /* Time is up, or Ctrl-C: this one is not wanted any more either. */
        PyObject *exc = PyErr_GetRaisedException();
        if (cancel(st, future) < 0) {
            PyErr_WriteUnraisable(future);
        }
        PyErr_SetRaisedException(exc);
    }
    Py_DECREF(future);
    return result;
}

static bool
enter(MapIteratorObject *m)
{
    if (atomic_exchange_explicit(&m->busy, true, memory_order_acquire)) {
        PyErr_SetString(PyExc_ValueError, "generator already executing");
        return false;
    }
    return true;
}

static void
leave(MapIteratorObject *m)
{
    atomic_store_explicit(&m->busy, false, memory_order_release);
}

static PyObject *
map_tp_iternext(PyObject *op)
{
    MapIteratorObject *m = (MapIteratorObject *)op;
    cf_state *st = cf_state_of_module(m->module);
    if (!enter(m)) {
        return NULL;
    }
    PyObject *result = NULL;
    if (m->phase != CLOSED) {
        m->phase = RUNNING;
        result = next_result(m, st);
        if (result == NULL) {
            close_it(m, st, true, PyErr_Occurred() != NULL);
        }
    }
    leave(m);
    return result;
}

static PyObject *
map_py_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MapIteratorObject *m = (MapIteratorObject *)op;
    if (!enter(m)) {
        return NULL;
    }
    close_it(m, cf_state_of_module(m->module), m->phase == RUNNING, false);
    leave(m);
    Py_RETURN_NONE;
}

static PyObject *
map_py_observe(PyObject *op, PyObject *observer)
{
    MapIteratorObject *m = (MapIteratorObject *)op;
    if (!enter(m)) {
        return NULL;
    }
    bool more = m->iterators != NULL;
    int r = 0;
    if (more) {
        Py_XSETREF(m->observer, Py_NewRef(observer));
    }
    for (size_t i = 0; r == 0 && i < m->count; i++) {
        PyObject *future = Py_NewRef(m->ring[(m->head + i) & (m->capacity - 1)]);
        PyObject *seen = PyObject_CallOneArg(observer, future);
        Py_DECREF(future);
        r = seen == NULL ? -1 : 0;
        Py_XDECREF(seen);
    }
    leave(m);
    return r < 0 ? NULL : PyBool_FromLong(more);
}

static int
map_tp_traverse(PyObject *op, visitproc visit, void *arg)
{
    MapIteratorObject *m = (MapIteratorObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(m->module);
    Py_VISIT(m->executor_ref);
    Py_VISIT(m->fn);
    Py_VISIT(m->iterators);
    Py_VISIT(m->observer);
    for (size_t i = 0; i < m->count; i++) {
        Py_VISIT(m->ring[(m->head + i) & (m->capacity - 1)]);
    }
    return 0;
}

static int
map_tp_clear(PyObject *op)
{
    MapIteratorObject *m = (MapIteratorObject *)op;
    if (m->module != NULL) {
        cf_state *st = cf_state_of_module(m->module);
        /* A state without the type is being taken down with all who could care. */
        close_it(m, st, m->phase == RUNNING && st->future_type != NULL, false);
        Py_CLEAR(m->module);
    }
    return 0;
}

static void
map_tp_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    map_tp_clear(op);
    CF_GONE(map_iterator);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef map_methods[] = {
    {"close", map_py_close, METH_NOARGS, PyDoc_STR(
     "close($self, /)\n--\n\n"
     "End the iteration.  If it had begun, tasks that have not are cancelled.")},
    {"_observe", map_py_observe, METH_O, PyDoc_STR(
     "_observe($self, observer, /)\n--\n\n"
     "Call observer(future) for each future whose result was not yielded, now, and for each\n"
     "that will be submitted, then.  Returns True if more may be submitted.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot map_slots[] = {
    {Py_tp_doc, PyDoc_STR("The iterator that Executor.map() returns.")},
    {Py_tp_dealloc, map_tp_dealloc},
    {Py_tp_traverse, map_tp_traverse},
    {Py_tp_clear, map_tp_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, map_tp_iternext},
    {Py_tp_methods, map_methods},
    {0, NULL},
};

static PyType_Spec map_spec = {
    .name = "cfutures._core.MapIterator",
    .basicsize = sizeof(MapIteratorObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = map_slots,
};

/* ---- Executor.map ---- */

/* The keyword arguments of map(), which can be `fn` too if there is nothing to iterate
   over; -1 with TypeError or ValueError. */
static int
parse_options(PyObject *kwargs, PyObject **fn, cf_deadline *until, Py_ssize_t *buffersize,
              PyObject **progress)
{
    static char *names[] = {"timeout", "chunksize", "buffersize", "progress", "fn", NULL};
    PyObject *timeout = Py_None, *chunksize = NULL, *buffer = Py_None, *by_name = NULL;
    PyObject *empty = PyTuple_New(0);
    if (empty == NULL) {
        return -1;
    }
    *progress = Py_False;
    int ok = PyArg_ParseTupleAndKeywords(empty, kwargs, "|$OOOOO:map", names, &timeout,
                                         &chunksize, &buffer, progress, &by_name);
    Py_DECREF(empty);
    if (!ok) {
        return -1;
    }
    if (by_name != NULL && *fn != NULL) {
        PyErr_SetString(PyExc_TypeError, "map() got multiple values for argument 'fn'");
        return -1;
    }
    *fn = by_name != NULL ? by_name : *fn;
    if (*fn == NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "map() missing 1 required positional argument: 'fn'");
        return -1;
    }
    *buffersize = 0;
    if (buffer != Py_None) {
        if (!PyLong_Check(buffer)) {
            PyErr_SetString(PyExc_TypeError, "buffersize must be an integer or None");
            return -1;
        }
        int overflow;
        long long size = PyLong_AsLongLongAndOverflow(buffer, &overflow);
        if (overflow < 0 || (overflow == 0 && size < 1)) {
            PyErr_SetString(PyExc_ValueError, "buffersize must be None or > 0");
            return -1;
        }
        *buffersize = overflow > 0 || size > PY_SSIZE_T_MAX ? PY_SSIZE_T_MAX
                                                            : (Py_ssize_t)size;
    }
    return cf_deadline_from_now(timeout, until);
}

PyObject *
cf_executor_py_map(PyObject *self, PyObject *args, PyObject *kwargs)
{
    cf_state *st = cf_state_of(Py_TYPE(self));
    cf_deadline until;
    Py_ssize_t buffersize, iterables = PyTuple_GET_SIZE(args) - 1;
    PyObject *fn = iterables < 0 ? NULL : PyTuple_GET_ITEM(args, 0), *progress;
    if (parse_options(kwargs, &fn, &until, &buffersize, &progress) < 0) {
        return NULL;
    }
    if (iterables < 0) {
        iterables = 0;
    }
    MapIteratorObject *m = (MapIteratorObject *)st->MapIterator->tp_alloc(st->MapIterator, 0);
    if (m == NULL) {
        return NULL;
    }
    CF_BORN(map_iterator);
    submitter s = {NULL, NULL};
    m->module = Py_NewRef(PyType_GetModule(st->MapIterator));
    m->until = until;
    m->fn = Py_NewRef(fn);
    m->iterators = PyTuple_New(iterables);
    if (m->iterators == NULL) {
        goto error;
    }
    for (Py_ssize_t i = 0; i < iterables; i++) {
        PyObject *it = PyObject_GetIter(PyTuple_GET_ITEM(args, 1 + i));
        if (it == NULL) {
            goto error;
        }
        PyTuple_SET_ITEM(m->iterators, i, it);
    }
    if (submitter_init(st, &s, self) < 0) {
        goto error;
    }
    int r = 1;
    for (Py_ssize_t i = 0; r > 0 && (buffersize == 0 || i < buffersize); i++) {
        r = submit_next(m, &s);
    }
    if (r < 0) {
        goto error;
    }
    Py_CLEAR(s.submit);
    if (r == 0 || buffersize == 0) {
        Py_CLEAR(m->iterators);
        Py_CLEAR(m->fn);
    }
    else {
        m->executor_ref = PyWeakref_NewRef(self, NULL);
        if (m->executor_ref == NULL) {
            goto error;
        }
    }
    if (progress == Py_False || progress == Py_None) {
        return (PyObject *)m;
    }
    PyObject *shown = PyObject_CallFunctionObjArgs(st->show_progress, m, args, progress, NULL);
    Py_DECREF(m);
    return shown;

error:
    /* What was submitted goes on, as in the standard library. */
    Py_XDECREF(s.submit);
    Py_DECREF(m);
    return NULL;
}

/* ---- _core.Executor ---- */

static PyMethodDef executor_methods[] = {
    {"map", (PyCFunction)(void (*)(void))cf_executor_py_map,
     METH_VARARGS | METH_KEYWORDS, PyDoc_STR(
     "map($self, fn, *iterables, timeout=None, chunksize=1, buffersize=None,\n"
     "    progress=False)\n--\n\n"
     "Like map(fn, *iterables), with the calls made by the executor.\n\n"
     "All calls are submitted at once, through self.submit, and the results come in\n"
     "order.  timeout: seconds from now for all results (None: no limit), after which\n"
     "next() raises TimeoutError.  chunksize: tasks sent together to a process; threads\n"
     "ignore it.  buffersize: submit only so many tasks ahead of the result that is\n"
     "being waited for (None: all).  progress: show how many tasks have ended, as\n"
     "cfutures.progress() does; a text is shown beside it.\n"
     "Raises TypeError or ValueError for a buffersize that is not an int above 0; the\n"
     "first exception of a call is raised by next(), which then cancels the rest.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot executor_slots[] = {
    {Py_tp_doc, PyDoc_STR("Executor()\n--\n\nWhat all executors share.")},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_methods, executor_methods},
    {0, NULL},
};

static PyType_Spec executor_spec = {
    .name = "cfutures._core.Executor",
    .basicsize = sizeof(ExecutorObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = executor_slots,
};

int
cf_executor_add_types(PyObject *module, cf_state *st)
{
    st->ExecutorBase = (PyTypeObject *)PyType_FromModuleAndSpec(module, &executor_spec, NULL);
    st->MapIterator = (PyTypeObject *)PyType_FromModuleAndSpec(module, &map_spec, NULL);
    if (st->ExecutorBase == NULL || st->MapIterator == NULL) {
        return -1;
    }
    return PyModule_AddType(module, st->ExecutorBase);
}
