/* One definition: a block of the parent's arena with

       uint64_t size, uint64_t key, bytes

   The key is the same for all definitions of one function: a worker that loads a newer one
   drops the older. */
#ifndef CF_PROCS_DEFINITION_H
#define CF_PROCS_DEFINITION_H

#include "procs/defs.h"

typedef struct {
    cf_definition public;               /* first; the table sets `number` */
    uint32_t holds;                     /* the table's; 1 at first */
    cf_place place;                     /* the block, with its size */
} cf_definition_block;

/* `bytes`: a bytes-like object or a tuple of such.  0 and a definition in *out, or NULL
   there: the arena is full.  -1: an exception. */
int cf_definition_new(cf_codec *codec, uint64_t key, PyObject *bytes, PyObject *name,
                      cf_definition_block **out);

/* Nobody holds it.  `codec` NULL: the block is not this process's. */
void cf_definition_free(cf_codec *codec, cf_definition_block *d);

#endif
