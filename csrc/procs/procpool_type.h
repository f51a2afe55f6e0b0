/* What the two Python types of a process pool share. */
#ifndef CF_PROCS_PROCPOOL_TYPE_H
#define CF_PROCS_PROCPOOL_TYPE_H

#include "procs/procpool.h"

/* Of both types. */
typedef struct {
    ExecutorObject base;
    /* Owned; NULL until _open().  An executor's __init__() that is called again puts another
       one here, and closes the former one; but that lives as long as the executor: a
       submit() may be in the middle of it, in another thread or in this one (pickling an
       argument called __init__). */
    _Atomic(cf_procpool *) pool;
} ProcessPoolObject;

/* The pool of an object of either type (borrowed, as long as that lives), or NULL. */
static inline cf_procpool *
cf_procpool_or_null(PyObject *self)
{
    return atomic_load_explicit(&((ProcessPoolObject *)self)->pool, memory_order_acquire);
}

/* The same, with an exception if it is NULL. */
static inline cf_procpool *
cf_procpool_of(PyObject *self)
{
    cf_procpool *pool = cf_procpool_or_null(self);
    if (pool == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "ProcessPoolExecutor.__init__() was not called");
    }
    return pool;
}

/* engine_type.c */
extern PyGetSetDef cf_procpool_getset[];
int cf_engine_add_type(PyObject *module, cf_state *st);

#endif
