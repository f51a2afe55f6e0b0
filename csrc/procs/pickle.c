/* Messages that are pickled.

   A pickler lives from message to message: making one, with its memo and its bound
   methods, costs as much as pickling a small object.  Who encodes takes it out of
   codec->idle; if it is not there (another thread is at it, or a __reduce__ that submits)
   a new one is made, and who is done first puts his back.  One that raised, or that had
   much to do and so has a large memo, is thrown away.

   Its file and its buffer_callback are one object, a PickleSink.  What is written to it
   goes into a frame; the larger pieces are not copied, but held.  A buffer of the
   threshold's size gets a block at once, so that it is known whether there is room (else
   it goes into the pickle), and is copied when the pickler is done.

       IDLE --begin--> OPEN --pickler writes, calls back--> OPEN --end--> IDLE

   While OPEN it belongs to one thread; blocks are the sink's until they are booked or the
   message is the receiver's. */
#include "procs/codec_parts.h"

#include <stdlib.h>
#include <string.h>

/* A block for a buffer. */
typedef struct {
    cf_place place;
    const void *data;               /* kept alive by sink->kept */
    bool warm, readonly;
} sink_block;

typedef struct {
    PyObject_HEAD
    cf_codec *codec;                /* borrowed; NULL: IDLE */
    cf_frame frame;
    PyObject *kept;                 /* list or NULL: what the frame and `blocks` point to */
    sink_block *blocks;
    uint32_t count, space;
} PickleSinkObject;

static PickleSinkObject *
self_of(PyObject *self)
{
    return (PickleSinkObject *)self;
}

/* ---- the sink ---- */

static int
sink_keep(PickleSinkObject *sink, PyObject *object)     /* steals; NULL: failed already */
{
    if (object == NULL) {
        return -1;
    }
    if (sink->kept == NULL) {
        sink->kept = PyList_New(0);
    }
    int r = sink->kept == NULL ? -1 : PyList_Append(sink->kept, object);
    Py_DECREF(object);
    return r;
}

static void
sink_begin(PickleSinkObject *sink, cf_codec *codec, char *inlined)
{
    cf_frame_init(&sink->frame, inlined, CF_SLOT_INLINE);
    sink->count = 0;
    sink->codec = codec;
}

static void
sink_end(PickleSinkObject *sink)
{
    sink->codec = NULL;
    cf_frame_clear(&sink->frame);
    if (sink->blocks != NULL) {
        free(sink->blocks);
        sink->blocks = NULL;
        sink->space = 0;
    }
    Py_CLEAR(sink->kept);
}

static PyObject *
sink_written(cf_status status)
{
    if (status != CF_OK) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

static PyObject *
sink_py_write(PyObject *self, PyObject *data)
{
    PickleSinkObject *sink = self_of(self);
    if (sink->codec == NULL) {
        PyErr_SetString(PyExc_ValueError, "the message is finished");
        return NULL;
    }
    if (PyBytes_CheckExact(data)) {
        size_t size = (size_t)PyBytes_GET_SIZE(data);
        if (size < CF_FRAME_APART) {
            return sink_written(cf_frame_append(&sink->frame, PyBytes_AS_STRING(data), size));
        }
        if (sink_keep(sink, Py_NewRef(data)) < 0) {
            return NULL;
        }
        return sink_written(cf_frame_refer(&sink->frame, PyBytes_AS_STRING(data), size));
    }
    /* The pickler's own view of memory that it does not say how long it will live. */
    bool unowned = PyMemoryView_Check(data) && PyMemoryView_GET_BASE(data) == NULL;
    PyObject *memory = PyMemoryView_FromObject(data);
    if (memory == NULL) {
        return NULL;
    }
    const Py_buffer *view = PyMemoryView_GET_BUFFER(memory);
    if (!PyBuffer_IsContiguous(view, 'A')) {
        Py_DECREF(memory);
        PyErr_SetString(PyExc_BufferError, "write() needs a contiguous buffer");
        return NULL;
    }
    if (unowned || view->len < CF_FRAME_APART) {
        cf_status status = cf_frame_append(&sink->frame, view->buf, (size_t)view->len);
        Py_DECREF(memory);
        return sink_written(status);
    }
    if (sink_keep(sink, memory) < 0) {
        return NULL;
    }
    return sink_written(cf_frame_refer(&sink->frame, view->buf, (uint64_t)view->len));
}

static int
sink_add_block(PickleSinkObject *sink, const sink_block *block)
{
    if (sink->count == sink->space) {
        uint32_t space = sink->space == 0 ? 4 : sink->space * 2;
        sink_block *blocks = realloc(sink->blocks, space * sizeof(sink_block));
        if (blocks == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        sink->blocks = blocks;
        sink->space = space;
    }
    sink->blocks[sink->count++] = *block;
    return 0;
}

/* A block for the buffer: 1; 0: it goes into the pickle; -1 with an exception. */
static int
sink_collect(PickleSinkObject *sink, PyObject *buffer)
{
    /* Our own export: a PickleBuffer can be released by whoever made it. */
    PyObject *memory = PyMemoryView_FromObject(buffer);
    if (memory == NULL) {
        return -1;
    }
    const Py_buffer *view = PyMemoryView_GET_BUFFER(memory);
    sink_block block = {.data = view->buf, .readonly = view->readonly};
    if ((uint64_t)view->len < sink->codec->threshold || view->len == 0
        || !PyBuffer_IsContiguous(view, 'A')
        || cf_codec_alloc(sink->codec, (uint64_t)view->len, &block.place, &block.warm)
           != CF_OK)
    {
        Py_DECREF(memory);
        return 0;
    }
    if (sink_add_block(sink, &block) < 0) {
        cf_codec_free_block(sink->codec, &block.place);
        Py_DECREF(memory);
        return -1;
    }
    return sink_keep(sink, memory) < 0 ? -1 : 1;
}

/* buffer_callback: true keeps the buffer in the pickle. */
static PyObject *
sink_tp_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *buffer;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "PickleSink() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O:PickleSink", &buffer)) {
        return NULL;
    }
    if (self_of(self)->codec == NULL) {
        PyErr_SetString(PyExc_ValueError, "the message is finished");
        return NULL;
    }
    int apart = sink_collect(self_of(self), buffer);
    return apart < 0 ? NULL : PyBool_FromLong(!apart);
}

static void
sink_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    sink_end(self_of(self));
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef sink_methods[] = {
    {"write", sink_py_write, METH_O, PyDoc_STR(
     "write($self, data, /)\n--\n\nAppend a bytes-like object to the message.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot sink_slots[] = {
    {Py_tp_doc, PyDoc_STR("Where a message's pickler writes to, and its buffer_callback.")},
    {Py_tp_dealloc, sink_tp_dealloc},
    {Py_tp_call, sink_tp_call},
    {Py_tp_methods, sink_methods},
    {0, NULL},
};

static PyType_Spec sink_spec = {
    .name = "cfutures._core.PickleSink",
    .basicsize = sizeof(PickleSinkObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = sink_slots,
};

int
cf_pickle_add_type(PyObject *module, cf_state *st)
{
    st->PickleSink = (PyTypeObject *)PyType_FromModuleAndSpec(module, &sink_spec, NULL);
    return st->PickleSink == NULL ? -1 : 0;
}

/* ---- picklers ---- */

/* Owned by whoever took it out of codec->idle. */
struct cf_pickling {
    PyObject *sink;
    PyObject *dump, *clear_memo;    /* bound methods; they hold the pickler */
};

/* Frames from this size on leave a memo behind that is slow to clear. */
#define LARGE_FRAME 65536

void
cf_pickling_free(cf_pickling *p)
{
    Py_XDECREF(p->dump);
    Py_XDECREF(p->clear_memo);
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
    PyTypeObject *type = codec->st->PickleSink;
    p->sink = type->tp_alloc(type, 0);
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
book_blocks(cf_codec *codec, const sink_block *blocks, uint32_t count, uint32_t *head)
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

/* Copy the buffers into their blocks and write their table behind the pickle. */
static int
sink_copy_buffers(PickleSinkObject *sink)
{
    cf_status status = CF_OK;
    for (uint32_t i = 0; i < sink->count; i++) {
        const sink_block *b = &sink->blocks[i];
        if (cf_codec_fill(sink->codec, &b->place, b->warm, 0, b->data, b->place.size) < 0) {
            return -1;
        }
        if (status == CF_OK) {
            status = cf_frame_buffer(&sink->frame, &b->place, b->readonly);
        }
    }
    if (status == CF_OK) {
        status = cf_frame_table_end(&sink->frame, sink->count);
    }
    if (status != CF_OK) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static int
sink_send(PickleSinkObject *sink, bool call, cf_message *message)
{
    cf_codec *codec = sink->codec;
    if (sink->count != 0) {
        message->flags |= CF_WITH_BUFFERS;
        if (sink_copy_buffers(sink) < 0) {
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
    PickleSinkObject *sink = self_of(p->sink);
    sink_begin(sink, codec, message->inlined);
    int r = call_for_nothing(p->dump, object);
    if (r == 0) {
        r = sink_send(sink, call, message);
    }
    bool large = cf_frame_size(&sink->frame) >= LARGE_FRAME;
    if (r < 0) {
        for (uint32_t i = 0; i < sink->count; i++) {
            cf_codec_free_block(codec, &sink->blocks[i].place);
        }
    }
    /* What is dropped here may run Python code, but can no longer reach the sink. */
    PyObject *exc = r < 0 ? PyErr_GetRaisedException() : NULL;
    sink_end(sink);
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
        || (codec->holder != 0 && !cf_block_adopt(codec->seg, &place, codec->holder)))
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
    if (list == NULL && codec->holder == 0) {
        /* A call's blocks are freed by its sender, those of a result by nobody else. */
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
        if (size < CF_TABLE_END || cf_table_count(end - CF_TABLE_END, size, &count) != CF_OK) {
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
