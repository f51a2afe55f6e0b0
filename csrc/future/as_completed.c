/* as_completed(): an iterator that behaves like the standard library's generator.

       NEW --first next()--> RUNNING --exhausted, close(), error--> CLOSED

   Nothing is looked at before the first next(), not even the arguments.  While it
   runs, every future that was not handed out hangs in `watch`; handing one out takes
   the only reference along. */
#include "future/wait.h"

#include "future/watch.h"
#include "py/block.h"

typedef enum { NEW, RUNNING, CLOSED } phase;

typedef struct {
    PyObject_HEAD
    PyObject *module;           /* owned: the state must outlive this object */
    phase phase;
    _Atomic bool busy;          /* a thread is in next(); guards all below */
    PyObject *fs, *timeout;     /* until the first next() */
    cf_watch *watch;
    cf_ticket *ready;           /* taken from the watch, oldest first */
    Py_ssize_t left;            /* not handed out yet */
    Py_ssize_t total;
    cf_deadline until;
} AsCompletedObject;

static bool
enter(AsCompletedObject *self)
{
    if (atomic_exchange_explicit(&self->busy, true, memory_order_acquire)) {
        PyErr_SetString(PyExc_ValueError, "generator already executing");
        return false;
    }
    return true;
}

static void
leave(AsCompletedObject *self)
{
    atomic_store_explicit(&self->busy, false, memory_order_release);
}

static void
close_it(AsCompletedObject *self, cf_state *st)
{
    self->phase = CLOSED;
    cf_watch *watch = self->watch;
    self->watch = NULL;
    self->ready = NULL;
    PyObject *pending = PyErr_GetRaisedException();
    Py_CLEAR(self->fs);
    Py_CLEAR(self->timeout);
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
    if (watch != NULL) {
        cf_watch_free(st, watch);
    }
}

/* A list of the distinct futures in the order given (new). */
static PyObject *
distinct(PyObject *fs)
{
    PyObject *list = PySequence_List(fs);
    if (list == NULL) {
        return NULL;
    }
    PyObject *set = PySet_New(list);
    if (set == NULL) {
        Py_DECREF(list);
        return NULL;
    }
    if (PySet_GET_SIZE(set) == PyList_GET_SIZE(list)) {
        Py_DECREF(set);
        return list;
    }
    PyObject *unique = PyList_New(0);
    for (Py_ssize_t i = 0; unique != NULL && i < PyList_GET_SIZE(list); i++) {
        PyObject *f = PyList_GET_ITEM(list, i);
        int first = PySet_Discard(set, f);
        if (first < 0 || (first > 0 && PyList_Append(unique, f) < 0)) {
            Py_CLEAR(unique);
        }
    }
    Py_DECREF(set);
    Py_DECREF(list);
    return unique;
}

static int
start(AsCompletedObject *self, cf_state *st)
{
    if (cf_deadline_from_now(self->timeout, &self->until) < 0) {
        return -1;
    }
    PyObject *list = distinct(self->fs);
    if (list == NULL) {
        return -1;
    }
    self->phase = RUNNING;
    self->left = self->total = PyList_GET_SIZE(list);
    self->watch = cf_watch_new(list, CF_WAKE_EACH);
    Py_DECREF(list);
    if (self->watch == NULL) {
        return -1;
    }
    Py_CLEAR(self->fs);
    Py_CLEAR(self->timeout);
    return cf_watch_begin(st, self->watch, &self->ready);
}

/* The next future (new), or NULL: exhausted, or with an exception. */
static PyObject *
next_done(AsCompletedObject *self, cf_state *st)
{
    while (self->ready == NULL) {
        if (self->left == 0) {
            return NULL;
        }
        self->ready = cf_waitset_take(&self->watch->set);
        if (self->ready != NULL) {
            break;
        }
        int r = cf_block_until(st, &self->watch->set.cell, CF_DONE, self->until);
        if (r < 0) {
            return NULL;
        }
        if (r == 0) {
            PyErr_Format(PyExc_TimeoutError, "%zd (of %zd) futures unfinished",
                         self->left, self->total);
            return NULL;
        }
    }
    cf_watched *item = cf_watched_of(self->ready);
    self->ready = item->hook.ticket.next;
    self->left--;
    PyObject *future = item->future;
    if (item->hook.set != NULL) {
        /* The ticket hangs nowhere any more, but its poster may still be about: without
           a GIL we can be here between the post and the change of state.  The lock is
           free when both are over. */
        cf_future_unhook((FutureObject *)future, &item->hook);
        item->hook.set = NULL;
    }
    item->future = NULL;
    if (item->waiter != NULL) {
        PyObject *r = PyObject_CallFunctionObjArgs(st->unwatch_foreign, future,
                                                   item->waiter, NULL);
        if (r == NULL) {
            Py_DECREF(future);
            return NULL;
        }
        Py_DECREF(r);
    }
    return future;
}

static PyObject *
as_completed_tp_iternext(PyObject *op)
{
    AsCompletedObject *self = (AsCompletedObject *)op;
    cf_state *st = cf_state_of_module(self->module);
    if (!enter(self)) {
        return NULL;
    }
    PyObject *future = NULL;
    if (self->phase == RUNNING || (self->phase == NEW && start(self, st) == 0)) {
        future = next_done(self, st);
    }
    if (future == NULL && self->phase != CLOSED) {
        close_it(self, st);
    }
    leave(self);
    return future;
}

static PyObject *
as_completed_py_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    AsCompletedObject *self = (AsCompletedObject *)op;
    if (!enter(self)) {
        return NULL;
    }
    close_it(self, cf_state_of_module(self->module));
    leave(self);
    Py_RETURN_NONE;
}

static int
as_completed_tp_traverse(PyObject *op, visitproc visit, void *arg)
{
    AsCompletedObject *self = (AsCompletedObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->module);
    Py_VISIT(self->fs);
    Py_VISIT(self->timeout);
    if (self->watch != NULL) {
        for (Py_ssize_t i = 0; i < self->watch->count; i++) {
            Py_VISIT(self->watch->items[i].future);
            Py_VISIT(self->watch->items[i].waiter);
        }
    }
    return 0;
}

static int
as_completed_tp_clear(PyObject *op)
{
    AsCompletedObject *self = (AsCompletedObject *)op;
    if (self->module != NULL) {
        close_it(self, cf_state_of_module(self->module));
        Py_CLEAR(self->module);
    }
    return 0;
}

static void
as_completed_tp_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    as_completed_tp_clear(op);
    CF_GONE(as_completed);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef as_completed_methods[] = {
    {"close", as_completed_py_close, METH_NOARGS, PyDoc_STR(
     "close($self, /)\n--\n\nStop watching the futures that were not yielded.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot as_completed_slots[] = {
    {Py_tp_doc, PyDoc_STR("The iterator that as_completed() returns.")},
    {Py_tp_dealloc, as_completed_tp_dealloc},
    {Py_tp_traverse, as_completed_tp_traverse},
    {Py_tp_clear, as_completed_tp_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, as_completed_tp_iternext},
    {Py_tp_methods, as_completed_methods},
    {0, NULL},
};

static PyType_Spec as_completed_spec = {
    .name = "cfutures._core.AsCompleted",
    .basicsize = sizeof(AsCompletedObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = as_completed_slots,
};

int
cf_as_completed_add_type(PyObject *module, cf_state *st)
{
    st->AsCompleted =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &as_completed_spec, NULL);
    return st->AsCompleted == NULL ? -1 : 0;
}

PyObject *
cf_py_as_completed(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fs", "timeout", NULL};
    cf_state *st = cf_state_of_module(module);
    PyObject *fs, *timeout = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:as_completed", names, &fs,
                                     &timeout)) {
        return NULL;
    }
    AsCompletedObject *self =
        (AsCompletedObject *)st->AsCompleted->tp_alloc(st->AsCompleted, 0);
    if (self == NULL) {
        return NULL;
    }
    CF_BORN(as_completed);
    self->module = Py_NewRef(module);
    self->fs = Py_NewRef(fs);
    self->timeout = Py_NewRef(timeout);
    return (PyObject *)self;
}
