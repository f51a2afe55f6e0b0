/* Messages between the parent and its workers: Python values to bytes and back.

   A message is what a task slot carries in either direction.  Its bytes lie in the slot
   if they are few, else in a block of the sender's arena, else (arena full) in a spill.

       CF_CODEC_SIMPLE     None, bool, int, float, str, bytes of exactly these types, one
                           after the other, each with a tag; a str or bytes object that
                           comes again is a reference to the first (f(a, a) keeps `is`)
       CF_CODEC_PICKLE     everything else: a table of buffers, then a pickle of protocol 5

   A call's message holds its positional arguments (SIMPLE: slot.count of them), or a
   pickled (args, kwargs), or, where the function has no definition, a pickled
   (args, kwargs, fn).  A result's message holds one value, or one exception.

   Buffers of 64 KiB and more (cf_codec.threshold) do not travel in the pickle: each is
   copied once, into a block of its own, and the receiver's object is a view of that block:
   _core.SharedBuffer, which gives the block back when it is freed, in whatever process,
   however long after the pool.

   Everything here runs with an attached thread state; in a build without a GIL several
   threads of the parent may encode at once.  Encoding can run any Python code, and so
   call submit() again. */
#ifndef CF_PROCS_CODEC_H
#define CF_PROCS_CODEC_H

#include "ipc/arena.h"
#include "ipc/board.h"
#include "py/state.h"

enum { CF_CODEC_NONE = 0, CF_CODEC_SIMPLE, CF_CODEC_PICKLE };

/* slot.flags of a call */
#define CF_CALL_WITH_FN 1u          /* pickled (args, kwargs, fn) */

typedef struct cf_codec cf_codec;

/* The sender's private copy of a message, until it is in a slot. */
typedef struct {
    uint8_t codec, count;
    uint16_t flags;
    cf_place place;
    char inlined[CF_SLOT_INLINE];
    /* The sender's own blocks of buffers (not of `place`): linked in its codec's books,
       CF_NO_BLOCK if none.  The parent keeps this beside the slot. */
    uint32_t buffers;
} cf_message;
#define CF_NO_BLOCK 0xffffffffu

/* `holder`: 0 in the parent, the worker's number + 1 in a worker.  `arena` may be NULL
   (then what is too large for the slot is spilled, buffers included).  The codec owns
   neither; it takes a reference to the segment.  NULL with an exception. */
cf_codec *cf_codec_new(cf_state *st, cf_segment *seg, cf_arena *arena, uint32_t holder,
                       uint64_t threshold);
void cf_codec_free(cf_codec *codec);

/* ---- sending: 0, or -1 with an exception and nothing left behind ---- */

/* `fn` NULL: it has a definition.  args and kwnames as in the vectorcall protocol. */
int cf_encode_call(cf_codec *codec, PyObject *fn, PyObject *const *args, size_t nargs,
                   PyObject *kwnames, cf_message *message);
int cf_encode_result(cf_codec *codec, PyObject *value, cf_message *message);

/* Write a message into a slot that the sender owns (all but `word`). */
void cf_message_post(const cf_message *message, cf_slot *slot);

/* The message has been answered or was never received: the sender frees the block of
   `place`, and of its buffers those that no receiver has adopted.  Needs no GIL. */
void cf_message_release(cf_codec *codec, const cf_place *place, uint32_t buffers);

/* ---- receiving; `copy` is a private copy of the slot, which the other side could
        still scribble over ---- */

typedef struct {
    PyObject *fn;                   /* new, or NULL: by definition */
    PyObject **args;                /* `space + 1`, or a tuple's items: new references */
    size_t nargs;
    PyObject *kwargs;               /* dict (new) or NULL */
    PyObject *tuple;                /* who holds the arguments, if not `space` */
    PyObject *space[1 + 8];
} cf_received_call;

/* Decode a call; call it (fn: as by definition, or NULL for the one in the message);
   drop it.  0 or -1 with an exception (a corrupt message is one, too). */
int cf_decode_call(cf_codec *codec, const cf_slot *copy, cf_received_call *call);
PyObject *cf_received_call_run(cf_received_call *call, PyObject *fn);
void cf_received_call_clear(cf_received_call *call);

/* Decode a result (new reference; an exception instance if it was sent as one), and give
   its blocks back, except those that live on in views.  NULL with an exception. */
PyObject *cf_decode_result(cf_codec *codec, const cf_slot *copy);

/* Nobody wants the result: give its blocks back.  Needs no GIL. */
void cf_discard_result(cf_codec *codec, const cf_slot *copy);

/* How many views of this process lie in arena `number`. */
uint32_t cf_codec_views(cf_codec *codec, uint32_t number);

/* Run `f` with the codec's arena to itself (encoding takes the same spin lock). */
void cf_codec_with_arena(cf_codec *codec, void (*f)(cf_arena *, void *), void *arg);

int cf_codec_add_types(PyObject *module, cf_state *st);     /* SharedBuffer, ... */

#endif
