/* The codec: where frames and buffers lie, and what of them is freed when.  What is in a
   frame is the business of simple.c and pickle.c. */
#include "procs/pickle_sink.h"
#include "procs/simple.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "plat/copy.h"
#include "plat/pages.h"
#include "py/block.h"

/* ---- life ---- */

static cf_pins *
pins_new(uint32_t arenas)
{
    cf_pins *pins = calloc(1, sizeof(cf_pins) + arenas * sizeof(cf_word));
    if (pins != NULL) {
        CF_BORN(pins);
        pins->arenas = arenas;
        cf_store_relaxed(&pins->refs, 1);
    }
    return pins;
}

void
cf_pins_decref(cf_pins *pins)
{
    if (atomic_fetch_sub_explicit(&pins->refs, 1, memory_order_acq_rel) == 1) {
        CF_GONE(pins);
        free(pins);
    }
}

cf_codec *
cf_codec_new(cf_state *st, cf_segment *seg, cf_arena *arena, uint32_t holder,
             uint64_t threshold)
{
    cf_codec *codec = calloc(1, sizeof(cf_codec));
    if (codec == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    CF_BORN(codec);
    codec->st = st;
    cf_segment_incref(seg);
    codec->seg = seg;
    codec->arena = arena;
    codec->holder = holder;
    codec->threshold = threshold;
    codec->booked_free = CF_NO_BLOCK;
    codec->new_pickler = Py_XNewRef(st->pickler);
    codec->loads = Py_XNewRef(st->loads);
    codec->pins = pins_new(seg->geometry.arenas);
    codec->buffers_keyword = Py_BuildValue("(s)", "buffers");
    if (codec->pins == NULL) {
        PyErr_NoMemory();
    }
    else if (codec->new_pickler == NULL || codec->loads == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "cfutures._core has no pickler yet");
    }
    else if (codec->buffers_keyword != NULL) {
        return codec;
    }
    cf_codec_free(codec);
    return NULL;
}

void
cf_codec_free(cf_codec *codec)
{
    cf_pickling *pickling = atomic_exchange(&codec->idle, NULL);
    if (pickling != NULL) {
        cf_pickling_free(pickling);
    }
    Py_XDECREF(codec->new_pickler);
    Py_XDECREF(codec->loads);
    Py_XDECREF(codec->buffers_keyword);
    if (codec->pins != NULL) {
        cf_pins_decref(codec->pins);
    }
    cf_segment_decref(codec->seg);
    free(codec->booked);
    CF_GONE(codec);
    free(codec);
}

int
cf_codec_add_types(PyObject *module, cf_state *st)
{
    return cf_sink_add_type(module, st) < 0 || cf_shared_buffer_add_type(module, st) < 0
           ? -1 : 0;
}

uint32_t
cf_codec_views(cf_codec *codec, uint32_t number)
{
    return number < codec->pins->arenas ? cf_load_acquire(&codec->pins->views[number]) : 0;
}

void
cf_codec_with_arena(cf_codec *codec, void (*f)(cf_arena *, void *), void *arg)
{
    cf_spinlock_lock(&codec->lock);
    f(codec->arena, arg);
    cf_spinlock_unlock(&codec->lock);
}

PyObject *
cf_codec_corrupt(cf_codec *codec)
{
    if (codec->head_room != 0) {
        PyErr_SetString(PyExc_RuntimeError, "an item in the memory of the queue is damaged; "
                        "something wrote over it");
        return NULL;
    }
    PyObject *broken = codec->st->broken_process_pool;
    PyErr_SetString(broken != NULL ? broken : PyExc_RuntimeError,
                    "a message in the memory shared by the processes of the pool is "
                    "damaged; something wrote over it");
    return NULL;
}

/* ---- blocks ---- */

cf_status
cf_codec_alloc(cf_codec *codec, uint64_t size, cf_place *place, bool *warm)
{
    cf_status status = CF_AGAIN;
    cf_spinlock_lock(&codec->lock);
    if (codec->arena != NULL) {
        status = cf_arena_alloc(codec->arena, size, place, warm);
    }
    cf_spinlock_unlock(&codec->lock);
    return status;
}

void
cf_codec_free_block(cf_codec *codec, const cf_place *place)
{
    cf_spinlock_lock(&codec->lock);
    cf_arena_free(codec->arena, place->block);
    cf_spinlock_unlock(&codec->lock);
}

int
cf_codec_fill(cf_codec *codec, const cf_place *place, bool warm, uint64_t at,
              const void *data, uint64_t size)
{
    PyThreadState *ts = size >= CF_LARGE_COPY ? cf_gil_release() : NULL;
    cf_status status = cf_arena_fill(codec->arena, place, warm, at, data, size);
    if (ts != NULL) {
        int saved_errno = errno;
        cf_gil_take(ts);
        errno = saved_errno;
    }
    if (status != CF_OK) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

void
cf_codec_copy(void *to, const void *from, uint64_t size)
{
    PyThreadState *ts = size >= CF_LARGE_COPY ? cf_gil_release() : NULL;
    if (size >= CF_HUGE_COPY) {
        cf_pages_fresh(to, size);
    }
    cf_copy_large(to, from, size);
    if (ts != NULL) {
        cf_gil_take(ts);
    }
}

bool
cf_codec_foreign(const cf_codec *codec, const cf_place *place)
{
    return place->where != CF_WHERE_INLINE && place->where != CF_WHERE_SPILL
           && (codec->head_room != 0 || (codec->holder == 0) == (place->where != 1))
           && cf_place_valid(codec->seg, place);
}

/* ---- sending frames ---- */

/* The frame in one piece (new), or NULL with an exception. */
static char *
frame_join(const cf_frame *frame)
{
    uint64_t size = cf_frame_size(frame), part;
    const void *data;
    char *whole = size > PY_SSIZE_T_MAX ? NULL : malloc(size);
    if (whole == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    char *at = whole;
    for (cf_frame_cursor c = {0, 0}; cf_frame_next(frame, &c, &data, &part); at += part) {
        cf_codec_copy(at, data, part);
    }
    return whole;
}

static int
send_by_spill(cf_codec *codec, const cf_frame *frame, cf_place *place)
{
    char *whole = frame->count == 0 ? frame->own : frame_join(frame);
    if (whole == NULL) {
        return -1;
    }
    PyThreadState *ts = cf_gil_release();
    cf_status status = cf_spill_write(codec->seg, whole, cf_frame_size(frame), place);
    int saved_errno = errno;
    cf_gil_take(ts);
    if (whole != frame->own) {
        free(whole);
    }
    if (status != CF_OK) {
        errno = saved_errno;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

static int
send_by_arena(cf_codec *codec, const cf_frame *frame, const cf_place *place, bool warm)
{
    const void *data;
    uint64_t part, at = codec->head_room;
    for (cf_frame_cursor c = {0, 0}; cf_frame_next(frame, &c, &data, &part); at += part) {
        if (cf_codec_fill(codec, place, warm, at, data, part) < 0) {
            cf_codec_free_block(codec, place);
            return -1;
        }
    }
    return 0;
}

int
cf_codec_send(cf_codec *codec, const cf_frame *frame, cf_message *message)
{
    uint64_t size = cf_frame_size(frame);
    if (codec->head_room == 0 && size <= CF_SLOT_INLINE) {
        if (frame->own != message->inlined) {
            memcpy(message->inlined, frame->own, size);
        }
        message->place = (cf_place){0, size, CF_WHERE_INLINE, 0};
        return 0;
    }
    bool warm;
    if (cf_codec_alloc(codec, size + codec->head_room, &message->place, &warm) == CF_OK) {
        return send_by_arena(codec, frame, &message->place, warm);
    }
    return send_by_spill(codec, frame, &message->place);
}

void
cf_message_post(const cf_message *message, cf_slot *slot)
{
    slot->place = message->place;
    slot->codec = message->codec;
    slot->count = message->count;
    slot->flags = message->flags;
    memcpy(slot->inlined, message->inlined, CF_SLOT_INLINE);
}

void
cf_message_release(cf_codec *codec, const cf_place *place, uint32_t buffers)
{
    if (place->where == CF_WHERE_SPILL) {
        cf_spill_free(codec->seg, place);
    }
    bool block = place->where != CF_WHERE_INLINE && place->where != CF_WHERE_SPILL;
    if (!block && buffers == CF_NO_BLOCK) {
        return;
    }
    cf_spinlock_lock(&codec->lock);
    if (block) {
        cf_arena_free(codec->arena, place->block);
    }
    while (buffers != CF_NO_BLOCK) {
        cf_booked *entry = &codec->booked[buffers];
        uint32_t next = entry->next;
        cf_arena_release(codec->arena, entry->block);
        entry->next = codec->booked_free;
        codec->booked_free = buffers;
        codec->booked_left++;
        buffers = next;
    }
    cf_spinlock_unlock(&codec->lock);
}

/* ---- receiving frames ---- */

static int
open_spill(cf_codec *codec, const cf_place *place, cf_received *received)
{
    if (!cf_place_valid(codec->seg, place) || place->size > PY_SSIZE_T_MAX) {
        cf_codec_corrupt(codec);
        return -1;
    }
    received->copied = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)place->size);
    if (received->copied == NULL) {
        return -1;
    }
    received->data = PyBytes_AS_STRING(received->copied);
    PyThreadState *ts = cf_gil_release();
    cf_status status =
        cf_spill_read(codec->seg, place, PyBytes_AS_STRING(received->copied));
    int saved_errno = errno;
    cf_gil_take(ts);
    if (status == CF_OK) {
        return 0;
    }
    Py_CLEAR(received->copied);
    if (status == CF_CORRUPT) {
        cf_codec_corrupt(codec);
        return -1;
    }
    errno = saved_errno;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

int
cf_received_open(cf_codec *codec, const cf_slot *copy, cf_received *received)
{
    const cf_place *place = &copy->place;
    received->place = *place;
    received->size = place->size;
    received->copied = NULL;
    if (place->where == CF_WHERE_INLINE) {
        received->data = copy->inlined;
        if (place->size <= CF_SLOT_INLINE) {
            return 0;
        }
    }
    else if (place->where == CF_WHERE_SPILL) {
        return open_spill(codec, place, received);
    }
    else if (cf_codec_foreign(codec, place)) {
        received->data = cf_segment_at(codec->seg, place->offset);
        return 0;
    }
    cf_codec_corrupt(codec);
    return -1;
}

void
cf_received_close(cf_received *received)
{
    Py_CLEAR(received->copied);
}

/* The frame of a result has been read, or nobody wants it. */
static void
give_frame_back(cf_codec *codec, const cf_place *place)
{
    if (place->where == CF_WHERE_SPILL) {
        if (cf_place_valid(codec->seg, place)) {
            cf_spill_free(codec->seg, place);
        }
    }
    else if (cf_codec_foreign(codec, place)) {
        cf_block_return(codec->seg, place);
    }
}

/* ---- calls ---- */

/* What is pickled for a call (new); sets message->flags. */
static PyObject *
call_object(PyObject *fn, PyObject *const *args, size_t nargs, PyObject *kwnames,
            cf_message *message)
{
    PyObject *kwargs = NULL, *object = NULL;
    if (nargs == 1 && kwnames == NULL && fn == NULL) {
        message->flags = CF_CALL_WITH_ONE;
        return Py_NewRef(args[0]);
    }
    PyObject *tuple = PyTuple_New((Py_ssize_t)nargs);
    if (tuple == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < nargs; i++) {
        PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, Py_NewRef(args[i]));
    }
    if (kwnames != NULL) {
        kwargs = PyDict_New();
        for (Py_ssize_t i = 0; kwargs != NULL && i < PyTuple_GET_SIZE(kwnames); i++) {
            if (PyDict_SetItem(kwargs, PyTuple_GET_ITEM(kwnames, i), args[nargs + i]) < 0) {
                Py_CLEAR(kwargs);
            }
        }
        if (kwargs == NULL) {
            goto done;
        }
    }
    if (fn != NULL) {
        message->flags = CF_CALL_WITH_FN;
        object = PyTuple_Pack(3, tuple, kwargs != NULL ? kwargs : Py_None, fn);
    }
    else if (kwargs != NULL) {
        message->flags = CF_CALL_WITH_KWARGS;
        object = PyTuple_Pack(2, tuple, kwargs);
    }
    else {
        message->flags = 0;
        object = Py_NewRef(tuple);
    }
done:
    Py_XDECREF(kwargs);
    Py_DECREF(tuple);
    return object;
}

int
cf_encode_call(cf_codec *codec, PyObject *fn, PyObject *const *args, size_t nargs,
               PyObject *kwnames, cf_message *message)
{
    if (kwnames != NULL && PyTuple_GET_SIZE(kwnames) == 0) {
        kwnames = NULL;
    }
    if (fn == NULL && nargs <= CF_SIMPLE_ARGS) {
        int simple = cf_simple_encode(codec, args, nargs, kwnames, message);
        if (simple != 0) {
            return simple < 0 ? -1 : 0;
        }
    }
    PyObject *object = call_object(fn, args, nargs, kwnames, message);
    if (object == NULL) {
        return -1;
    }
    int r = cf_pickle_encode(codec, object, true, message);
    Py_DECREF(object);
    return r;
}

static int
call_from_simple(cf_codec *codec, const cf_received *received, size_t count,
                 bool keywords, cf_received_call *call)
{
    if (count > CF_SIMPLE_ARGS) {
        cf_codec_corrupt(codec);
        return -1;
    }
    call->args = call->space + 1;
    call->nargs = count;
    if (cf_simple_decode(codec, received, count + keywords, call->args) < 0) {
        call->nargs = 0;
        return -1;
    }
    if (keywords) {
        call->kwargs = call->args[count];
        if (!PyDict_CheckExact(call->kwargs)) {
            cf_received_call_clear(call);
            cf_codec_corrupt(codec);
            return -1;
        }
    }
    return 0;
}

/* Take a pickled call apart; steals `object`. */
static int
call_from_object(cf_codec *codec, PyObject *object, uint16_t flags, cf_received_call *call)
{
    PyObject *tuple = object, *kwargs = Py_None, *fn = NULL;
    if (flags & CF_CALL_WITH_ONE) {
        call->args = call->space + 1;
        call->args[0] = object;
        call->nargs = 1;
        return 0;
    }
    unsigned outer = (flags & CF_CALL_WITH_FN) ? 3 : (flags & CF_CALL_WITH_KWARGS) ? 2 : 0;
    if (outer != 0) {
        if (!PyTuple_CheckExact(object) || PyTuple_GET_SIZE(object) != outer) {
            goto corrupt;
        }
        tuple = PyTuple_GET_ITEM(object, 0);
        kwargs = PyTuple_GET_ITEM(object, 1);
        fn = outer == 3 ? PyTuple_GET_ITEM(object, 2) : NULL;
    }
    if (!PyTuple_CheckExact(tuple) || !(kwargs == Py_None || PyDict_CheckExact(kwargs))) {
        goto corrupt;
    }
    call->tuple = Py_NewRef(tuple);
    call->kwargs = kwargs == Py_None ? NULL : Py_NewRef(kwargs);
    call->fn = Py_XNewRef(fn);
    call->nargs = (size_t)PyTuple_GET_SIZE(tuple);
    call->args = ((PyTupleObject *)tuple)->ob_item;
    Py_DECREF(object);
    return 0;
corrupt:
    Py_DECREF(object);
    cf_codec_corrupt(codec);
    return -1;
}

int
cf_decode_call(cf_codec *codec, const cf_slot *copy, cf_received_call *call)
{
    call->fn = call->kwargs = call->tuple = NULL;
    cf_received received;
    if (cf_received_open(codec, copy, &received) < 0) {
        return -1;
    }
    int r = -1;
    if (copy->codec == CF_CODEC_SIMPLE) {
        r = call_from_simple(codec, &received, copy->count,
                             (copy->flags & CF_CALL_WITH_KWARGS) != 0, call);
    }
    else if (copy->codec == CF_CODEC_PICKLE) {
        PyObject *object = cf_pickle_decode(codec, &received, copy->flags);
        if (object != NULL) {
            r = call_from_object(codec, object, copy->flags, call);
        }
    }
    else {
        cf_codec_corrupt(codec);
    }
    cf_received_close(&received);
    return r;
}

PyObject *
cf_received_call_run(cf_received_call *call, PyObject *fn)
{
    if (fn == NULL) {
        fn = call->fn;
    }
    if (call->kwargs != NULL) {
        return PyObject_VectorcallDict(fn, call->args, call->nargs, call->kwargs);
    }
    /* A tuple has no room before its first item that could be written to. */
    size_t offset = call->tuple == NULL ? PY_VECTORCALL_ARGUMENTS_OFFSET : 0;
    return PyObject_Vectorcall(fn, call->args, call->nargs | offset, NULL);
}

void
cf_received_call_clear(cf_received_call *call)
{
    size_t nargs = call->nargs;
    call->nargs = 0;
    if (call->tuple == NULL) {
        for (size_t i = 0; i < nargs; i++) {
            Py_DECREF(call->args[i]);
        }
    }
    Py_CLEAR(call->tuple);
    Py_CLEAR(call->kwargs);
    Py_CLEAR(call->fn);
}

/* ---- results ---- */

int
cf_encode_result(cf_codec *codec, PyObject *value, cf_message *message)
{
    int simple = cf_simple_encode(codec, &value, 1, NULL, message);
    if (simple != 0) {
        return simple < 0 ? -1 : 0;
    }
    message->flags = 0;
    return cf_pickle_encode(codec, value, false, message);
}

PyObject *
cf_received_value(cf_codec *codec, const cf_received *received, uint8_t kind,
                  uint16_t flags)
{
    PyObject *value = NULL;
    switch (kind) {
    case CF_CODEC_SIMPLE:
        return cf_simple_decode(codec, received, 1, &value) < 0 ? NULL : value;
    case CF_CODEC_PICKLE:
        return cf_pickle_decode(codec, received, flags);
    default:
        return cf_codec_corrupt(codec);
    }
}

PyObject *
cf_decode_result(cf_codec *codec, const cf_slot *copy)
{
    cf_received received;
    if (cf_received_open(codec, copy, &received) < 0) {
        cf_discard_result(codec, copy);
        return NULL;
    }
    /* A result is one value. */
    PyObject *value = copy->codec == CF_CODEC_SIMPLE && copy->count != 1
                      ? cf_codec_corrupt(codec)
                      : cf_received_value(codec, &received, copy->codec, copy->flags);
    cf_received_close(&received);
    give_frame_back(codec, &copy->place);
    return value;
}

void
cf_discard_result(cf_codec *codec, const cf_slot *copy)
{
    if (copy->codec == CF_CODEC_PICKLE && (copy->flags & CF_WITH_BUFFERS)) {
        cf_pickle_discard(codec, &copy->place, copy->inlined);
    }
    give_frame_back(codec, &copy->place);
}
