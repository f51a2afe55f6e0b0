/* What is known of a future's call when it is over: the function's name, who ran it and
   when, and whether anybody has asked for the exception. */
#include "future/future.h"

#include <string.h>

#include "future/remote.h"

/* ---- the name ---- */

static PyObject *
type_name(PyTypeObject *type)
{
    if (type->tp_flags & Py_TPFLAGS_HEAPTYPE) {
        return Py_NewRef(((PyHeapTypeObject *)type)->ht_qualname);
    }
    return Py_NewRef(type);
}

/* A type of C's, whose attributes are C's as well: numpy.ufunc and the like. */
static PyObject *
static_callable_name(PyObject *fn)
{
    PyObject *name = PyObject_GetAttrString(fn, "__name__");
    if (name == NULL) {
        PyErr_Clear();          /* it has none */
        return type_name(Py_TYPE(fn));
    }
    return name;
}

PyObject *
cf_call_name(PyObject *fn)
{
    if (PyMethod_Check(fn)) {
        fn = PyMethod_GET_FUNCTION(fn);
    }
    /* The usual kinds cost a reference.  Those that keep objects of the user's alive are not
       kept themselves: a task lets go of its function when it is done. */
    if (PyFunction_Check(fn)) {
        return Py_NewRef(((PyFunctionObject *)fn)->func_qualname);
    }
    if (PyCFunction_Check(fn)) {
        PyObject *self = PyCFunction_GET_SELF(fn);
        if (self == NULL || PyModule_Check(self)) {
            return Py_NewRef(fn);
        }
        PyObject *name = PyUnicode_InternFromString(
            ((PyCFunctionObject *)fn)->m_ml->ml_name);
        if (name == NULL) {
            PyErr_Clear();      /* a name is not worth an error */
        }
        return name;
    }
    if (PyType_Check(fn)) {
        return type_name((PyTypeObject *)fn);
    }
    if (!(Py_TYPE(fn)->tp_flags & Py_TPFLAGS_HEAPTYPE)) {
        return static_callable_name(fn);
    }
    if (strcmp(Py_TYPE(fn)->tp_name, "functools.partial") == 0) {
        PyObject *inner = PyObject_GetAttrString(fn, "func");
        if (inner == NULL) {
            PyErr_Clear();      /* another type of that name */
            return type_name(Py_TYPE(fn));
        }
        PyObject *name = PyObject_TypeCheck(inner, Py_TYPE(fn)) ? type_name(Py_TYPE(fn))
                                                                : cf_call_name(inner);
        Py_DECREF(inner);
        return name;
    }
    return type_name(Py_TYPE(fn));
}

void
cf_future_set_name(FutureObject *f, PyObject *name)
{
    f->u.name = name;
    cf_future_set_has(f, CF_HAS_NAME);
}

void
cf_future_drop_name(FutureObject *f)
{
    uint32_t has = cf_future_has(f);
    if (has & CF_HAS_NAME) {
        cf_future_set_has(f, has & ~(uint32_t)CF_HAS_NAME);
        Py_CLEAR(f->u.name);
    }
}

/* What the future knows its function by (new), or NULL. */
static PyObject *
name_of(FutureObject *f)
{
    PyObject *fn = NULL, *name = NULL;
    /* With the lock nobody claims it, so the call stays where it is. */
    uint32_t word = cf_cell_lock(&f->cell), has = cf_future_has(f);
    if (has & CF_HAS_NAME) {
        name = Py_XNewRef(f->u.name);
    }
    else if ((has & CF_HAS_CALL) && (word & CF_STATE) == CF_STATE_PENDING) {
        fn = Py_NewRef(f->u.call.fn);
    }
    cf_cell_unlock(&f->cell, 0, 0);
    if (fn != NULL) {
        name = cf_call_name(fn);
        Py_DECREF(fn);
    }
    return name;
}

/* ---- who and when ---- */

/* Is there a trace?  In `trace` a copy of it. */
static bool
trace_of(FutureObject *f, cf_trace *trace)
{
    bool known = false;
    cf_cell_lock(&f->cell);
    uint32_t has = cf_future_has(f);
    if (has & CF_HAS_TRACE) {
        cf_trace *from = &f->u.trace;
        *trace = (cf_trace){from->started, cf_load_relaxed(&from->finished), from->pool,
                            from->worker};
        known = true;
    }
    else if (has & CF_HAS_REMOTE) {
        cf_remote_task *task = &f->u.remote;
        known = task->pool->ops->trace(task->pool, task->slot, trace);
    }
    cf_cell_unlock(&f->cell, 0, 0);
    return known;
}

/* From one stamp to another, in seconds (new). */
static PyObject *
seconds(uint32_t from, uint32_t to)
{
    int32_t between = (int32_t)(to - from);
    return PyFloat_FromDouble(between < 0 ? 0.0 : (uint32_t)between / 1e3);
}

static PyObject *
or_none(PyObject *obj)          /* steals */
{
    return obj != NULL || PyErr_Occurred() ? obj : Py_NewRef(Py_None);
}

PyObject *
cf_future_trace(FutureObject *f)
{
    cf_trace trace;
    bool known = trace_of(f, &trace);
    bool done = (cf_future_load(f) & CF_DONE) != 0;
    uint32_t now = cf_now_stamp();
    PyObject *name = or_none(name_of(f)), *pool = NULL, *worker = NULL, *queued = NULL;
    PyObject *ran = NULL;
    if (known) {
        uint32_t end = cf_load_relaxed(&trace.finished);
        uint32_t start = cf_load_relaxed(&trace.started);
        pool = trace.pool == CF_IN_PROCESS ? PyLong_FromLong(-1)
                                           : PyLong_FromUnsignedLong(trace.pool);
        worker = PyLong_FromUnsignedLong(trace.worker);
        if (f->submitted != 0) {
            queued = seconds(f->submitted, start);
        }
        /* Without an end, and yet done: it was set by hand. */
        if (end != 0 || !done) {
            ran = seconds(start, end != 0 ? end : now);
        }
    }
    else if (f->submitted != 0 && !done) {
        queued = seconds(f->submitted, now);
    }
    pool = or_none(pool);
    worker = or_none(worker);
    queued = or_none(queued);
    ran = or_none(ran);
    if (name == NULL || pool == NULL || worker == NULL || queued == NULL || ran == NULL) {
        Py_XDECREF(name);
        Py_XDECREF(pool);
        Py_XDECREF(worker);
        Py_XDECREF(queued);
        Py_XDECREF(ran);
        return NULL;
    }
    return Py_BuildValue("NNNNN", name, pool, worker, queued, ran);
}

/* ---- has anybody asked? ---- */

int
cf_future_report_unread(cf_state *st, FutureObject *f)
{
    const uint32_t unread = CF_DONE | CF_FAILED;
    if (!cf_load_relaxed(&st->warn_unread) || st->log_unread == NULL) {
        return 0;
    }
    uint32_t word = cf_future_load(f);
    if ((word & (unread | CF_CANCELLED | CF_READ)) != unread) {
        return 0;
    }
    if (cf_future_settle(st, f, &word) < 0) {
        return -1;
    }
    if ((word & (unread | CF_CANCELLED | CF_READ)) != unread) {
        return 0;
    }
    cf_future_mark_read(f);
    PyObject *name = or_none(name_of(f));
    PyObject *r = name == NULL ? NULL : PyObject_CallFunctionObjArgs(
        st->log_unread, name, f->result, NULL);
    Py_XDECREF(name);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}
