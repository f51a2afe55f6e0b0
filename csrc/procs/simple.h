/* Messages of simple values; for codec.c.  simple.c sends, simple_read.c receives. */
#ifndef CF_PROCS_SIMPLE_H
#define CF_PROCS_SIMPLE_H

#include "procs/codec_parts.h"

/* How deeply containers may be nested. */
#define CF_SIMPLE_DEPTH 16

/* `count` values and, if `names` is not NULL, as many more as there are names in that
   tuple.  1; 0: not all are simple, nothing was done; -1 with an exception. */
int cf_simple_encode(cf_codec *codec, PyObject *const *values, size_t count,
                     PyObject *names, cf_message *message);
/* `count` values (new references).  0, or -1 with an exception and none of them. */
int cf_simple_decode(cf_codec *codec, const cf_received *received, size_t count,
                     PyObject **values);

#endif
