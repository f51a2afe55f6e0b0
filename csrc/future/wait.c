/* wait() */
#include "future/wait.h"

#include "future/watch.h"
#include "py/block.h"

typedef enum { FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED, INVALID } return_when;

static return_when
parse_return_when(PyObject *obj)
{
    static const char *const names[] = {"FIRST_COMPLETED", "FIRST_EXCEPTION",
                                        "ALL_COMPLETED"};
    if (PyUnicode_Check(obj)) {
        for (int i = 0; i < 3; i++) {
            if (PyUnicode_CompareWithASCIIString(obj, names[i]) == 0) {
                return (return_when)i;
            }
        }
    }
    return INVALID;
}

/* Of the set `fs`, the list of those that are not done (new); counts the failures
   among the others. */
static PyObject *
list_pending(cf_state *st, PyObject *fs, Py_ssize_t *failures)
{
    PyObject *pending = NULL;
    *failures = 0;
    PyObject *it = PyObject_GetIter(fs);
    if (it == NULL) {
        return NULL;
    }
    PyObject *f;
    while ((f = PyIter_Next(it)) != NULL) {
        int done = cf_watch_is_done(st, f);
        if (done == 0) {
            if (pending == NULL) {
                pending = PyList_New(0);
            }
            if (pending == NULL || PyList_Append(pending, f) < 0) {
                done = -1;
            }
        }
        else if (done > 0) {
            int failed = cf_watch_is_failed(st, f);
            *failures += failed > 0;
            done = failed < 0 ? -1 : 1;
        }
        Py_DECREF(f);
        if (done < 0) {
            break;
        }
    }
    Py_DECREF(it);
    if (PyErr_Occurred()) {
        Py_XDECREF(pending);
        return NULL;
    }
    return pending == NULL ? PyList_New(0) : pending;
}

/* All of our own futures of the list, one after the other, the youngest first: it is
   likely to be the last to finish, and then there is one sleep in all.  No future is
   registered anywhere.  1 all done, 0 deadline, -1 error. */
static int
wait_for_each(cf_state *st, PyObject *pending, cf_deadline until)
{
    for (Py_ssize_t i = PyList_GET_SIZE(pending) - 1; i >= 0; i--) {
        FutureObject *f = (FutureObject *)PyList_GET_ITEM(pending, i);
        if (!(cf_future_load(f) & CF_NOTIFIED)) {
            int r = cf_future_block(st, f, CF_NOTIFIED, until);
            if (r <= 0) {
                return r;
            }
        }
    }
    return 1;
}

static int
wait_watching(cf_state *st, PyObject *pending, return_when when, cf_deadline until)
{
    static const cf_wake_when wake[] = {CF_WAKE_EACH, CF_WAKE_FAILURE, CF_WAKE_LAST};
    cf_watch *w = cf_watch_new(pending, wake[when]);
    if (w == NULL) {
        return -1;
    }
    int r = cf_watch_begin(st, w, NULL);
    if (r == 0) {
        r = cf_block_until(st, &w->set.cell, CF_DONE, until);
    }
    cf_watch_free(st, w);
    return r;
}

static bool
all_ours(cf_state *st, PyObject *list)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        if (!cf_future_check(st, PyList_GET_ITEM(list, i))) {
            return false;
        }
    }
    return true;
}

/* Move what is still not done from the set `done` to a new set. */
static PyObject *
split(cf_state *st, PyObject *done, PyObject *pending)
{
    PyObject *not_done = PySet_New(NULL);
    if (not_done == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(pending); i++) {
        PyObject *f = PyList_GET_ITEM(pending, i);
        int is_done = cf_watch_is_done(st, f);
        if (is_done < 0
            || (is_done == 0 && (PySet_Discard(done, f) < 0 || PySet_Add(not_done, f) < 0)))
        {
            Py_DECREF(not_done);
            return NULL;
        }
    }
    return not_done;
}

PyObject *
cf_py_wait(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fs", "timeout", "return_when", NULL};
    cf_state *st = cf_state_of_module(module);
    PyObject *fs, *timeout = Py_None, *when_obj = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:wait", names, &fs, &timeout,
                                     &when_obj)) {
        return NULL;
    }
    return_when when = when_obj == NULL ? ALL_COMPLETED : parse_return_when(when_obj);
    PyObject *done = PySet_New(fs), *pending = NULL, *not_done = NULL, *result = NULL;
    if (done == NULL) {
        return NULL;
    }
    Py_ssize_t failures;
    pending = list_pending(st, done, &failures);
    if (pending == NULL) {
        goto finally;
    }
    Py_ssize_t left = PyList_GET_SIZE(pending), total = PySet_GET_SIZE(done);
    bool enough = left == 0 || (when == FIRST_COMPLETED && left < total)
        || (when == FIRST_EXCEPTION && failures > 0);
    if (!enough) {
        cf_deadline until;
        if (when == INVALID) {
            PyErr_Format(PyExc_ValueError, "Invalid return condition: %R", when_obj);
            goto finally;
        }
        if (cf_deadline_from_timeout(timeout, &until) < 0) {
            goto finally;
        }
        int r = when == ALL_COMPLETED && all_ours(st, pending)
            ? wait_for_each(st, pending, until)
            : wait_watching(st, pending, when, until);
        if (r < 0) {
            goto finally;
        }
    }
    not_done = split(st, done, pending);
    if (not_done != NULL) {
        result = PyObject_CallFunctionObjArgs(st->done_and_not_done, done, not_done, NULL);
    }
finally:
    Py_XDECREF(not_done);
    Py_XDECREF(pending);
    Py_DECREF(done);
    return result;
}
