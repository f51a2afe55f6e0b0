/* wait() and as_completed(). */
#ifndef CF_FUTURE_WAIT_H
#define CF_FUTURE_WAIT_H

#include "py/state.h"

/* METH_VARARGS | METH_KEYWORDS */
PyObject *cf_py_wait(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *cf_py_as_completed(PyObject *module, PyObject *args, PyObject *kwargs);

int cf_as_completed_add_type(PyObject *module, cf_state *st);

#endif
