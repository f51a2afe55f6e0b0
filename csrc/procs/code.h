/* What cfutures' Python code for pickling functions and classes has in C: types that are
   made and used there only.

       _core.Reducer   which objects a pickler need not ask Python about
       _core.Digest    have large values changed?
       _core.Checks    procs/checks.h, for Python */
#ifndef CF_PROCS_CODE_H
#define CF_PROCS_CODE_H

#include "py/state.h"

int cf_reducer_add_type(PyObject *module);      /* reducer.c */
int cf_digest_add_type(PyObject *module);       /* digest.c */
int cf_checks_add_type(PyObject *module);       /* checks_type.c */

/* For cf_procs_add_types() to call. */
static inline int
cf_code_add_types(PyObject *module)
{
    return cf_reducer_add_type(module) < 0 || cf_digest_add_type(module) < 0
           || cf_checks_add_type(module) < 0 ? -1 : 0;
}

/* dict[key] (new), or NULL with no exception: an exception is as good as nothing there,
   who asks only wants to know whether it may leave something out. */
static inline PyObject *
cf_dict_peek(PyObject *dict, PyObject *key)
{
    PyObject *found = NULL;
#if PY_VERSION_HEX >= 0x030d0000
    int r = PyDict_GetItemRef(dict, key, &found);
#else
    found = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    int r = found == NULL && PyErr_Occurred() ? -1 : 0;
#endif
    if (r < 0) {
        PyErr_Clear();
    }
    return found;
}

/* The same for somebody who only compares the address, also with NULL (not there). */
static inline bool
cf_dict_item_is(PyObject *dict, PyObject *key, const PyObject *value)
{
    PyObject *found = cf_dict_peek(dict, key);
    Py_XDECREF(found);
    return found == value;
}

#endif
