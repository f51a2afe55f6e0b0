/* Done-callbacks: a list of hooks on the future, or, once somebody has asked for
   `_done_callbacks`, the Python list that they were given. */
#include "future/future.h"

#include "future/emulation.h"
#include "future/remote.h"

/* An Exception out of a callback is logged, what is more than that propagates. */
static int
call_one(cf_state *st, FutureObject *f, PyObject *fn)
{
    PyObject *r = PyObject_CallOneArg(fn, (PyObject *)f);
    if (r != NULL) {
        Py_DECREF(r);
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyObject *exc = PyErr_GetRaisedException();
    r = PyObject_CallFunctionObjArgs(st->log_callback_error, f, exc, NULL);
    Py_DECREF(exc);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

int
cf_future_add_callback(cf_state *st, FutureObject *f, PyObject *fn)
{
    uint32_t word = cf_future_load(f);
    if (word & CF_DONE) {
        return call_one(st, f, fn);
    }
    cf_callback_hook *hook = PyMem_Malloc(sizeof *hook);
    if (hook == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    CF_BORN(callback);
    hook->hook.kind = CF_HOOK_CALLBACK;
    hook->fn = Py_NewRef(fn);
    if (!(cf_future_has(f) & (CF_HAS_CALL | CF_HAS_TRACE))) {
        /* A pool's future is held by the pool until its callbacks have run and are
           dropped: until then it is no garbage, whatever they refer to. */
        cf_future_track(f);
    }

    word = cf_cell_lock(&f->cell);
    bool listed = f->emulation != NULL && f->emulation->callbacks != NULL;
    if (!(word & CF_DONE) && !listed) {
        hook->hook.next = f->hooks;
        f->hooks = &hook->hook;
        cf_cell_unlock(&f->cell, 0, CF_HOOKED & ~word);
        return (word & CF_REMOTE) ? cf_remote_watch(st, f) : 0;
    }
    cf_cell_unlock(&f->cell, 0, 0);
    CF_GONE(callback);
    PyMem_Free(hook);
    int added = 0;
    if (!(word & CF_DONE)) {
        PyObject *r = PyObject_CallFunctionObjArgs(st->add_callback_emulated, f, fn, NULL);
        added = r == NULL ? -1 : PyObject_IsTrue(r);
        Py_XDECREF(r);
    }
    int r = added < 0 ? -1 : added > 0 ? 0 : call_one(st, f, fn);
    Py_DECREF(fn);
    return r;
}

/* Take the callback hooks off the future, oldest first; tickets stay. */
static cf_hook *
detach_callbacks(FutureObject *f)
{
    cf_hook *oldest = NULL;
    cf_cell_lock(&f->cell);
    cf_hook **at = &f->hooks;
    while (*at != NULL) {
        cf_hook *hook = *at;
        if (hook->kind == CF_HOOK_CALLBACK) {
            *at = hook->next;
            hook->next = oldest;
            oldest = hook;
        }
        else {
            at = &hook->next;
        }
    }
    cf_cell_unlock(&f->cell, 0, 0);
    return oldest;
}

void
cf_future_free_callbacks(cf_hook *hooks)
{
    while (hooks != NULL) {
        cf_hook *next = hooks->next;
        if (hooks->kind == CF_HOOK_CALLBACK) {
            cf_callback_hook *callback = cf_container_of(hooks, cf_callback_hook, hook);
            Py_DECREF(callback->fn);
            CF_GONE(callback);
            PyMem_Free(callback);
        }
        hooks = next;
    }
}

int
cf_future_run_callbacks(cf_state *st, FutureObject *f)
{
    cf_hook *hooks = detach_callbacks(f);
    while (hooks != NULL) {
        cf_callback_hook *callback = cf_container_of(hooks, cf_callback_hook, hook);
        PyObject *fn = callback->fn;
        hooks = hooks->next;
        CF_GONE(callback);
        PyMem_Free(callback);
        int r = call_one(st, f, fn);
        Py_DECREF(fn);
        if (r < 0) {
            cf_future_free_callbacks(hooks);
            return -1;
        }
    }
    PyObject *list = cf_emulated_callbacks(f);
    if (list == NULL || !PyList_Check(list)) {
        Py_XDECREF(list);
        return 0;
    }
    int r = 0;
    for (Py_ssize_t i = 0; r == 0 && i < PyList_GET_SIZE(list); i++) {
        PyObject *fn = Py_NewRef(PyList_GET_ITEM(list, i));
        r = call_one(st, f, fn);
        Py_DECREF(fn);
    }
    Py_DECREF(list);
    return r;
}

int
cf_future_callbacks(cf_state *st, FutureObject *f)
{
    uint32_t word = cf_future_load(f);
    if (Py_IS_TYPE(f, (PyTypeObject *)st->future_type) && !(word & CF_OVERRIDDEN)) {
        if (!(word & CF_HOOKED) && f->emulation == NULL) {
            return 0;
        }
        return cf_future_run_callbacks(st, f);
    }
    PyObject *r = PyObject_CallMethodNoArgs((PyObject *)f, st->str_invoke_callbacks);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}
