/* _core.SharedBuffer: memory of an object that travelled through shared memory.

   It holds the mapping, not the pool: it may be freed long after the pool and the codec
   are gone, by any thread, while the interpreter ends, in a forked child.  It refers to
   no Python object, so the cycle collector has nothing to do with it. */
#include "procs/lease.h"

typedef struct {
    PyObject_HEAD
    /* Never changes. */
    cf_segment *seg;                /* one reference */
    cf_lease *lease;                /* owned; NULL: the block is only lent */
    cf_place place;
    bool readonly;
} SharedBufferObject;

static SharedBufferObject *
self_of(PyObject *self)
{
    return (SharedBufferObject *)self;
}

static PyObject *
buffer_new(cf_codec *codec, const cf_place *place, bool readonly)
{
    PyTypeObject *type = codec->st->SharedBuffer;
    PyObject *self = type->tp_alloc(type, 0);
    if (self != NULL) {
        CF_BORN(shared_buffer);
        cf_segment_incref(codec->seg);
        self_of(self)->seg = codec->seg;
        self_of(self)->place = *place;
        self_of(self)->readonly = readonly;
    }
    return self;
}

PyObject *
cf_shared_buffer_new(cf_codec *codec, const cf_place *place, bool readonly)
{
    PyObject *self = buffer_new(codec, place, readonly);
    cf_lease *lease = self == NULL ? NULL : cf_lease_begin(codec->seg, place, codec->pins);
    if (lease == NULL) {
        cf_block_return(codec->seg, place);
        if (self != NULL) {
            Py_DECREF(self);
            PyErr_NoMemory();
        }
        return NULL;
    }
    self_of(self)->lease = lease;
    return self;
}

PyObject *
cf_shared_buffer_lend(cf_codec *codec, const cf_place *place)
{
    return buffer_new(codec, place, true);
}

static void
buffer_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    cf_segment *seg = self_of(self)->seg;
    if (self_of(self)->lease != NULL) {
        cf_lease_end(self_of(self)->lease);
    }
    if (seg != NULL) {
        cf_segment_decref(seg);
    }
    CF_GONE(shared_buffer);
    type->tp_free(self);
    Py_DECREF(type);
}

static int
buffer_bf_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    const SharedBufferObject *b = self_of(self);
    return PyBuffer_FillInfo(view, self, cf_segment_at(b->seg, b->place.offset),
                             (Py_ssize_t)b->place.size, b->readonly, flags);
}

static Py_ssize_t
buffer_sq_length(PyObject *self)
{
    return (Py_ssize_t)self_of(self)->place.size;
}

/* A pickle.PickleBuffer that was sent arrives as this; sent on it arrives as what pickle
   makes of one in its own stream. */
static PyObject *
buffer_py_reduce_ex(PyObject *self, PyObject *Py_UNUSED(protocol))
{
    PyObject *type = self_of(self)->readonly ? (PyObject *)&PyBytes_Type
                                             : (PyObject *)&PyByteArray_Type;
    PyObject *buffer = PyPickleBuffer_FromObject(self);
    return buffer == NULL ? NULL : Py_BuildValue("O(N)", type, buffer);
}

static PyMethodDef buffer_methods[] = {
    {"__reduce_ex__", buffer_py_reduce_ex, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot buffer_slots[] = {
    {Py_tp_doc, PyDoc_STR(
     "Memory of an object that another process sent: what its buffer protocol gives.\n\n"
     "Writable if the sender's was.  The memory is the pool's, and goes back to it when\n"
     "nothing refers to this object any more.")},
    {Py_tp_dealloc, buffer_tp_dealloc},
    {Py_bf_getbuffer, buffer_bf_getbuffer},
    {Py_sq_length, buffer_sq_length},
    {Py_tp_methods, buffer_methods},
    {0, NULL},
};

static PyType_Spec buffer_spec = {
    .name = "cfutures._core.SharedBuffer",
    .basicsize = sizeof(SharedBufferObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = buffer_slots,
};

int
cf_shared_buffer_add_type(PyObject *module, cf_state *st)
{
    st->SharedBuffer =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &buffer_spec, NULL);
    return st->SharedBuffer == NULL ? -1 : PyModule_AddType(module, st->SharedBuffer);
}
