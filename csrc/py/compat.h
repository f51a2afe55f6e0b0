/* The one place that knows Python versions; also the one place that includes
   Python.h.  The public C API only. */
#ifndef CF_PY_COMPAT_H
#define CF_PY_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if PY_VERSION_HEX < 0x030b0000
#  error "cfutures needs CPython 3.11 or newer"
#endif

#if PY_VERSION_HEX < 0x030c0000
/* The exception that is set, normalized, with its traceback attached (new), or NULL. */
static inline PyObject *
PyErr_GetRaisedException(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL && PyException_SetTraceback(value, traceback) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(traceback);
    Py_DECREF(type);
    return value;
}

static inline void
PyErr_SetRaisedException(PyObject *exc)     /* steals */
{
    PyErr_Restore(Py_NewRef(Py_TYPE(exc)), exc, PyException_GetTraceback(exc));
}
#endif

/* Objects that nobody but one thread can see yet, or that cannot be in a cycle, are
   kept from the cycle collector, so that a burst of tasks does not make each young
   collection look at all of them.  The free-threaded collector walks the heap
   whatever is tracked: nothing to gain there. */
#ifdef Py_GIL_DISABLED
#  define CF_UNTRACK_PENDING 0
#else
#  define CF_UNTRACK_PENDING 1
#endif

/* As long as no Python code runs, no other thread changes a list or a dict. */
#ifdef Py_GIL_DISABLED
#  define CF_CONTAINERS_STAY 0
#else
#  define CF_CONTAINERS_STAY 1
#endif

#endif
