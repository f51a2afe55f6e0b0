/* What the two Python types of a process pool share. */
#ifndef CF_PROCS_PROCPOOL_TYPE_H
#define CF_PROCS_PROCPOOL_TYPE_H

#include "procs/procpool.h"

/* Of both types. */
typedef struct {
    ExecutorObject base;
    cf_procpool *pool;          /* owned; NULL until _open() */
} ProcessPoolObject;

/* engine_type.c */

/* The pool (borrowed) of an object of either type; NULL with an exception before _open(). */
cf_procpool *cf_procpool_of(PyObject *self);
extern PyGetSetDef cf_procpool_getset[];
int cf_engine_add_type(PyObject *module, cf_state *st);

#endif
