/* A digest of what passes by: 128 bits, to tell whether a large value has changed.

   Not for adversaries: it keeps apart what one process had at two times.  Eight lanes take
   eight bytes each in turn.  A step of a lane maps its state one-to-one for given data,
   and data one-to-one for a given state; so a change in one place always changes the end,
   and changes in several places cancel out with a chance of 2^-64. */
#include "procs/code.h"

#include <string.h>

#include "py/block.h"

#define LANES 8
#define STRIPE (LANES * sizeof(uint64_t))
#define LARGE (256 * 1024)              /* from here on without the GIL */

typedef struct {
    PyObject_HEAD
    /* Whoever uses the object sees to it that nobody else does. */
    uint64_t lane[LANES];
    uint64_t length;                    /* bytes so far */
    unsigned char rest[STRIPE];         /* the last length % STRIPE of them */
} DigestObject;

static const uint64_t odd[LANES] = {
    0x9e3779b97f4a7c15u, 0xc2b2ae3d27d4eb4fu, 0x165667b19e3779f9u, 0xd6e8feb86659fd93u,
    0xa0761d6478bd642fu, 0xe7037ed1a0b428dbu, 0x8ebc6af09c88c6e3u, 0x589965cc75374cc3u,
};

static void
start(DigestObject *d)
{
    memcpy(d->lane, odd, sizeof d->lane);
    d->length = 0;
}

static inline uint64_t
step(uint64_t lane, uint64_t word, uint64_t factor)
{
    lane = (lane ^ word) * factor;
    return lane ^ (lane >> 32);
}

static void
take_stripes(DigestObject *d, const unsigned char *data, size_t count)
{
    uint64_t lane[LANES], word[LANES];
    memcpy(lane, d->lane, sizeof lane);
    for (; count > 0; count--, data += STRIPE) {
        memcpy(word, data, sizeof word);
        for (int i = 0; i < LANES; i++) {
            lane[i] = step(lane[i], word[i], odd[i]);
        }
    }
    memcpy(d->lane, lane, sizeof lane);
}

static void
take(DigestObject *d, const unsigned char *data, size_t size)
{
    size_t held = d->length % STRIPE;
    d->length += size;
    if (held != 0) {
        size_t part = size < STRIPE - held ? size : STRIPE - held;
        memcpy(d->rest + held, data, part);
        if (held + part < STRIPE) {
            return;
        }
        take_stripes(d, d->rest, 1);
        data += part;
        size -= part;
    }
    take_stripes(d, data, size / STRIPE);
    memcpy(d->rest, data + size / STRIPE * STRIPE, size % STRIPE);
}

static uint64_t
sum_up(const DigestObject *d, uint64_t seed)
{
    uint64_t sum = seed ^ d->length;
    for (int i = 0; i < LANES; i++) {
        sum = step(sum, d->lane[i], odd[(i + (int)(seed & 7)) % LANES]);
        sum = step(sum, sum >> 29, odd[0]);
    }
    return sum;
}

/* ---- the type ---- */

static PyObject *
take_object(PyObject *self, PyObject *object, bool with_size)
{
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_ANY_CONTIGUOUS) < 0) {
        return NULL;
    }
    DigestObject *d = (DigestObject *)self;
    uint64_t size = (uint64_t)view.len;
    if (with_size) {
        take(d, (const unsigned char *)&size, sizeof size);
    }
    PyThreadState *ts = size >= LARGE ? cf_gil_release() : NULL;
    take(d, view.buf, (size_t)view.len);
    if (ts != NULL) {
        cf_gil_take(ts);
    }
    PyBuffer_Release(&view);
    Py_RETURN_NONE;
}

static PyObject *
digest_py_write(PyObject *self, PyObject *data)
{
    return take_object(self, data, false);
}

static PyObject *
digest_py_buffer(PyObject *self, PyObject *buffer)
{
    return take_object(self, buffer, true);
}

static PyObject *
digest_py_size(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(((DigestObject *)self)->length);
}

static PyObject *
digest_py_finish(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    DigestObject *d = (DigestObject *)self;
    size_t held = d->length % STRIPE;
    if (held != 0) {
        memset(d->rest + held, 0, STRIPE - held);
        take_stripes(d, d->rest, 1);
    }
    uint64_t sums[2] = {sum_up(d, 1), sum_up(d, 2)};
    start(d);
    return PyBytes_FromStringAndSize((const char *)sums, sizeof sums);
}

static PyObject *
digest_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) != 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0)) {
        PyErr_SetString(PyExc_TypeError, "Digest() takes no arguments");
        return NULL;
    }
    PyObject *self = type->tp_alloc(type, 0);
    if (self != NULL) {
        CF_BORN(digest);
        start((DigestObject *)self);
    }
    return self;
}

static void
digest_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    CF_GONE(digest);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef digest_methods[] = {
    {"write", digest_py_write, METH_O, PyDoc_STR(
     "write($self, data, /)\n--\n\nTake in a bytes-like object.")},
    {"buffer", digest_py_buffer, METH_O, PyDoc_STR(
     "buffer($self, buffer, /)\n--\n\n"
     "Take in a pickle.PickleBuffer and how long it is; a buffer_callback.")},
    {"size", digest_py_size, METH_NOARGS, PyDoc_STR(
     "size($self, /)\n--\n\nHow many bytes it has taken in.")},
    {"finish", digest_py_finish, METH_NOARGS, PyDoc_STR(
     "finish($self, /)\n--\n\nThe digest of all that, 16 bytes; begin a new one.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot digest_slots[] = {
    {Py_tp_doc, PyDoc_STR("Digest()\n--\n\nTells whether large data has changed.")},
    {Py_tp_new, digest_tp_new},
    {Py_tp_dealloc, digest_tp_dealloc},
    {Py_tp_methods, digest_methods},
    {0, NULL},
};

static PyType_Spec digest_spec = {
    .name = "cfutures._core.Digest",
    .basicsize = sizeof(DigestObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = digest_slots,
};

int
cf_digest_add_type(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &digest_spec, NULL);
    int r = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return r;
}
