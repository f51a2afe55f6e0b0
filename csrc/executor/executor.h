/* _core.Executor: what all executors share, which is map(). */
#ifndef CF_EXECUTOR_EXECUTOR_H
#define CF_EXECUTOR_EXECUTOR_H

#include "future/future.h"

typedef struct ExecutorObject ExecutorObject;

/* Submit fn(*args) and return the future (new), as the type's submit() would. */
typedef PyObject *(*cf_submit_fn)(ExecutorObject *self, PyObject *fn,
                                  PyObject *const *args, size_t nargs,
                                  PyObject *kwnames);

struct ExecutorObject {
    PyObject_HEAD
    cf_submit_fn submit;        /* NULL: there is only the Python method */
    PyCFunction submit_method;  /* the method that `submit` is the inside of */
};

/* METH_VARARGS | METH_KEYWORDS: Executor.map. */
PyObject *cf_executor_py_map(PyObject *self, PyObject *args, PyObject *kwargs);

int cf_executor_add_types(PyObject *module, cf_state *st);

#endif
