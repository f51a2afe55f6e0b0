/* The standard library's private view of a future, made when somebody looks.

   concurrent.futures' own wait() and as_completed(), and libraries that subclass
   its Future, take `_condition`, read `_state`, append to `_waiters`, iterate over
   `_done_callbacks`.  A future that nobody looks at this way has none of it.

   Once `_condition` or `_waiters` exists the future has CF_EMULATED, and whoever
   finishes or cancels it does so holding the condition (cfutures._base): a reader
   that holds it sees no change behind its back.  The bit is set under CF_LOCKED, in
   which the state changes too: either the change comes first and the reader sees
   it, or the bit does and the change goes the long way. */
#ifndef CF_FUTURE_EMULATION_H
#define CF_FUTURE_EMULATION_H

#include "future/future.h"

typedef struct cf_emulation {
    PyObject *condition;        /* all owned; each is NULL until it is asked for */
    PyObject *waiters;
    PyObject *callbacks;        /* a list; once made, the callbacks are here */
    PyObject *stale;            /* results replaced after the fact, which a reader
                                   without the lock may still hold */
    cf_word moving;             /* 1: callbacks are on their way from the hooks to the list;
                                   set with the hooks taken off, holding CF_LOCKED */
} cf_emulation;

/* The list that callbacks are in since somebody asked for it (new), or NULL. */
PyObject *cf_emulated_callbacks(FutureObject *f);

extern PyGetSetDef cf_future_getset[];

/* _commit(how, value=None): the bare change of state for cfutures._base. */
PyObject *cf_future_py_commit(PyObject *self, PyObject *const *args, Py_ssize_t nargs);

int cf_emulation_traverse(cf_emulation *e, visitproc visit, void *arg);
void cf_emulation_free(cf_emulation *e);

#endif
