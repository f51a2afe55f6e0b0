/* Items of a queue: Python values in blocks of an arena (ipc/queue.h), by the codec. */
#ifndef CF_PROCS_QUEUE_CODEC_H
#define CF_PROCS_QUEUE_CODEC_H

#include "ipc/queue.h"
#include "procs/codec.h"

/* The codec of a member: buffers of `threshold` bytes and more get blocks of their own.  It
   takes a reference to the segment, and owns neither queue nor arena.  NULL with an
   exception. */
cf_codec *cf_queue_codec_new(cf_state *st, cf_queue *queue, cf_arena *arena,
                             uint64_t threshold);

/* Encode a value into a block of the member's arena.  0; or -1 with an exception and
   nothing left behind. */
int cf_item_encode(cf_codec *codec, cf_queue *queue, PyObject *value, uint32_t *block);

/* The value (new reference) of an item that was taken, whose blocks are given back, except
   those that live on in views.  NULL with an exception. */
PyObject *cf_item_decode(cf_codec *codec, cf_queue *queue, const cf_taken *taken);

cf_state *cf_codec_state(cf_codec *codec);

/* Does an object of this process still refer to a block of the queue?  Needs no GIL. */
bool cf_codec_is_pinned(cf_codec *codec);

#endif
