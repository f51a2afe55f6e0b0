/* The one place that knows Python versions; also the one place that includes
   Python.h.  The public C API only, but for the reference counts of free-threaded builds, how
   short ints are kept, and dicts of a known size. */
#ifndef CF_PY_COMPAT_H
#define CF_PY_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

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

/* A new reference that another thread will drop.  Without a GIL an object counts its own
   thread's references apart from everybody else's, and one that is taken here and dropped
   there leaves a debt, for which the other thread calls this one: far dearer than counting
   it among the others' from the start, as Py_INCREF does in any thread but the object's. */
static inline PyObject *
cf_new_ref_for_another(PyObject *o)
{
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX < 0x030f0000
    if (_Py_atomic_load_uint32_relaxed(&o->ob_ref_local) != _Py_IMMORTAL_REFCNT_LOCAL) {
        _Py_atomic_add_ssize(&o->ob_ref_shared, 1 << _Py_REF_SHARED_SHIFT);
    }
    return o;
#else
    return Py_NewRef(o);
#endif
}

/* This thread's only reference becomes one that another thread will drop; the same. */
static inline void
cf_hand_over(PyObject *o)
{
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX < 0x030f0000
    if (_Py_IsOwnedByCurrentThread(o)
        && _Py_atomic_load_uint32_relaxed(&o->ob_ref_local) == 1)
    {
        cf_new_ref_for_another(o);
        Py_DECREF(o);
    }
#else
    (void)o;
#endif
}

/* An empty dict with room for `count` items whose keys are not strings (for these CPython
   has a denser table, which only grows from an empty one). */
static inline PyObject *
cf_new_dict(Py_ssize_t count)
{
#if PY_VERSION_HEX < 0x030e0000
    return _PyDict_NewPresized(count);
#else
    (void)count;
    return PyDict_New();
#endif
}

/* If `o`, an int, is kept as one digit: its value. */
static inline bool
cf_short_int(PyObject *o, int64_t *value)
{
#if PY_VERSION_HEX < 0x030c0000
    Py_ssize_t size = Py_SIZE(o);       /* with the sign of the int */
    if (size < -1 || size > 1) {
        return false;
    }
    *value = size == 0 ? 0 : size * (int64_t)((PyLongObject *)o)->ob_digit[0];
    return true;
#else
    if (!PyUnstable_Long_IsCompact((PyLongObject *)o)) {
        return false;
    }
    *value = PyUnstable_Long_CompactValue((PyLongObject *)o);
    return true;
#endif
}

/* As long as no Python code runs, no other thread changes a list or a dict. */
#ifdef Py_GIL_DISABLED
#  define CF_CONTAINERS_STAY 0
#else
#  define CF_CONTAINERS_STAY 1
#endif

#endif
