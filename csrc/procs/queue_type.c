/* _core.Queue: the Python side of a queue between processes. */
#include "procs/queue_type.h"

#include <errno.h>

#include "procs/queue_view.h"
#include "py/block.h"

typedef cf_queue_view view;

typedef struct {
    PyObject_HEAD
    _Atomic(view *) view;               /* one reference; NULL: not opened yet */
    cf_word closed;
} QueueObject;

static QueueObject *
self_of(PyObject *self)
{
    return (QueueObject *)self;
}

static PyObject *
module_of(QueueObject *self)
{
    return PyType_GetModuleByDef(Py_TYPE(self), &cf_module_def);        /* borrowed */
}

/* The object's view in this process (borrowed), or NULL with an exception. */
static view *
open_view(QueueObject *self)
{
    view *v = atomic_load_explicit(&self->view, memory_order_acquire);
    if (cf_load_relaxed(&self->closed) != 0) {
        PyErr_Format(PyExc_ValueError, "Queue %R is closed", (PyObject *)self);
        return NULL;
    }
    if (v == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Queue.__init__() has not been called");
        return NULL;
    }
    if (cf_queue_view_is_alive(v)) {
        return v;
    }
    view *own = cf_queue_view_open(module_of(self), v->queue->seg->fd);
    if (own != NULL && !atomic_compare_exchange_strong(&self->view, &v, own)) {
        cf_queue_view_release(cf_state_of(Py_TYPE(self)), own);
        own = v;                        /* another thread's, of this process */
    }
    return own;
}

/* ---- life ---- */

static int
set_view(QueueObject *self, view *v)
{
    view *none = NULL;
    if (v == NULL) {
        return -1;
    }
    if (!atomic_compare_exchange_strong(&self->view, &none, v)) {
        cf_queue_view_release(cf_state_of(Py_TYPE(self)), v);
        PyErr_SetString(PyExc_RuntimeError, "the queue is open already");
        return -1;
    }
    return 0;
}

static PyObject *
queue_py_create(PyObject *self, PyObject *arg)
{
    long long maxsize = PyLong_AsLongLong(arg);
    if (maxsize == -1 && PyErr_Occurred()) {
        return NULL;
    }
    view *v = cf_queue_view_create(module_of(self_of(self)),
                                   maxsize > 0 ? (uint64_t)maxsize : 0);
    if (set_view(self_of(self), v) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
queue_py_attach(PyObject *self, PyObject *arg)
{
    QueueObject *queue = self_of(self);
    int fd = PyObject_AsFileDescriptor(arg);
    if (fd < 0 || set_view(queue, cf_queue_view_open(module_of(queue), fd)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
queue_py_reopen(PyObject *self, PyObject *args)
{
    unsigned long long device, inode;
    if (!PyArg_ParseTuple(args, "KK:_reopen", &device, &inode)) {
        return NULL;
    }
    cf_shm_identity file = {.device = device, .inode = inode};
    view *v = cf_queue_view_find(cf_state_of(Py_TYPE(self)), &file);
    if (v != NULL && set_view(self_of(self), v) < 0) {
        return NULL;
    }
    return PyBool_FromLong(v != NULL);
}

static PyObject *
queue_py_descriptor(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    view *v = open_view(self_of(self));
    return v == NULL ? NULL : Py_BuildValue(
        "iKK", v->queue->seg->fd, (unsigned long long)v->queue->seg->file.device,
        (unsigned long long)v->queue->seg->file.inode);
}

static PyObject *
queue_py_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_store_relaxed(&self_of(self)->closed, 1);
    Py_RETURN_NONE;
}

static int
queue_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void
queue_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    view *v = atomic_load(&self_of(self)->view);
    if (v != NULL && cf_queue_view_is_alive(v)) {
        /* The codec keeps the state: the type may be cleared already. */
        cf_queue_view_release(cf_codec_state(v->codec), v);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- waiting ---- */

/* 1: try again; 0: the deadline has passed; -1 with an exception. */
static int
wait_for(view *v, cf_queue_event event, bool first, cf_deadline until)
{
    if (until == CF_NO_WAIT) {
        return 0;
    }
    PyThreadState *ts = cf_gil_release();
    int64_t start = cf_now();
    cf_deadline end = until;
    cf_status status = CF_AGAIN;
    if (first && cf_queue_spin(v->queue, event)) {
        status = CF_OK;
    }
    else {
        /* Later ones last a slice, whoever sleeps: see cf_queue_sleep(). */
        end = first ? cf_first_sleep_end(start, until) : until;
        status = cf_queue_sleep(v->queue, event, end);
    }
    if (first) {
        cf_queue_waited(v->queue, event, start);
    }
    if (status == CF_AGAIN) {
        cf_queue_tend(v->queue);
        cf_queue_view_trim(v, 0);
    }
    int saved_errno = errno;
    cf_gil_take(ts);
    if (status == CF_SYSTEM) {
        errno = saved_errno;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (status != CF_OK && PyErr_CheckSignals() < 0) {
        return -1;
    }
    return status != CF_TIMEDOUT || end != until;
}

static PyObject *
raise_full_or_empty(PyObject *self, bool full)
{
    cf_state *st = cf_state_of(Py_TYPE(self));
    PyErr_SetNone(full ? st->queue_full : st->queue_empty);
    return NULL;
}

static PyObject *
take(PyObject *self, cf_deadline until)
{
    view *v = open_view(self_of(self));
    cf_taken taken;
    if (v == NULL) {
        return NULL;
    }
    for (bool first = true;; first = false) {
        cf_status status = cf_queue_take(v->queue, &taken);
        if (status == CF_OK) {
            return cf_item_decode(v->codec, v->queue, &taken);
        }
        if (status == CF_CORRUPT) {
            return cf_queue_raise(status, "an item in the memory of the queue is damaged; "
                                "something wrote over it");
        }
        int r = wait_for(v, CF_QUEUE_ITEM, first, until);
        if (r <= 0) {
            if (r < 0) {
                cf_queue_pass_on(v->queue, CF_QUEUE_ITEM);
            }
            return r < 0 ? NULL : raise_full_or_empty(self, false);
        }
    }
}

/* As wait_for(), until there is room; raises Full. */
static int
wait_for_room(PyObject *self, view *v, bool *first, cf_deadline until)
{
    int r = wait_for(v, CF_QUEUE_ROOM, *first, until);
    *first = false;
    if (r < 0) {
        cf_queue_pass_on(v->queue, CF_QUEUE_ROOM);
    }
    else if (r == 0) {
        raise_full_or_empty(self, true);
    }
    return r > 0 ? 0 : -1;
}

static PyObject *
put(PyObject *self, PyObject *value, cf_deadline until)
{
    view *v = open_view(self_of(self));
    uint32_t block;
    bool first = true;
    if (v == NULL) {
        return NULL;
    }
    /* Not to encode for nothing; a bounded queue is looked at again below. */
    while (!cf_queue_ready(v->queue, CF_QUEUE_ROOM)) {
        if (wait_for_room(self, v, &first, until) < 0) {
            return NULL;
        }
    }
    if (cf_item_encode(v->codec, v->queue, value, &block) < 0) {
        return NULL;
    }
    for (;;) {
        cf_status status = cf_queue_put(v->queue, block);
        if (status == CF_OK) {
            Py_RETURN_NONE;
        }
        if (wait_for_room(self, v, &first, until) < 0) {
            cf_item_drop(v->queue, block);
            return NULL;
        }
    }
}

/* ---- methods ---- */

/* (names[0], ...) by position or keyword; values that are not given stay as they are.
   0, or -1 with a TypeError. */
static int
parse(const char *function, const char *const *names, int required, int count,
      PyObject **values, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    if (nargs > count) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d arguments (%zd given)", function,
                     count, nargs + named);
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        values[i] = args[i];
    }
    for (Py_ssize_t k = 0; k < named; k++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, k);
        int i = 0;
        while (i < count && PyUnicode_CompareWithASCIIString(name, names[i]) != 0) {
            i++;
        }
        if (i == count || i < nargs) {
            PyErr_Format(PyExc_TypeError, i == count
                         ? "%s() got an unexpected keyword argument '%U'"
                         : "%s() got multiple values for argument '%U'", function, name);
            return -1;
        }
        values[i] = args[nargs + k];
    }
    for (int i = 0; i < required; i++) {
        if (values[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'", function,
                         names[i]);
            return -1;
        }
    }
    return 0;
}

/* `block` and `timeout` to a deadline. */
static int
deadline(PyObject *block, PyObject *timeout, cf_deadline *until)
{
    int blocks = PyObject_IsTrue(block);
    if (blocks < 0) {
        return -1;
    }
    if (!blocks) {
        *until = CF_NO_WAIT;
        return 0;
    }
    return cf_deadline_from_timeout(timeout, until);
}

static PyObject *
queue_py_put(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"obj", "block", "timeout"};
    PyObject *values[] = {NULL, Py_True, Py_None};
    cf_deadline until;
    if (parse("put", names, 1, 3, values, args, nargs, kwnames) < 0
        || deadline(values[1], values[2], &until) < 0)
    {
        return NULL;
    }
    return put(self, values[0], until);
}

static PyObject *
queue_py_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"block", "timeout"};
    PyObject *values[] = {Py_True, Py_None};
    cf_deadline until;
    if (parse("get", names, 0, 2, values, args, nargs, kwnames) < 0
        || deadline(values[0], values[1], &until) < 0)
    {
        return NULL;
    }
    return take(self, until);
}

static PyObject *
queue_py_put_nowait(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    static const char *const names[] = {"obj"};
    PyObject *values[] = {NULL};
    if (parse("put_nowait", names, 1, 1, values, args, nargs, kwnames) < 0) {
        return NULL;
    }
    return put(self, values[0], CF_NO_WAIT);
}

static PyObject *
queue_py_get_nowait(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return take(self, CF_NO_WAIT);
}

static PyObject *
queue_py_qsize(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    view *v = open_view(self_of(self));
    return v == NULL ? NULL : PyLong_FromUnsignedLongLong(cf_queue_length(v->queue));
}

static PyObject *
queue_py_empty(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    view *v = open_view(self_of(self));
    return v == NULL ? NULL : PyBool_FromLong(!cf_queue_ready(v->queue, CF_QUEUE_ITEM));
}

static PyObject *
queue_py_full(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    view *v = open_view(self_of(self));
    return v == NULL ? NULL : PyBool_FromLong(!cf_queue_ready(v->queue, CF_QUEUE_ROOM));
}

static PyObject *
queue_get_closed(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(cf_load_relaxed(&self_of(self)->closed) != 0);
}

static PyObject *
queue_get_maxsize(PyObject *self, void *Py_UNUSED(closure))
{
    view *v = atomic_load(&self_of(self)->view);
    return PyLong_FromUnsignedLongLong(v == NULL ? 0 : v->queue->maxsize);
}

#define FAST(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS

static PyMethodDef queue_methods[] = {
    {"put", FAST(queue_py_put), PyDoc_STR(
     "put($self, /, obj, block=True, timeout=None)\n--\n\n"
     "Append an object.\n\n"
     "obj: anything that a process pool can send; what cannot be pickled raises here.\n"
     "block: wait for room in a queue that has a maxsize; timeout: for so many seconds\n"
     "(None: no limit).  Raises queue.Full if there was no room, ValueError if the queue is\n"
     "closed.")},
    {"get", FAST(queue_py_get), PyDoc_STR(
     "get($self, /, block=True, timeout=None)\n--\n\n"
     "Take the oldest object out of the queue.\n\n"
     "block: wait for one; timeout: for so many seconds (None: no limit).  Raises\n"
     "queue.Empty if there was none, ValueError if the queue is closed, and what unpickling\n"
     "the object raises (it is out of the queue then).")},
    {"put_nowait", FAST(queue_py_put_nowait), PyDoc_STR(
     "put_nowait($self, /, obj)\n--\n\nput(obj, False).")},
    {"get_nowait", queue_py_get_nowait, METH_NOARGS, PyDoc_STR(
     "get_nowait($self, /)\n--\n\nget(False).")},
    {"qsize", queue_py_qsize, METH_NOARGS, PyDoc_STR(
     "qsize($self, /)\n--\n\nHow many objects are in the queue just now.")},
    {"empty", queue_py_empty, METH_NOARGS, PyDoc_STR(
     "empty($self, /)\n--\n\nWhether there is nothing to get just now.")},
    {"full", queue_py_full, METH_NOARGS, PyDoc_STR(
     "full($self, /)\n--\n\nWhether there is no room for another object just now.")},
    {"close", queue_py_close, METH_NOARGS, PyDoc_STR(
     "close($self, /)\n--\n\n"
     "This object is not used any more: all other methods raise ValueError from now on.\n\n"
     "What is in the queue stays there for other processes.")},
    {"_create", queue_py_create, METH_O, PyDoc_STR(
     "_create($self, maxsize, /)\n--\n\nMake a new queue; once.")},
    {"_attach", queue_py_attach, METH_O, PyDoc_STR(
     "_attach($self, fd, /)\n--\n\nOpen the queue of a descriptor, which is not kept; once.")},
    {"_reopen", queue_py_reopen, METH_VARARGS, PyDoc_STR(
     "_reopen($self, device, inode, /)\n--\n\n"
     "Open the queue if this process has it open already; whether it has.")},
    {"_descriptor", queue_py_descriptor, METH_NOARGS, PyDoc_STR(
     "_descriptor($self, /)\n--\n\n"
     "The queue's descriptor in this process, and device and inode of what it is of.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef queue_getset[] = {
    {"_closed", queue_get_closed, NULL, PyDoc_STR("close() was called"), NULL},
    {"_maxsize", queue_get_maxsize, NULL, PyDoc_STR("the bound; 0: none"), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_doc, PyDoc_STR("The engine of cfutures.Queue.")},
    {Py_tp_dealloc, queue_tp_dealloc},
    {Py_tp_traverse, queue_tp_traverse},
    {Py_tp_methods, queue_methods},
    {Py_tp_getset, queue_getset},
    {0, NULL},
};

static PyType_Spec queue_spec = {
    .name = "cfutures._core.Queue",
    .basicsize = sizeof(QueueObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = queue_slots,
};

int
cf_queue_add_type(PyObject *module, cf_state *st)
{
    st->QueueBase = (PyTypeObject *)PyType_FromModuleAndSpec(module, &queue_spec, NULL);
    return st->QueueBase == NULL ? -1 : PyModule_AddType(module, st->QueueBase);
}
