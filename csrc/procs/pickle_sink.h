/* Where a message's pickler writes to, and its buffer_callback: one object.

   What is written goes into a frame; the larger pieces are not copied, but held.  A buffer
   of the threshold's size gets a block at once, so that it is known whether there is room
   (else it goes into the pickle), and is copied when the pickler is done.

       IDLE --begin--> OPEN --pickler writes, calls back--> OPEN --end--> IDLE

   While OPEN it belongs to one thread.  Its blocks are the sink's until they are booked, or
   the message is the receiver's. */
#ifndef CF_PROCS_PICKLE_SINK_H
#define CF_PROCS_PICKLE_SINK_H

#include "procs/codec_parts.h"

/* A block for a buffer. */
typedef struct {
    cf_place place;
    const void *data;               /* kept alive by sink->kept */
    bool warm, readonly;
} cf_sink_block;

typedef struct {
    PyObject_HEAD
    cf_codec *codec;                /* borrowed; NULL: IDLE */
    cf_frame frame;
    PyObject *kept;                 /* list or NULL: what the frame and `blocks` point to */
    cf_sink_block *blocks;
    uint32_t count, space;
} PickleSinkObject;

/* A new one, IDLE; NULL with an exception. */
PickleSinkObject *cf_sink_new(cf_state *st);
/* The frame's first bytes may go into `inlined`, of CF_SLOT_INLINE bytes. */
void cf_sink_begin(PickleSinkObject *sink, cf_codec *codec, char *inlined);
/* The pickler is done: copy the buffers into their blocks and write their table behind the
   pickle.  0, or -1 with an exception. */
int cf_sink_copy_buffers(PickleSinkObject *sink);
/* The message failed: the blocks are freed. */
void cf_sink_free_blocks(PickleSinkObject *sink);
/* Drops what the frame points to, which can run Python code. */
void cf_sink_end(PickleSinkObject *sink);

int cf_sink_add_type(PyObject *module, cf_state *st);

#endif
