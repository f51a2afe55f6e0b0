/* Definitions: a function travels once and is named by number afterwards.

   Parent: a table from function objects to their definitions.  A definition is the bytes
   from which a worker makes the function (made by cfutures._cells.describe: a reference
   if it can be imported, cloudpickle's by-value form if it was defined in __main__, in a
   cell, in another function), in a block of the parent's arena, and a list of what must
   still be so for the bytes to be true:

       checks   (container, key, value): the dictionary, cell, tuple or attribute still has
                this very object there.  Globals that the function reads, its closure, its
                code and defaults, the name under which it can be imported.
       volatile the function reads something that can change in place (a list, an array, an
                object of the user's): for each task have those parts looked at again;
                if nothing has changed, it is the same definition.

   So a loop of submits pays for pickling once, and a task sees the values as they were
   when it was submitted.

       no entry --describe--> CURRENT --a check fails, other bytes--> superseded
                                 |                                        |
                                 +--- the function is garbage ------------+--> freed, when
                                                                               no task is left

   Worker: a cache from numbers to functions, the least recently used dropped (the bytes
   stay in shared memory as long as any task or entry needs them). */
#ifndef CF_PROCS_DEFS_H
#define CF_PROCS_DEFS_H

#include "procs/codec.h"

typedef struct cf_defs cf_defs;

typedef struct cf_definition {
    uint64_t number;                /* 1, 2, ...; never used again */
    uint64_t at;                    /* offset in the segment: see procs/definition.h */
    PyObject *name;                 /* str (owned): qualified name, for messages */
    /* the rest is private to defs.c */
} cf_definition;

/* ---- the parent ---- */

cf_defs *cf_defs_new(cf_state *st, cf_segment *seg, cf_codec *codec);
void cf_defs_free(cf_defs *defs);

/* The definition of `fn` as of now, held for one task in `*out`; NULL there if it has
   none (an instance with state, a partial object, a bound method, arena full): then it
   goes into the message.  0, or -1 with an exception (it cannot be pickled at all). */
int cf_defs_hold(cf_defs *defs, PyObject *fn, cf_definition **out);
/* The task is over.  With an attached thread state. */
void cf_defs_release(cf_defs *defs, cf_definition *definition);

/* A loop of submits in which no code of the user's runs (map() of a list): what can change
   in place need not be looked through for each of them, once is enough.  From here until
   cf_defs_thaw() that holds for the tasks of this thread.  false: another thread is at
   it; nothing has changed, and there is nothing to thaw. */
bool cf_defs_freeze(cf_defs *defs);
void cf_defs_thaw(cf_defs *defs);

/* ---- a worker ---- */

typedef struct cf_loaded cf_loaded;

cf_loaded *cf_loaded_new(cf_state *st, cf_segment *seg);
void cf_loaded_free(cf_loaded *loaded);
/* The function of a definition (new reference), or NULL with an exception. */
PyObject *cf_loaded_get(cf_loaded *loaded, uint64_t number, uint64_t at);

#endif
