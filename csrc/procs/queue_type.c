/* _core.Queue: the Python side of a queue between processes.

   All objects of a process that are the same queue share one *view*: a mapping, a member, an
   arena, a codec.  A view is found by the file behind it.  When the last object is gone the
   process leaves the queue, unless arrays that it has got still lie in the queue's memory;
   then the view lingers until a queue is made or opened (or the process ends).  Some views of
   queues that other processes made linger anyway: a worker gets the same queue with task after
   task, and opening it costs more than a task.

   A forked child has the objects of its parent but is another member: the first call in the
   child opens the queue anew.  The parent's view stays where it is, unused; arrays in it
   are still read by the child. */
#include "procs/queue_type.h"

#include <errno.h>
#include <stdlib.h>

#include "procs/queue_codec.h"
#include "py/block.h"

struct cf_queue_view {
    cf_queue *queue;
    cf_codec *codec;
    cf_arena *arena;                    /* guarded by the codec's lock */
    PyObject *module;                   /* owned: the state must outlive the view */
    bool received;                      /* another process made the queue */
    uint32_t refs;                      /* guarded by st->queues_lock, as is the list */
    struct cf_queue_view *next;
};

typedef struct cf_queue_view view;

typedef struct {
    PyObject_HEAD
    _Atomic(view *) view;               /* one reference; NULL: not opened yet */
    cf_word closed;
} QueueObject;

/* How many views of other processes' queues stay open that no object refers to. */
#define LINGERING 4

/* Bytes from which a buffer travels by itself, as in a process pool. */
#define THRESHOLD 65536

/* A signal that arrives while a thread spins interrupts no sleep, so the first sleep is
   short and is followed by a look. */
#define FIRST_SLEEP_NS 20000000

static QueueObject *
self_of(PyObject *self)
{
    return (QueueObject *)self;
}

static PyObject *
raise_status(cf_status status, const char *what)
{
    if (status == CF_CORRUPT) {
        PyErr_SetString(PyExc_RuntimeError, what);
        return NULL;
    }
    if (errno == EUSERS) {
        PyErr_SetString(PyExc_OSError, "too many processes use this queue, or have left "
                        "items in it that nobody has taken");
        return NULL;
    }
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* ---- views ---- */

static void
view_free(view *v)
{
    if (v->codec != NULL) {
        cf_codec_free(v->codec);
    }
    if (v->arena != NULL) {
        cf_arena_close(v->arena);
        cf_queue_leave(v->queue);
    }
    cf_queue_free(v->queue);
    PyObject *module = v->module;
    free(v);
    Py_DECREF(module);
}

/* Steals the queue.  NULL with an exception. */
static view *
view_new(PyObject *module, cf_queue *queue)
{
    view *v = calloc(1, sizeof *v);
    if (v == NULL) {
        cf_queue_free(queue);
        PyErr_NoMemory();
        return NULL;
    }
    v->queue = queue;
    v->module = Py_NewRef(module);
    v->refs = 1;
    if (cf_queue_join(queue, &v->arena) != CF_OK) {
        v->arena = NULL;
        raise_status(CF_SYSTEM, NULL);
        goto failed;
    }
    v->codec = cf_queue_codec_new(cf_state_of_module(module), queue, v->arena, THRESHOLD);
    if (v->codec != NULL) {
        return v;
    }
failed:
    view_free(v);
    return NULL;
}

static bool
is_alive(const view *v)
{
    return cf_load_relaxed(&v->queue->seg->mine);
}

/* The view of the same file (with one more reference), or NULL. */
static view *
find_lock_held(cf_state *st, const cf_shm_identity *file)
{
    for (view *v = st->queues; v != NULL; v = v->next) {
        const cf_shm_identity *other = &v->queue->seg->file;
        if (is_alive(v) && other->inode == file->inode && other->device == file->device) {
            v->refs++;
            return v;
        }
    }
    return NULL;
}

/* Views that nothing needs any more are taken out of the list. */
static view *
sweep_lock_held(cf_state *st)
{
    view *gone = NULL;
    int lingering = 0;
    for (view **at = &st->queues; *at != NULL; ) {      /* the one opened last comes first */
        view *v = *at;
        if (v->refs == 0 && !cf_codec_is_pinned(v->codec)
            && !(v->received && ++lingering <= LINGERING))
        {
            *at = v->next;
            v->next = gone;
            gone = v;
        }
        else {
            at = &v->next;
        }
    }
    return gone;
}

static void
sweep(cf_state *st)
{
    cf_spinlock_lock(&st->queues_lock);
    view *gone = sweep_lock_held(st);
    cf_spinlock_unlock(&st->queues_lock);
    while (gone != NULL) {
        view *next = gone->next;
        view_free(gone);
        gone = next;
    }
}

static void
trim_arena(cf_arena *arena, void *arg)
{
    (void)cf_arena_trim(arena, *(uint64_t *)arg);
}

/* Give the memory of free blocks back to the system, but for `keep` bytes. */
static void
trim(view *v, uint64_t keep)
{
    cf_codec_with_arena(v->codec, trim_arena, &keep);
}

static void
view_release(cf_state *st, view *v)
{
    cf_spinlock_lock(&st->queues_lock);
    bool last = v->refs == 1;
    if (!last) {
        v->refs--;
    }
    cf_spinlock_unlock(&st->queues_lock);
    if (last) {
        trim(v, 0);
        cf_spinlock_lock(&st->queues_lock);
        v->refs--;
        cf_spinlock_unlock(&st->queues_lock);
        sweep(st);
    }
}

/* Put a new view into the list; steals it.  If there is one of that file already (another
   thread was faster), that one. */
static view *
view_add(cf_state *st, view *v)
{
    sweep(st);
    cf_spinlock_lock(&st->queues_lock);
    view *other = find_lock_held(st, &v->queue->seg->file);
    if (other == NULL) {
        v->next = st->queues;
        st->queues = v;
    }
    cf_spinlock_unlock(&st->queues_lock);
    if (other == NULL) {
        return v;
    }
    view_free(v);
    return other;
}

static view *
view_open(PyObject *module, int fd)
{
    cf_state *st = cf_state_of_module(module);
    cf_shm_identity file;
    cf_queue *queue;
    if (cf_shm_identify(fd, &file) != CF_OK) {
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    cf_spinlock_lock(&st->queues_lock);
    view *v = find_lock_held(st, &file);
    cf_spinlock_unlock(&st->queues_lock);
    if (v != NULL) {
        return v;
    }
    cf_status status = cf_queue_attach(fd, &queue);
    if (status != CF_OK) {
        raise_status(status, "that descriptor is no queue's");
        return NULL;
    }
    v = view_new(module, queue);
    if (v == NULL) {
        return NULL;
    }
    v->received = true;
    return view_add(st, v);
}

void
cf_queues_after_fork(cf_state *st)
{
    /* The parent's views stay where objects refer to them, or to arrays in them. */
    cf_store_relaxed(&st->queues_lock.word, 0);
    st->queues = NULL;
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
    if (is_alive(v)) {
        return v;
    }
    view *own = view_open(module_of(self), v->queue->seg->fd);
    if (own != NULL && !atomic_compare_exchange_strong(&self->view, &v, own)) {
        view_release(cf_state_of(Py_TYPE(self)), own);
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
        view_release(cf_state_of(Py_TYPE(self)), v);
        PyErr_SetString(PyExc_RuntimeError, "the queue is open already");
        return -1;
    }
    return 0;
}

/* Address space is there for dozens of large queues; programs with hundreds have small
   ones. */
static uint64_t
arena_bytes(cf_state *st)
{
    int views = 0;
    cf_spinlock_lock(&st->queues_lock);
    for (view *v = st->queues; v != NULL; v = v->next) {
        views++;
    }
    cf_spinlock_unlock(&st->queues_lock);
    return CF_QUEUE_ARENA_MAX >> (views < 8 ? 0 : views < 32 ? 2 : 5);
}

static PyObject *
queue_py_create(PyObject *self, PyObject *arg)
{
    long long maxsize = PyLong_AsLongLong(arg);
    cf_state *st = cf_state_of(Py_TYPE(self));
    cf_queue *queue;
    if (maxsize == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (cf_queue_create(maxsize > 0 ? (uint64_t)maxsize : 0, arena_bytes(st), &queue) != CF_OK) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    view *v = view_new(module_of(self_of(self)), queue);
    if (v == NULL || set_view(self_of(self), view_add(st, v)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
queue_py_attach(PyObject *self, PyObject *arg)
{
    int fd = PyObject_AsFileDescriptor(arg);
    if (fd < 0 || set_view(self_of(self), view_open(module_of(self_of(self)), fd)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
queue_py_reopen(PyObject *self, PyObject *args)
{
    unsigned long long device, inode;
    cf_state *st = cf_state_of(Py_TYPE(self));
    if (!PyArg_ParseTuple(args, "KK:_reopen", &device, &inode)) {
        return NULL;
    }
    cf_shm_identity file = {.device = device, .inode = inode};
    cf_spinlock_lock(&st->queues_lock);
    view *v = find_lock_held(st, &file);
    cf_spinlock_unlock(&st->queues_lock);
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
    if (v != NULL && is_alive(v)) {
        /* The codec keeps the state: the type may be cleared already. */
        view_release(cf_codec_state(v->codec), v);
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
        if (first && until - start > FIRST_SLEEP_NS) {
            end = start + FIRST_SLEEP_NS;
        }
        status = cf_queue_sleep(v->queue, event, end);
    }
    if (first) {
        cf_queue_waited(v->queue, event, start);
    }
    if (status == CF_AGAIN) {
        cf_queue_tend(v->queue);
        trim(v, 0);
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
            return raise_status(status, "an item in the memory of the queue is damaged; "
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
