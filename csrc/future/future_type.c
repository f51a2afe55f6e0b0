/* _core.Future as Python sees it: methods, repr, life and death.

   cfutures.Future derives from this type and from concurrent.futures.Future, so that
   isinstance() holds where asyncio and others ask, and so that instance dictionary
   and weak references are CPython's business. */
#include "future/future.h"

#include <stddef.h>

#include "future/emulation.h"
#include "py/block.h"

static cf_state *
state_of(PyObject *self)
{
    return cf_state_of(Py_TYPE(self));
}

/* ---- waiting for the result ---- */

/* The one argument `name` of a method, by position or keyword (borrowed); without it
   `missing`, or TypeError if that is NULL. */
static int
parse_one(const char *method, const char *name, PyObject *missing, PyObject *const *args,
          Py_ssize_t nargs, PyObject *kwnames, PyObject **value)
{
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    *value = missing;
    for (Py_ssize_t i = 0; i < nkw; i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i);
        if (PyUnicode_CompareWithASCIIString(key, name) != 0) {
            PyErr_Format(PyExc_TypeError,
                         "Future.%s() got an unexpected keyword argument %R", method, key);
            return -1;
        }
    }
    if (nargs + nkw > 1) {
        PyErr_Format(PyExc_TypeError, "Future.%s() takes %s 1 argument (%zd given)",
                     method, missing == NULL ? "exactly" : "at most", nargs + nkw);
        return -1;
    }
    if (nargs + nkw == 1) {
        *value = args[0];
    }
    if (*value == NULL) {
        PyErr_Format(PyExc_TypeError,
                     "Future.%s() missing 1 required positional argument: '%s'", method,
                     name);
        return -1;
    }
    return 0;
}

/* The deadline is read only if there is something to wait for, as in the standard
   library. */
static int
deadline_if_pending(FutureObject *f, PyObject *timeout, cf_deadline *until)
{
    *until = CF_FOREVER;
    if (timeout == Py_None || (cf_future_load(f) & CF_DONE)) {
        return 0;
    }
    return cf_deadline_from_timeout(timeout, until);
}

static PyObject *
future_py_result(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    FutureObject *f = (FutureObject *)self;
    PyObject *timeout;
    cf_deadline until;
    if (parse_one("result", "timeout", Py_None, args, nargs, kwnames, &timeout) < 0
        || deadline_if_pending(f, timeout, &until) < 0)
    {
        return NULL;
    }
    return cf_future_result(state_of(self), f, until);
}

static PyObject *
future_py_exception(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    FutureObject *f = (FutureObject *)self;
    PyObject *timeout;
    cf_deadline until;
    if (parse_one("exception", "timeout", Py_None, args, nargs, kwnames, &timeout) < 0
        || deadline_if_pending(f, timeout, &until) < 0)
    {
        return NULL;
    }
    cf_state *st = state_of(self);
    uint32_t word;
    if (cf_future_block(st, f, CF_DONE, until) < 0 || cf_future_receive(st, f, &word) < 0) {
        return NULL;
    }
    if (!(word & CF_DONE)) {
        PyErr_SetNone(PyExc_TimeoutError);
        return NULL;
    }
    if (word & CF_CANCELLED) {
        PyErr_SetNone(st->cancelled_error);
        return NULL;
    }
    if (!(word & CF_FAILED)) {
        Py_RETURN_NONE;
    }
    cf_future_mark_read(f);
    return Py_NewRef(f->result);
}

/* ---- asking and moving ---- */

static PyObject *
future_py_done(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong((cf_future_load((FutureObject *)self) & CF_DONE) != 0);
}

static PyObject *
future_py_running(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong((cf_future_load((FutureObject *)self) & CF_RUNNING) != 0);
}

static PyObject *
future_py_has_failed(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong((cf_future_load((FutureObject *)self) & CF_FAILED) != 0);
}

static PyObject *
future_py_cancelled(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong((cf_future_load((FutureObject *)self) & CF_CANCELLED) != 0);
}

static PyObject *
future_py_cancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    int r = cf_future_cancel(state_of(self), (FutureObject *)self);
    return r < 0 ? NULL : PyBool_FromLong(r);
}

static PyObject *
future_py_set_result(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    PyObject *result;
    if (parse_one("set_result", "result", NULL, args, nargs, kwnames, &result) < 0) {
        return NULL;
    }
    if (cf_future_finish(state_of(self), (FutureObject *)self, Py_NewRef(result),
                         false) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
future_py_set_exception(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    PyObject *exc;
    if (parse_one("set_exception", "exception", NULL, args, nargs, kwnames, &exc) < 0) {
        return NULL;
    }
    if (cf_future_finish(state_of(self), (FutureObject *)self, Py_NewRef(exc), true) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
future_py_set_running(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_state *st = state_of(self);
    FutureObject *f = (FutureObject *)self;
    bool unexpected;
    if (cf_future_claim(st, f, &unexpected)) {
        cf_future_drop_call(f);         /* a pool's: nobody else will run it now */
        Py_RETURN_TRUE;
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (!unexpected) {
        Py_RETURN_FALSE;
    }
    PyObject *r = PyObject_CallOneArg(st->log_unexpected_state, self);
    if (r == NULL) {
        return NULL;
    }
    Py_DECREF(r);
    PyErr_SetString(PyExc_RuntimeError, "Future in unexpected state");
    return NULL;
}

static PyObject *
future_py_add_done_callback(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames)
{
    PyObject *fn;
    if (parse_one("add_done_callback", "fn", NULL, args, nargs, kwnames, &fn) < 0) {
        return NULL;
    }
    if (cf_future_add_callback(state_of(self), (FutureObject *)self, fn) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
future_py_invoke_callbacks(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (cf_future_run_callbacks(state_of(self), (FutureObject *)self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
future_py_get_snapshot(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    FutureObject *f = (FutureObject *)self;
    uint32_t word;
    if (cf_future_settle(state_of(self), f, &word) < 0) {
        return NULL;
    }
    bool done = (word & CF_DONE) != 0, cancelled = (word & CF_CANCELLED) != 0;
    PyObject *result = Py_None, *exception = Py_None;
    if (done && !cancelled && f->result != NULL) {
        *((word & CF_FAILED) ? &exception : &result) = f->result;
    }
    return PyTuple_Pack(4, done ? Py_True : Py_False, cancelled ? Py_True : Py_False,
                        result, exception);
}

static PyObject *
future_py_trace(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return cf_future_trace((FutureObject *)self);
}

static PyObject *
future_py_report_unread(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (cf_future_report_unread(state_of(self), (FutureObject *)self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
future_py_reduce(PyObject *self, PyObject *Py_UNUSED(protocol))
{
    PyErr_Format(PyExc_TypeError, "cannot pickle '%s' object", Py_TYPE(self)->tp_name);
    return NULL;
}

static PyObject *
future_tp_repr(PyObject *self)
{
    static const char *const words[] = {"pending", "running", "cancelled", "finished"};
    FutureObject *f = (FutureObject *)self;
    PyObject *name = PyType_GetName(Py_TYPE(self));
    if (name == NULL) {
        return NULL;
    }
    bool failed = false;
    PyObject *result = NULL;
    uint32_t word;
    if (cf_future_settle(state_of(self), f, &word) < 0) {
        Py_DECREF(name);
        return NULL;
    }
    word = cf_cell_lock(&f->cell);
    if (word & CF_DONE) {
        result = Py_XNewRef(f->result);
        failed = (word & CF_FAILED) != 0;
    }
    cf_cell_unlock(&f->cell, 0, 0);
    const char *state = (word & CF_CANCELLED) ? words[2]
                      : (word & CF_DONE) ? words[3]
                      : (word & CF_RUNNING) ? words[1] : words[0];
    PyObject *repr;
    if (state == words[3]) {
        cf_state *st = state_of(self);
        PyObject *type = PyObject_GetAttr(result == NULL ? Py_None : result, st->str_class);
        PyObject *of = type == NULL ? NULL : PyObject_GetAttr(type, st->str_name);
        repr = of == NULL ? NULL : PyUnicode_FromFormat(
            "<%U at %p state=%s %s %S>", name, self, state, failed ? "raised" : "returned",
            of);
        Py_XDECREF(of);
        Py_XDECREF(type);
    }
    else {
        repr = PyUnicode_FromFormat("<%U at %p state=%s>", name, self, state);
    }
    Py_XDECREF(result);
    Py_DECREF(name);
    return repr;
}

/* ---- life and death ---- */

static int
future_tp_init(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
    Py_ssize_t given = PyTuple_GET_SIZE(args);
    if (given != 0) {
        PyErr_Format(PyExc_TypeError,
                     "Future.__init__() takes 1 positional argument but %zd were given",
                     given + 1);
        return -1;
    }
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
        PyObject *key, *value;
        Py_ssize_t pos = 0;
        PyDict_Next(kwargs, &pos, &key, &value);
        PyErr_Format(PyExc_TypeError,
                     "Future.__init__() got an unexpected keyword argument %R", key);
        return -1;
    }
    return 0;
}

/* An attribute can refer back to the future. */
static int
future_tp_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    FutureObject *f = (FutureObject *)self;
    cf_future_track(f);
    if (PyUnicode_Check(name)
        && PyUnicode_CompareWithASCIIString(name, "_invoke_callbacks") == 0)
    {
        uint32_t word = cf_cell_lock(&f->cell);
        cf_cell_unlock(&f->cell, 0, CF_OVERRIDDEN & ~word);
    }
    return PyObject_GenericSetAttr(self, name, value);
}

static int
future_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    FutureObject *f = (FutureObject *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(f->result);
    if (cf_future_has(f) & CF_HAS_CALL) {
        PyObject *kwnames = f->u.call.kwnames;
        size_t total = f->nargs + (kwnames == NULL ? 0 : (size_t)PyTuple_GET_SIZE(kwnames));
        PyObject **args = total > CF_INLINE_ARGS ? f->u.call.args.block
                                                 : f->u.call.args.inlined;
        Py_VISIT(f->u.call.fn);
        for (size_t i = 0; i < total; i++) {
            Py_VISIT(args[i]);
        }
    }
    for (cf_hook *hook = f->hooks; hook != NULL; hook = hook->next) {
        if (hook->kind == CF_HOOK_CALLBACK) {
            Py_VISIT(cf_container_of(hook, cf_callback_hook, hook)->fn);
        }
    }
    return f->emulation == NULL ? 0 : cf_emulation_traverse(f->emulation, visit, arg);
}

static int
future_tp_clear(PyObject *self)
{
    FutureObject *f = (FutureObject *)self;
    /* What a pool's queue refers to is not garbage, so this future is in none. */
    cf_hook *hooks = f->hooks;
    cf_emulation *emulation = f->emulation;
    f->hooks = NULL;
    f->emulation = NULL;
    Py_CLEAR(f->result);
    cf_future_drop_call(f);
    cf_future_drop_remote(f);
    cf_future_drop_name(f);
    cf_future_free_callbacks(hooks);
    if (emulation != NULL) {
        cf_emulation_free(emulation);
    }
    return 0;
}

FutureObject *
cf_future_alloc(cf_state *st)
{
    PyTypeObject *type = (PyTypeObject *)st->future_type;
    FutureObject *f = PyObject_GC_New(FutureObject, type);
    if (f == NULL) {
        return NULL;
    }
    memset((char *)f + sizeof(PyObject), 0, (size_t)type->tp_basicsize - sizeof(PyObject));
    CF_BORN(future);
#if !CF_UNTRACK_PENDING
    PyObject_GC_Track(f);
#endif
    return f;
}

static PyObject *
future_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyObject *self = type->tp_alloc(type, 0);
    if (self != NULL) {
        CF_BORN(future);
    }
    return self;
}

static void
future_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    future_tp_clear(self);
    CF_GONE(future);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef future_methods[] = {
    {"cancel", future_py_cancel, METH_NOARGS, PyDoc_STR(
     "cancel($self, /)\n--\n\n"
     "Cancel the future if it has not begun.\n\n"
     "Returns True if it is cancelled now, False if it is running or finished.")},
    {"cancelled", future_py_cancelled, METH_NOARGS, PyDoc_STR(
     "cancelled($self, /)\n--\n\nReturn True if the future was cancelled.")},
    {"running", future_py_running, METH_NOARGS, PyDoc_STR(
     "running($self, /)\n--\n\nReturn True if the future is being executed.")},
    {"done", future_py_done, METH_NOARGS, PyDoc_STR(
     "done($self, /)\n--\n\nReturn True if the future was cancelled or has finished.")},
    {"result", (PyCFunction)(void (*)(void))future_py_result,
     METH_FASTCALL | METH_KEYWORDS, PyDoc_STR(
     "result($self, /, timeout=None)\n--\n\n"
     "Return what the call returned, or raise what it raised.\n\n"
     "timeout: seconds to wait if the future is not done; None or infinity: no limit.\n"
     "Raises TimeoutError if it is not done by then, CancelledError if it was cancelled.")},
    {"exception", (PyCFunction)(void (*)(void))future_py_exception,
     METH_FASTCALL | METH_KEYWORDS, PyDoc_STR(
     "exception($self, /, timeout=None)\n--\n\n"
     "Return the exception that the call raised, or None.\n\n"
     "timeout: seconds to wait if the future is not done; None or infinity: no limit.\n"
     "Raises TimeoutError if it is not done by then, CancelledError if it was cancelled.")},
    {"add_done_callback", (PyCFunction)(void (*)(void))future_py_add_done_callback,
     METH_FASTCALL | METH_KEYWORDS, PyDoc_STR(
     "add_done_callback($self, /, fn)\n--\n\n"
     "Call fn(future) when the future is done, or now if it is.\n\n"
     "Callbacks run in the order in which they were added, in the thread that completes\n"
     "or cancels the future.  An Exception out of one is logged to the logger\n"
     "'concurrent.futures'.")},
    {"set_result", (PyCFunction)(void (*)(void))future_py_set_result,
     METH_FASTCALL | METH_KEYWORDS, PyDoc_STR(
     "set_result($self, /, result)\n--\n\n"
     "Finish with a result; for executors and tests.\n\n"
     "Raises InvalidStateError if the future is done.")},
    {"set_exception", (PyCFunction)(void (*)(void))future_py_set_exception,
     METH_FASTCALL | METH_KEYWORDS, PyDoc_STR(
     "set_exception($self, /, exception)\n--\n\n"
     "Finish with an exception; for executors and tests.\n\n"
     "Raises InvalidStateError if the future is done.")},
    {"set_running_or_notify_cancel", future_py_set_running, METH_NOARGS, PyDoc_STR(
     "set_running_or_notify_cancel($self, /)\n--\n\n"
     "Mark the future as running (True); for executors and tests.\n\n"
     "If it was cancelled, tell those who wait for it and return False.  Raises\n"
     "RuntimeError in any other state.")},
    {"_invoke_callbacks", future_py_invoke_callbacks, METH_NOARGS, PyDoc_STR(
     "_invoke_callbacks($self, /)\n--\n\nCall the callbacks; subclasses may override it.")},
    {"_get_snapshot", future_py_get_snapshot, METH_NOARGS, PyDoc_STR(
     "_get_snapshot($self, /)\n--\n\nReturn (done, cancelled, result, exception) at once.")},
    {"_has_failed", future_py_has_failed, METH_NOARGS, PyDoc_STR(
     "_has_failed($self, /)\n--\n\n"
     "Return True if it finished with an exception, without reading that.")},
    {"_trace", future_py_trace, METH_NOARGS, PyDoc_STR(
     "_trace($self, /)\n--\n\n"
     "Return (function, pool, worker, queued, ran), each None if it is not known.\n\n"
     "function: something with a __qualname__, or a name; pool: the number of a thread\n"
     "pool, worker: of its thread; pool -1: worker is a process's identifier; queued, ran:\n"
     "seconds so far or in all, as coarse as the kernel's tick, some milliseconds.")},
    {"_report_unread", future_py_report_unread, METH_NOARGS, PyDoc_STR(
     "_report_unread($self, /)\n--\n\n"
     "If it failed and nobody has asked, say so; warn_unread() makes this its __del__.")},
    {"_commit", (PyCFunction)(void (*)(void))cf_future_py_commit, METH_FASTCALL, PyDoc_STR(
     "_commit($self, how, value, /)\n--\n\n"
     "The bare change of state, for cfutures._base, which holds _condition.")},
    {"__reduce_ex__", future_py_reduce, METH_O, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, PyDoc_STR(
     "Future[int]: the type of a future whose result is an int.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot future_slots[] = {
    {Py_tp_doc, PyDoc_STR("Future()\n--\n\nThe engine of cfutures.Future.")},
    {Py_tp_new, future_tp_new},
    {Py_tp_init, future_tp_init},
    {Py_tp_dealloc, future_tp_dealloc},
    {Py_tp_traverse, future_tp_traverse},
    {Py_tp_clear, future_tp_clear},
    {Py_tp_repr, future_tp_repr},
    {Py_tp_setattro, future_tp_setattro},
    {Py_tp_methods, future_methods},
    {Py_tp_getset, cf_future_getset},
    {0, NULL},
};

static PyType_Spec future_spec = {
    .name = "cfutures._core.Future",
    .basicsize = sizeof(FutureObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = future_slots,
};

int
cf_future_add_type(PyObject *module, cf_state *st)
{
    st->FutureBase = (PyTypeObject *)PyType_FromModuleAndSpec(module, &future_spec, NULL);
    return st->FutureBase == NULL ? -1 : PyModule_AddType(module, st->FutureBase);
}
