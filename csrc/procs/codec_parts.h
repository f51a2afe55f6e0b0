/* What the parts of the codec share: codec.c (places of frames, blocks), simple.c and
   simple_read.c (values), pickle.c and pickle_sink.c (everything else), shared_buffer.c and
   lease.c; and what else lies in its arena: definition.c, queue_codec.c. */
#ifndef CF_PROCS_CODEC_PARTS_H
#define CF_PROCS_CODEC_PARTS_H

#include "ipc/frame.h"
#include "procs/codec.h"

/* Copies of this size and more let go of the GIL: they take longer (20 us) than another
   thread may have to wait for nothing. */
#define CF_LARGE_COPY (256 * 1024)
/* From here on malloc() gives memory that was never written, and its page faults cost
   several times what the copy does. */
#define CF_HUGE_COPY (4 * 1024 * 1024)

/* How many blocks of each arena this process has leases of.  Counted: by the codec and by
   each lease, which may outlive it. */
typedef struct {
    cf_word refs;
    uint32_t arenas;
    cf_word views[];
} cf_pins;

void cf_pins_decref(cf_pins *pins);

/* One entry of the books: a block of a call's buffers. */
typedef struct {
    uint32_t block, next;
} cf_booked;

typedef struct cf_pickling cf_pickling;

struct cf_codec {
    /* Never changes. */
    cf_state *st;
    cf_segment *seg;                /* one reference */
    uint32_t holder;
    uint64_t threshold;
    /* Of a queue: bytes at the beginning of each frame's block that are its item's.  Its
       members send to each other, themselves included, and a frame is never inline.
       0: of a pool. */
    uint32_t head_room;
    cf_pins *pins;                  /* one reference */
    PyObject *new_pickler, *loads;
    PyObject *buffers_keyword;      /* ("buffers",) */
    /* The pickler that nobody uses just now, or NULL: who takes it owns it. */
    _Atomic(cf_pickling *) idle;

    cf_spinlock lock;               /* guards what follows */
    cf_arena *arena;                /* its books; not the contents of its blocks */
    cf_booked *booked;              /* linked lists: one for each call, and of free ones */
    uint32_t booked_room, booked_free, booked_left;
};

/* ---- codec.c ---- */

/* Blocks of the codec's own arena.  CF_OK; or CF_AGAIN: full, or there is none. */
cf_status cf_codec_alloc(cf_codec *codec, uint64_t size, cf_place *place, bool *warm);
void cf_codec_free_block(cf_codec *codec, const cf_place *place);
/* 0, or -1 with an exception. */
int cf_codec_fill(cf_codec *codec, const cf_place *place, bool warm, uint64_t at,
                  const void *data, uint64_t size);

/* Put a finished frame where it belongs and say so in the message (of a queue's the place
   is that of the whole block).  The frame's first own bytes may lie in message->inlined.  0, or -1 with an exception. */
int cf_codec_send(cf_codec *codec, const cf_frame *frame, cf_message *message);

/* Copy into private memory whose content is not needed, without the GIL if it is much. */
void cf_codec_copy(void *to, const void *from, uint64_t size);

/* A received frame, as long as it is open. */
typedef struct {
    const char *data;
    uint64_t size;
    cf_place place;                 /* where the sender put it */
    PyObject *copied;               /* bytes: a spill was read into it; or NULL */
} cf_received;

/* 0, or -1 with an exception: the place is none where the other side may write. */
int cf_received_open(cf_codec *codec, const cf_slot *copy, cf_received *received);
void cf_received_close(cf_received *received);

/* May the other side have allocated this block? */
bool cf_codec_foreign(const cf_codec *codec, const cf_place *place);

/* The one value of a frame of codec `kind` (new reference), or NULL with an exception. */
PyObject *cf_received_value(cf_codec *codec, const cf_received *received, uint8_t kind,
                            uint16_t flags);

/* Sets the exception for what a writer cannot have written; always NULL. */
PyObject *cf_codec_corrupt(cf_codec *codec);

/* ---- pickle.c ---- */

/* `call`: the buffers are booked (message->buffers); else they become the receiver's.
   Adds to message->flags.  0, or -1 with an exception. */
int cf_pickle_encode(cf_codec *codec, PyObject *object, bool call, cf_message *message);
/* The object (new reference) of a received pickle. */
PyObject *cf_pickle_decode(cf_codec *codec, const cf_received *received, uint16_t flags);
/* Give the buffers of an unread result back.  Needs no GIL. */
void cf_pickle_discard(cf_codec *codec, const cf_place *frame, const char *inlined);
void cf_pickling_free(cf_pickling *pickling);

/* ---- shared_buffer.c ---- */

/* A view of a block that the other side allocated (and, in a worker, that was adopted).
   The block is the view's from now on: if there is no memory for the object, it is given
   back at once.  New reference. */
PyObject *cf_shared_buffer_new(cf_codec *codec, const cf_place *place, bool readonly);
/* A read-only view of a block that remains the sender's. */
PyObject *cf_shared_buffer_lend(cf_codec *codec, const cf_place *place);
int cf_shared_buffer_add_type(PyObject *module, cf_state *st);

#endif
