#include "procs/pickle_sink.h"

#include <stdlib.h>

static PickleSinkObject *
self_of(PyObject *self)
{
    return (PickleSinkObject *)self;
}

PickleSinkObject *
cf_sink_new(cf_state *st)
{
    PyObject *self = st->PickleSink->tp_alloc(st->PickleSink, 0);
    if (self != NULL) {
        CF_BORN(pickle_sink);
    }
    return self_of(self);
}

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

void
cf_sink_begin(PickleSinkObject *sink, cf_codec *codec, char *inlined)
{
    cf_frame_init(&sink->frame, inlined, CF_SLOT_INLINE);
    sink->count = 0;
    sink->codec = codec;
}

void
cf_sink_end(PickleSinkObject *sink)
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

int
cf_sink_copy_buffers(PickleSinkObject *sink)
{
    cf_status status = CF_OK;
    for (uint32_t i = 0; i < sink->count; i++) {
        const cf_sink_block *b = &sink->blocks[i];
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

void
cf_sink_free_blocks(PickleSinkObject *sink)
{
    for (uint32_t i = 0; i < sink->count; i++) {
        cf_codec_free_block(sink->codec, &sink->blocks[i].place);
    }
    sink->count = 0;
}

/* ---- what the pickler calls ---- */

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
            return sink_written(
                cf_frame_append(&sink->frame, PyBytes_AS_STRING(data), size));
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
sink_add_block(PickleSinkObject *sink, const cf_sink_block *block)
{
    if (sink->count == sink->space) {
        uint32_t space = sink->space == 0 ? 4 : sink->space * 2;
        cf_sink_block *blocks = realloc(sink->blocks, space * sizeof(cf_sink_block));
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
    cf_sink_block block = {.data = view->buf, .readonly = view->readonly};
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
    cf_sink_end(self_of(self));
    CF_GONE(pickle_sink);
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
cf_sink_add_type(PyObject *module, cf_state *st)
{
    st->PickleSink = (PyTypeObject *)PyType_FromModuleAndSpec(module, &sink_spec, NULL);
    return st->PickleSink == NULL ? -1 : 0;
}
