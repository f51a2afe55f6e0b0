/* Messages that are pickled.

   A pickler lives from message to message: making one, with its memo and its bound
   methods, costs as much as pickling a small object.  Who encodes takes it out of
   codec->idle; if it is not there (another thread is at it, or a __reduce__ that submits)
   a new one is made, and who is done first puts his back.  One that raised, or that had
   much to do and so has a large memo, is thrown away.  It writes into a PickleSink of its
   own. */
#include "procs/pickle_sink.h"

#include <stdlib.h>
#include <string.h>

/* ---- picklers ---- */

/* Owned by whoever took it out of codec->idle. */
struct cf_pickling {
    PickleSinkObject *sink;
    PyObject *dump, *clear_memo;    /* bound methods; they hold the pickler */
};

/* Frames from this size on leave a memo behind that is slow to clear. */
#define LARGE_FRAME 65536

void
cf_pickling_free(cf_pickling *p)
{
    Py_XDECREF(p->dump);
    Py_XDECREF(p->clear_memo);
    CF_GONE(pickling);
    Py_XDECREF(p->sink);
    free(p);
}

static cf_pickling *
pickling_new(cf_codec *codec)
{
    cf_pickling *p = calloc(1, sizeof(cf_pickling));
    if (p == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    CF_BORN(pickling);
    p->sink = cf_sink_new(codec->st);
    if (p->sink == NULL) {
        goto failed;
    }
    PyObject *pickler =
        PyObject_CallFunctionObjArgs(codec->new_pickler, p->sink, p->sink, NULL);
    if (pickler == NULL) {
        goto failed;
    }
    p->dump = PyObject_GetAttrString(pickler, "dump");
    p->clear_memo = PyObject_GetAttrString(pickler, "clear_memo");
    Py_DECREF(pickler);
    if (p->dump != NULL && p->clear_memo != NULL) {
        return p;
    }
failed:
    cf_pickling_free(p);
    return NULL;
}

static cf_pickling *
pickling_take(cf_codec *codec)
{
    cf_pickling *p = atomic_exchange_explicit(&codec->idle, NULL, memory_order_acquire);
    return p != NULL ? p : pickling_new(codec);
}

static void
pickling_put_back(cf_codec *codec, cf_pickling *p)
{
    cf_pickling *none = NULL;
    if (!atomic_compare_exchange_strong_explicit(&codec->idle, &none, p,
                                                 memory_order_release,
                                                 memory_order_relaxed))
    {
        cf_pickling_free(p);
    }
}

/* ---- the books of calls ---- */

/* Make room for `count` more entries; false: no memory. */
static bool
books_grow_lock_held(cf_codec *codec, uint32_t count)
{
    while (codec->booked_left < count) {
        uint32_t old_room = codec->booked_room, room = old_room * 2 + count;
        cf_spinlock_unlock(&codec->lock);
        cf_booked *larger = malloc(room * sizeof(cf_booked));
        cf_spinlock_lock(&codec->lock);
        if (larger == NULL) {
            return false;
        }
        cf_booked *rest = larger;
        if (codec->booked_room == old_room) {
            rest = codec->booked;
            if (old_room != 0) {
                memcpy(larger, rest, old_room * sizeof(cf_booked));
            }
            for (uint32_t i = old_room; i < room; i++) {
                larger[i].next = codec->booked_free;
                codec->booked_free = i;
            }
            codec->booked_left += room - old_room;
            codec->booked_room = room;
            codec->booked = larger;
        }
        cf_spinlock_unlock(&codec->lock);
        free(rest);
        cf_spinlock_lock(&codec->lock);
    }
    return true;
}

/* Book the blocks of a call, so that its sender can free them by one number. */
static int
book_blocks(cf_codec *codec, const cf_sink_block *blocks, uint32_t count, uint32_t *head)
{
    cf_spinlock_lock(&codec->lock);
    bool room = books_grow_lock_held(codec, count);
    for (uint32_t i = 0; room && i < count; i++) {
        uint32_t entry = codec->booked_free;
        codec->booked_free = codec->booked[entry].next;
        codec->booked_left--;
        codec->booked[entry] = (cf_booked){blocks[i].place.block, *head};
        *head = entry;
    }
    cf_spinlock_unlock(&codec->lock);
    if (!room) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* ---- sending ---- */

static int
call_for_nothing(PyObject *callable, PyObject *arg)
{
    PyObject *r = arg == NULL ? PyObject_CallNoArgs(callable)
                              : PyObject_CallOneArg(callable, arg);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

static int
sink_send(PickleSinkObject *sink, bool call, cf_message *message)
{
    cf_codec *codec = sink->codec;
    if (sink->count != 0) {
        message->flags |= CF_WITH_BUFFERS;
        if (cf_sink_copy_buffers(sink) < 0) {
            return -1;
        }
    }
    if (cf_codec_send(codec, &sink->frame, message) < 0) {
        return -1;
    }
    if (call && sink->count != 0
        && book_blocks(codec, sink->blocks, sink->count, &message->buffers) < 0)
    {
        cf_message_release(codec, &message->place, CF_NO_BLOCK);
        return -1;
    }
    return 0;
}

int
cf_pickle_encode(cf_codec *codec, PyObject *object, bool call, cf_message *message)
{
    cf_pickling *p = pickling_take(codec);
    if (p == NULL) {
        return -1;
    }
    message->codec = CF_CODEC_PICKLE;
    message->count = 0;
    message->buffers = CF_NO_BLOCK;
    PickleSinkObject *sink = p->sink;
    cf_sink_begin(sink, codec, message->inlined);
    int r = call_for_nothing(p->dump, object);
    if (r == 0) {
        r = sink_send(sink, call, message);
    }
    bool large = cf_frame_size(&sink->frame) >= LARGE_FRAME;
    if (r < 0) {
        cf_sink_free_blocks(sink);
    }
    /* What is dropped here may run Python code, but can no longer reach the sink. */
    PyObject *exc = r < 0 ? PyErr_GetRaisedException() : NULL;
    cf_sink_end(sink);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
    else if (!large && call_for_nothing(p->clear_memo, NULL) == 0) {
        pickling_put_back(codec, p);
        return 0;
    }
    else {
        /* A memo that cannot be cleared goes with its pickler; the message is good. */
        PyErr_Clear();
    }
    exc = PyErr_GetRaisedException();
    cf_pickling_free(p);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
    return r;
}

/* ---- receiving ---- */

/* Give the buffers of a result back, those from entry `first` of its table on. */
static void
return_blocks(cf_codec *codec, const char *table, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < count; i++) {
        cf_place place;
        bool readonly;
        if (cf_table_entry(table, i, &place, &readonly) == CF_OK
            && cf_codec_foreign(codec, &place))
        {
            cf_block_return(codec->seg, &place);
        }
    }
}

/* A view of one received buffer (new), or NULL with an exception. */
static PyObject *
read_buffer(cf_codec *codec, const char *table, uint32_t index)
{
    cf_place place;
    bool readonly;
    if (cf_table_entry(table, index, &place, &readonly) != CF_OK
        || !cf_codec_foreign(codec, &place)
        || (codec->holder != 0 && codec->head_room == 0
            && !cf_block_adopt(codec->seg, &place, codec->holder)))
    {
        return cf_codec_corrupt(codec);
    }
    return cf_shared_buffer_new(codec, &place, readonly);
}

/* The views of a received frame's buffers: list (new), or NULL with an exception. */
static PyObject *
read_buffers(cf_codec *codec, const char *table, uint32_t count)
{
    PyObject *list = PyList_New(0);
    uint32_t i = 0;
    for (; list != NULL && i < count; i++) {
        PyObject *buffer = read_buffer(codec, table, i);
        if (buffer == NULL || PyList_Append(list, buffer) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(buffer);
    }
    if (list == NULL && (codec->holder == 0 || codec->head_room != 0)) {
        /* A call's blocks are freed by its sender, others by nobody else. */
        return_blocks(codec, table, i, count);
    }
    return list;
}

/* Something bytes-like with the frame's bytes (new). */
static PyObject *
frame_object(cf_codec *codec, const cf_received *received)
{
    if (received->copied != NULL) {
        return Py_NewRef(received->copied);
    }
    if (received->place.where == CF_WHERE_INLINE) {
        return PyBytes_FromStringAndSize(received->data, (Py_ssize_t)received->size);
    }
    return cf_shared_buffer_lend(codec, &received->place);
}

PyObject *
cf_pickle_decode(cf_codec *codec, const cf_received *received, uint16_t flags)
{
    const char *end = received->data + received->size;
    uint64_t size = received->size;
    PyObject *buffers = NULL, *object = NULL;
    if (flags & CF_WITH_BUFFERS) {
        uint32_t count;
        if (size < CF_TABLE_END
            || cf_table_count(end - CF_TABLE_END, size, &count) != CF_OK)
        {
            return cf_codec_corrupt(codec);
        }
        size -= cf_table_size(count);
        buffers = read_buffers(codec, received->data + size, count);
        if (buffers == NULL) {
            return NULL;
        }
    }
    /* Protocol 5 and a stop; what is behind the stop (the table) is not read. */
    if (size < 3 || memcmp(received->data, "\x80\x05", 2) != 0
        || received->data[size - 1] != '.')
    {
        Py_XDECREF(buffers);
        return cf_codec_corrupt(codec);
    }
    PyObject *frame = frame_object(codec, received);
    if (frame != NULL) {
        PyObject *args[] = {NULL, frame, buffers};
        object = PyObject_Vectorcall(codec->loads, args + 1,
                                     1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                     buffers == NULL ? NULL : codec->buffers_keyword);
        Py_DECREF(frame);
    }
    Py_XDECREF(buffers);
    return object;
}

/* Bytes of an unread frame, from `at` on; false if the frame is not where it could be. */
static bool
read_part(cf_codec *codec, const cf_place *frame, const char *inlined, uint64_t at,
          void *part, uint64_t size)
{
    switch (frame->where) {
    case CF_WHERE_INLINE:
        memcpy(part, inlined + at, size);
        return true;
    case CF_WHERE_SPILL:
        return cf_segment_read(codec->seg, frame->offset + at, part, size) == CF_OK;
    default:
        memcpy(part, (char *)cf_segment_at(codec->seg, frame->offset) + at, size);
        return true;
    }
}

void
cf_pickle_discard(cf_codec *codec, const cf_place *frame, const char *inlined)
{
    char end[CF_TABLE_END], entry[CF_TABLE_ENTRY];
    uint32_t count;
    uint64_t size = frame->size;
    bool valid = frame->where == CF_WHERE_INLINE ? size <= CF_SLOT_INLINE
               : frame->where == CF_WHERE_SPILL ? cf_place_valid(codec->seg, frame)
               : cf_codec_foreign(codec, frame);
    if (!valid || size < CF_TABLE_END
        || !read_part(codec, frame, inlined, size - CF_TABLE_END, end, CF_TABLE_END)
        || cf_table_count(end, size, &count) != CF_OK)
    {
        return;
    }
    uint64_t table = size - cf_table_size(count);
    for (uint32_t i = 0; i < count; i++) {
        if (!read_part(codec, frame, inlined, table + (uint64_t)i * CF_TABLE_ENTRY, entry,
                       CF_TABLE_ENTRY))
        {
            return;
        }
        return_blocks(codec, entry, 0, 1);
    }
}
