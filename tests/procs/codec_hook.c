/* A module for test_codec.py: the codec (csrc/procs/codec.h) of a parent and of a worker,
   both in one process, on two mappings of one segment, without a pool around it.

   It is an extension of its own, with its own copy of the code below procs/, so that the
   package has nothing in it that only tests need. */
#include "procs/codec.h"

#include <string.h>

struct PyModuleDef cf_module_def;

static PyTypeObject *message_type;      /* one interpreter loads this module once */

/* ---- a parent and a worker ---- */

typedef struct {
    PyObject_HEAD
    cf_segment *seg[2];         /* 0: the parent's view, 1: the worker's */
    cf_arena *arena[2];
    cf_codec *codec[2];
} WireObject;

static WireObject *
wire_of(PyObject *self)
{
    return (WireObject *)self;
}

static PyObject *
wire_tp_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    unsigned long long arena_bytes = 64 << 20, threshold = 65536;
    int with_arena = 1;
    if (!PyArg_ParseTuple(args, "|KKp", &arena_bytes, &threshold, &with_arena)) {
        return NULL;
    }
    WireObject *self = (WireObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    cf_geometry g = {.slots = CF_SLOTS_MIN, .workers = 2, .arenas = 2,
                     .arena_bytes = arena_bytes};
    if (cf_segment_create(&g, &self->seg[0]) != CF_OK
        || cf_segment_attach(self->seg[0]->fd, &self->seg[1]) != CF_OK)
    {
        goto failed;
    }
    for (uint32_t side = 0; side < 2; side++) {
        if (with_arena
            && cf_arena_open(self->seg[side], side, &self->arena[side]) != CF_OK)
        {
            goto failed;
        }
        self->codec[side] = cf_codec_new(cf_state_of(type), self->seg[side],
                                         self->arena[side], side, threshold);
        if (self->codec[side] == NULL) {
            Py_DECREF(self);
            return NULL;
        }
    }
    return (PyObject *)self;
failed:
    PyErr_SetFromErrno(PyExc_OSError);
    Py_DECREF(self);
    return NULL;
}

static void
wire_close(WireObject *self)
{
    for (int side = 0; side < 2; side++) {
        if (self->codec[side] != NULL) {
            cf_codec_free(self->codec[side]);
            self->codec[side] = NULL;
        }
        cf_arena_close(self->arena[side]);
        self->arena[side] = NULL;
        if (self->seg[side] != NULL) {
            cf_segment_decref(self->seg[side]);
            self->seg[side] = NULL;
        }
    }
}

static void
wire_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    wire_close(wire_of(self));
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- messages ---- */

typedef struct {
    PyObject_HEAD
    WireObject *wire;           /* owned */
    int sender;                 /* 0: a call, 1: a result */
    cf_place place;             /* the sender's own copy */
    uint32_t buffers;
    cf_slot slot;
} MessageObject;

static MessageObject *
message_of(PyObject *self)
{
    return (MessageObject *)self;
}

static PyObject *
message_new(WireObject *wire, int sender, const cf_message *message)
{
    MessageObject *self = (MessageObject *)message_type->tp_alloc(message_type, 0);
    if (self == NULL) {
        cf_slot slot = {.codec = CF_CODEC_NONE};
        cf_message_post(message, &slot);
        if (sender == 1) {
            cf_discard_result(wire->codec[0], &slot);
        }
        else {
            cf_message_release(wire->codec[0], &message->place, message->buffers);
        }
        return NULL;
    }
    self->wire = (WireObject *)Py_NewRef((PyObject *)wire);
    self->sender = sender;
    self->place = message->place;
    self->buffers = message->buffers;
    cf_message_post(message, &self->slot);
    return (PyObject *)self;
}

static void
message_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(message_of(self)->wire);
    type->tp_free(self);
    Py_DECREF(type);
}

/* call(fn_or_None, /, *args, **kwargs): as submit() encodes it. */
static PyObject *
wire_py_call(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    cf_message message;
    if (nargs < 1) {
        PyErr_SetString(PyExc_TypeError, "call() needs a function or None");
        return NULL;
    }
    PyObject *fn = args[0] == Py_None ? NULL : args[0];
    if (cf_encode_call(wire_of(self)->codec[0], fn, args + 1, (size_t)nargs - 1, kwnames,
                       &message) < 0)
    {
        return NULL;
    }
    return message_new(wire_of(self), 0, &message);
}

static PyObject *
wire_py_result(PyObject *self, PyObject *value)
{
    cf_message message;
    if (cf_encode_result(wire_of(self)->codec[1], value, &message) < 0) {
        return NULL;
    }
    return message_new(wire_of(self), 1, &message);
}

static void
collect_usage(cf_arena *arena, void *arg)
{
    uint64_t *sizes = arg;
    if (arena != NULL) {
        /* Blocks that were given back are counted as used until the owner looks. */
        cf_arena_trim(arena, UINT64_MAX);
        cf_arena_usage(arena, &sizes[0], &sizes[1]);
    }
}

/* usage() -> (bytes in use in the parent's arena, in the worker's). */
static PyObject *
wire_py_usage(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    uint64_t sizes[2][2] = {{0, 0}, {0, 0}};
    for (int side = 0; side < 2; side++) {
        cf_codec_with_arena(wire_of(self)->codec[side], collect_usage, sizes[side]);
    }
    return Py_BuildValue("(KK)", (unsigned long long)sizes[0][0],
                         (unsigned long long)sizes[1][0]);
}

/* views() -> (the parent's of the worker's arena, the worker's of the parent's). */
static PyObject *
wire_py_views(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("(II)", cf_codec_views(wire_of(self)->codec[0], 1),
                         cf_codec_views(wire_of(self)->codec[1], 0));
}

/* disown(side): as in a forked child. */
static PyObject *
wire_py_disown(PyObject *self, PyObject *side)
{
    cf_segment_disown(wire_of(self)->seg[PyObject_IsTrue(side)]);
    Py_RETURN_NONE;
}

static PyObject *
wire_py_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    wire_close(wire_of(self));
    Py_RETURN_NONE;
}

/* deliver() -> (fn, args, kwargs) of a call, or the value of a result. */
static PyObject *
message_py_deliver(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MessageObject *m = message_of(self);
    if (m->sender == 1) {
        return cf_decode_result(m->wire->codec[0], &m->slot);
    }
    cf_received_call call;
    if (cf_decode_call(m->wire->codec[1], &m->slot, &call) < 0) {
        return NULL;
    }
    PyObject *args = PyTuple_New((Py_ssize_t)call.nargs), *r = NULL;
    if (args != NULL) {
        for (size_t i = 0; i < call.nargs; i++) {
            PyTuple_SET_ITEM(args, (Py_ssize_t)i, Py_NewRef(call.args[i]));
        }
        r = Py_BuildValue("(OOO)", call.fn == NULL ? Py_None : call.fn, args,
                          call.kwargs == NULL ? Py_None : call.kwargs);
        Py_DECREF(args);
    }
    cf_received_call_clear(&call);
    return r;
}

/* run(fn_or_None): decode, call, drop, as a worker does. */
static PyObject *
message_py_run(PyObject *self, PyObject *fn)
{
    MessageObject *m = message_of(self);
    cf_received_call call;
    if (cf_decode_call(m->wire->codec[1], &m->slot, &call) < 0) {
        return NULL;
    }
    PyObject *r = cf_received_call_run(&call, fn == Py_None ? NULL : fn);
    cf_received_call_clear(&call);
    return r;
}

/* release(): a call has been answered.  discard(): nobody wants a result. */
static PyObject *
message_py_release(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MessageObject *m = message_of(self);
    Py_BEGIN_ALLOW_THREADS
    cf_message_release(m->wire->codec[m->sender], &m->place, m->buffers);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
message_py_discard(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MessageObject *m = message_of(self);
    Py_BEGIN_ALLOW_THREADS
    cf_discard_result(m->wire->codec[0], &m->slot);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static char *
frame_at(MessageObject *m)
{
    if (m->slot.place.where == CF_WHERE_INLINE) {
        return m->slot.inlined;
    }
    return m->slot.place.where == CF_WHERE_SPILL
           ? NULL : cf_segment_at(m->wire->seg[0], m->slot.place.offset);
}

/* frame() -> the frame's bytes; scribble(at, bytes): write over them. */
static PyObject *
message_py_frame(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MessageObject *m = message_of(self);
    const char *at = frame_at(m);
    if (at != NULL) {
        return PyBytes_FromStringAndSize(at, (Py_ssize_t)m->slot.place.size);
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)m->slot.place.size);
    if (bytes != NULL
        && cf_spill_read(m->wire->seg[0], &m->slot.place, PyBytes_AS_STRING(bytes))
           != CF_OK)
    {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_CLEAR(bytes);
    }
    return bytes;
}

static PyObject *
message_py_scribble(PyObject *self, PyObject *args)
{
    Py_ssize_t at, size;
    const char *data;
    if (!PyArg_ParseTuple(args, "ny#", &at, &data, &size)) {
        return NULL;
    }
    char *frame = frame_at(message_of(self));
    if (frame == NULL || at < 0 || size > (Py_ssize_t)message_of(self)->place.size - at) {
        PyErr_SetString(PyExc_ValueError, "outside of the frame");
        return NULL;
    }
    memcpy(frame + at, data, (size_t)size);
    Py_RETURN_NONE;
}

/* set(name, value): write over a field of the slot. */
static PyObject *
message_py_set(PyObject *self, PyObject *args)
{
    const char *name;
    unsigned long long value;
    if (!PyArg_ParseTuple(args, "sK", &name, &value)) {
        return NULL;
    }
    cf_slot *slot = &message_of(self)->slot;
#define FIELD(field, lvalue) \
    if (strcmp(name, field) == 0) { lvalue = (__typeof__(lvalue))value; Py_RETURN_NONE; }
    FIELD("codec", slot->codec)
    FIELD("count", slot->count)
    FIELD("flags", slot->flags)
    FIELD("offset", slot->place.offset)
    FIELD("size", slot->place.size)
    FIELD("where", slot->place.where)
    FIELD("block", slot->place.block)
#undef FIELD
    PyErr_SetString(PyExc_ValueError, name);
    return NULL;
}

static PyObject *
message_get_slot(PyObject *self, void *Py_UNUSED(closure))
{
    const cf_slot *s = &message_of(self)->slot;
    static const char *const codecs[] = {"none", "simple", "pickle"};
    return Py_BuildValue("{s:s,s:i,s:i,s:K,s:K,s:I,s:I}",
        "codec", s->codec < 3 ? codecs[s->codec] : "?", "count", (int)s->count,
        "flags", (int)s->flags, "offset", (unsigned long long)s->place.offset,
        "size", (unsigned long long)s->place.size, "where", (unsigned)s->place.where,
        "block", (unsigned)s->place.block);
}

/* ---- the module ---- */

#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef wire_methods[] = {
    {"call", METHOD(wire_py_call), METH_FASTCALL | METH_KEYWORDS, NULL},
    {"result", wire_py_result, METH_O, NULL},
    {"usage", wire_py_usage, METH_NOARGS, NULL},
    {"views", wire_py_views, METH_NOARGS, NULL},
    {"disown", wire_py_disown, METH_O, NULL},
    {"close", wire_py_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot wire_slots[] = {
    {Py_tp_new, wire_tp_new},
    {Py_tp_dealloc, wire_tp_dealloc},
    {Py_tp_methods, wire_methods},
    {0, NULL},
};

static PyType_Spec wire_spec = {
    .name = "codec_hook.Wire", .basicsize = sizeof(WireObject),
    .flags = Py_TPFLAGS_DEFAULT, .slots = wire_slots,
};

static PyMethodDef message_methods[] = {
    {"deliver", message_py_deliver, METH_NOARGS, NULL},
    {"run", message_py_run, METH_O, NULL},
    {"release", message_py_release, METH_NOARGS, NULL},
    {"discard", message_py_discard, METH_NOARGS, NULL},
    {"frame", message_py_frame, METH_NOARGS, NULL},
    {"scribble", message_py_scribble, METH_VARARGS, NULL},
    {"set", message_py_set, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef message_getset[] = {
    {"slot", message_get_slot, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot message_slots[] = {
    {Py_tp_dealloc, message_tp_dealloc},
    {Py_tp_methods, message_methods},
    {Py_tp_getset, message_getset},
    {0, NULL},
};

static PyType_Spec message_spec = {
    .name = "codec_hook.Message", .basicsize = sizeof(MessageObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = message_slots,
};

static int
module_exec(PyObject *module)
{
    if (cf_codec_add_types(module, cf_state_of_module(module)) < 0) {
        return -1;
    }
    PyObject *wire = PyType_FromModuleAndSpec(module, &wire_spec, NULL);
    message_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &message_spec, NULL);
    if (wire == NULL || message_type == NULL) {
        return -1;
    }
    int r = PyModule_AddType(module, (PyTypeObject *)wire);
    Py_DECREF(wire);
    return r;
}

static PyMethodDef module_methods[] = {
    {"configure", METHOD(cf_state_configure), METH_VARARGS | METH_KEYWORDS, NULL},
    {NULL, NULL, 0, NULL},
};

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    return cf_state_traverse(cf_state_of_module(module), visit, arg);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void *)module_exec},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

struct PyModuleDef cf_module_def = {
    PyModuleDef_HEAD_INIT, .m_name = "codec_hook", .m_size = sizeof(cf_state),
    .m_methods = module_methods, .m_slots = module_slots, .m_traverse = module_traverse,
};

PyMODINIT_FUNC PyInit_codec_hook(void);

PyMODINIT_FUNC
PyInit_codec_hook(void)
{
    return PyModuleDef_Init(&cf_module_def);
}
