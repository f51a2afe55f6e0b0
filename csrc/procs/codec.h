/* Messages between the parent and its workers: Python values to bytes and back.

   A message is what a task slot carries in either direction.  Its bytes, a frame
   (ipc/frame.h), lie in the slot if they are few, else in a block of the sender's arena,
   else (arena full) in a spill.

       CF_CODEC_SIMPLE     None, bool, int, float, str, bytes, and tuples, lists and dicts
                           of these, of exactly these types, one after the other, each
                           with a tag; a str or bytes object that comes again is a
                           reference to the first (f(a, a) keeps `is`)
       CF_CODEC_PICKLE     everything else: a pickle of protocol 5, then, if any buffer
                           travels apart, a table of buffers

   A call's message holds its positional arguments (SIMPLE: slot.count of them; pickled:
   their tuple, or the only one itself), or those and a dict of keyword arguments (pickled:
   (args, kwargs)), or, where the function has no definition, a pickled (args, kwargs or
   None, fn).  A result's message
   holds one value, or one exception.

   Buffers of 64 KiB and more (cf_codec.threshold) do not travel in the pickle: each is
   copied once, into a block of its own, and the receiver's object is a view of that block:
   _core.SharedBuffer, which gives the block back when it is freed, in whatever process,
   however long after the pool.

   Who owns which block when:

                          frame (place)                    buffers
       encoding           the encoder, which frees them if it fails
       a call, encoded    whoever has the cf_message; it ends with cf_message_release(),
         .. received      still the sender                 a SharedBuffer each (adopted);
                                                           the sender has the others
       a result, encoded  whoever has the cf_message; with cf_message_post() the parent
         .. decoded       given back by the decoder        a SharedBuffer each
         .. discarded     given back                       given back

   Everything here runs with an attached thread state (except where it says so); in a build
   without a GIL several threads of the parent may encode at once.  Encoding can run any
   Python code, and so call submit() again.  Copies of 256 KiB and more let go of the
   GIL. */
#ifndef CF_PROCS_CODEC_H
#define CF_PROCS_CODEC_H

#include "ipc/arena.h"
#include "ipc/board.h"
#include "py/state.h"

enum { CF_CODEC_NONE = 0, CF_CODEC_SIMPLE, CF_CODEC_PICKLE };

/* slot.flags */
#define CF_CALL_WITH_FN 1u          /* pickled (args, kwargs or None, fn) */
#define CF_CALL_WITH_KWARGS 2u      /* pickled (args, kwargs); SIMPLE: a dict, last */
#define CF_CALL_WITH_ONE 4u         /* the pickle is of the only argument */
#define CF_WITH_BUFFERS 8u          /* a table of buffers is behind the pickle */

/* Positional arguments of a SIMPLE call, at most. */
#define CF_SIMPLE_ARGS 8

typedef struct cf_codec cf_codec;

/* The sender's private copy of a message, until it is in a slot. */
typedef struct {
    uint8_t codec, count;
    uint16_t flags;
    cf_place place;
    char inlined[CF_SLOT_INLINE];
    /* The blocks of a call's buffers (not of `place`): linked in its codec's books,
       CF_NO_BLOCK if none, and always in a result.  The parent keeps this beside the
       slot. */
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
   `place`, and of its buffers those that no receiver has adopted.  Once; `place` and
   `buffers` are the sender's own copy, not the slot's.  Needs no GIL. */
void cf_message_release(cf_codec *codec, const cf_place *place, uint32_t buffers);

/* ---- receiving; `copy` is a private copy of the slot, which the other side could
        still scribble over ---- */

typedef struct {
    PyObject *fn;                   /* new, or NULL: by definition */
    PyObject **args;                /* `space + 1` (new references), or `tuple`'s items */
    size_t nargs;
    PyObject *kwargs;               /* dict (new) or NULL */
    PyObject *tuple;                /* who holds the arguments, if not `space` */
    PyObject *space[1 + CF_SIMPLE_ARGS + 1];    /* before: for the callee; behind: kwargs */
} cf_received_call;

/* A message that cannot be is a RuntimeError (BrokenProcessPool, if that is known); other
   exceptions come out of unpickling. */

/* Decode a call; call it (fn: as by definition, or NULL for the one in the message);
   drop it.  0 or -1 with an exception, and nothing to drop. */
int cf_decode_call(cf_codec *codec, const cf_slot *copy, cf_received_call *call);
PyObject *cf_received_call_run(cf_received_call *call, PyObject *fn);
void cf_received_call_clear(cf_received_call *call);

/* Decode a result (new reference; an exception instance if it was sent as one), and give
   its blocks back, except those that live on in views.  NULL with an exception. */
PyObject *cf_decode_result(cf_codec *codec, const cf_slot *copy);

/* Nobody wants the result: give its blocks back.  Needs no GIL. */
void cf_discard_result(cf_codec *codec, const cf_slot *copy);

/* How many views of this process lie in arena `number`.  Needs no GIL. */
uint32_t cf_codec_views(cf_codec *codec, uint32_t number);

/* Run `f` with the codec's arena to itself (encoding takes the same spin lock). */
void cf_codec_with_arena(cf_codec *codec, void (*f)(cf_arena *, void *), void *arg);

int cf_codec_add_types(PyObject *module, cf_state *st);     /* SharedBuffer, ... */

#endif
