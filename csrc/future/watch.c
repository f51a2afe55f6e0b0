#include "future/watch.h"

#include "future/remote.h"

/* ---- a waiter as the standard library's futures want one ---- */

typedef struct {
    PyObject_HEAD
    cf_spinlock lock;
    cf_waitset *set;            /* guarded by lock; NULL once nobody waits */
    cf_ticket *ticket;          /* guarded by lock; NULL once posted */
} WaiterObject;

static PyObject *
post(PyObject *self, bool failed)
{
    WaiterObject *w = (WaiterObject *)self;
    cf_spinlock_lock(&w->lock);
    if (w->set != NULL && w->ticket != NULL) {
        cf_waitset_post(w->set, w->ticket, failed);
        w->ticket = NULL;
    }
    cf_spinlock_unlock(&w->lock);
    Py_RETURN_NONE;
}

static PyObject *
waiter_py_add_result(PyObject *self, PyObject *Py_UNUSED(future))
{
    return post(self, false);
}

static PyObject *
waiter_py_add_exception(PyObject *self, PyObject *Py_UNUSED(future))
{
    return post(self, true);
}

static void
waiter_detach(PyObject *self)
{
    WaiterObject *w = (WaiterObject *)self;
    cf_spinlock_lock(&w->lock);
    w->set = NULL;
    w->ticket = NULL;
    cf_spinlock_unlock(&w->lock);
}

static void
waiter_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    CF_GONE(waiter);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef waiter_methods[] = {
    {"add_result", waiter_py_add_result, METH_O, NULL},
    {"add_exception", waiter_py_add_exception, METH_O, NULL},
    {"add_cancelled", waiter_py_add_result, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot waiter_slots[] = {
    {Py_tp_doc, PyDoc_STR("What our wait() puts into a standard future's _waiters.")},
    {Py_tp_dealloc, waiter_tp_dealloc},
    {Py_tp_methods, waiter_methods},
    {0, NULL},
};

static PyType_Spec waiter_spec = {
    .name = "cfutures._core.Waiter",
    .basicsize = sizeof(WaiterObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = waiter_slots,
};

int
cf_watch_add_types(PyObject *module, cf_state *st)
{
    st->Waiter = (PyTypeObject *)PyType_FromModuleAndSpec(module, &waiter_spec, NULL);
    return st->Waiter == NULL ? -1 : 0;
}

/* ---- looking ---- */

/* The `_state` of a future that is not ours (new), or NULL with AttributeError. */
static PyObject *
foreign_state(PyObject *future)
{
    PyObject *condition = PyObject_GetAttrString(future, "_condition");
    if (condition == NULL) {
        return NULL;        /* the attribute that the standard library misses first */
    }
    Py_DECREF(condition);
    return PyObject_GetAttrString(future, "_state");
}

int
cf_watch_is_done(cf_state *st, PyObject *future)
{
    if (cf_future_check(st, future)) {
        return (cf_future_load((FutureObject *)future) & CF_NOTIFIED) != 0;
    }
    PyObject *state = foreign_state(future);
    if (state == NULL) {
        return -1;
    }
    int done = PyObject_RichCompareBool(state, st->state_finished, Py_EQ);
    if (done == 0) {
        done = PyObject_RichCompareBool(state, st->state_cancelled_and_notified, Py_EQ);
    }
    Py_DECREF(state);
    return done;
}

int
cf_watch_is_failed(cf_state *st, PyObject *future)
{
    if (cf_future_check(st, future)) {
        return (cf_future_load((FutureObject *)future) & CF_FAILED) != 0;
    }
    PyObject *state = foreign_state(future);
    if (state == NULL) {
        return -1;
    }
    int finished = PyObject_RichCompareBool(state, st->state_finished, Py_EQ);
    Py_DECREF(state);
    if (finished <= 0) {
        return finished;
    }
    PyObject *exception = PyObject_GetAttrString(future, "_exception");
    if (exception == NULL) {
        return -1;
    }
    Py_DECREF(exception);
    return exception != Py_None;
}

/* ---- watching ---- */

cf_watch *
cf_watch_new(PyObject *list, cf_wake_when when)
{
    Py_ssize_t count = PyList_GET_SIZE(list);
    cf_watch *w = PyMem_Malloc(sizeof *w + (size_t)count * sizeof *w->items);
    if (w == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    CF_BORN(watch);
    cf_waitset_init(&w->set, when, (uint32_t)count);
    w->count = count;
    for (Py_ssize_t i = 0; i < count; i++) {
        cf_watched *item = &w->items[i];
        item->future = Py_NewRef(PyList_GET_ITEM(list, i));
        item->waiter = NULL;
        item->hook.set = NULL;      /* not hooked */
    }
    return w;
}

static int
watch_foreign(cf_state *st, cf_watch *w, cf_watched *item)
{
    WaiterObject *waiter = (WaiterObject *)st->Waiter->tp_alloc(st->Waiter, 0);
    if (waiter == NULL) {
        return -1;
    }
    CF_BORN(waiter);
    waiter->set = &w->set;
    waiter->ticket = &item->hook.ticket;
    PyObject *done = PyObject_CallFunctionObjArgs(st->watch_foreign, item->future,
                                                  waiter, NULL);
    if (done == NULL) {
        /* Interrupted half-way it may be in the list; there it does no harm. */
        waiter_detach((PyObject *)waiter);
        Py_DECREF(waiter);
        return -1;
    }
    item->waiter = (PyObject *)waiter;
    int truth = PyObject_IsTrue(done);
    Py_DECREF(done);
    if (truth > 0) {
        int failed = cf_watch_is_failed(st, item->future);
        if (failed < 0) {
            return -1;
        }
        Py_XDECREF(post((PyObject *)waiter, failed > 0));
    }
    return truth < 0 ? -1 : 0;
}

int
cf_watch_begin(cf_state *st, cf_watch *w, cf_ticket **done)
{
    if (done != NULL) {
        *done = NULL;
    }
    for (Py_ssize_t i = 0; i < w->count; i++) {
        cf_watched *item = &w->items[i];
        if (cf_future_check(st, item->future)) {
            FutureObject *f = (FutureObject *)item->future;
            item->hook.set = &w->set;
            uint32_t word = cf_future_load(f);
            if (!(word & CF_NOTIFIED) && cf_future_hook(f, &item->hook)) {
                if ((word & CF_REMOTE) && cf_remote_watch(st, f) < 0) {
                    return -1;
                }
                continue;
            }
            item->hook.set = NULL;
            if (done != NULL) {
                item->hook.ticket.next = NULL;
                *done = &item->hook.ticket;
                done = &item->hook.ticket.next;
            }
            else {
                cf_waitset_post(&w->set, &item->hook.ticket,
                                (cf_future_load(f) & CF_FAILED) != 0);
            }
        }
        else if (watch_foreign(st, w, item) < 0) {
            return -1;
        }
    }
    return 0;
}

void
cf_watch_free(cf_state *st, cf_watch *w)
{
    PyObject *pending = PyErr_GetRaisedException();
    for (Py_ssize_t i = 0; i < w->count; i++) {
        cf_watched *item = &w->items[i];
        PyObject *future = item->future, *waiter = item->waiter;
        item->future = item->waiter = NULL;
        if (item->hook.set != NULL && future != NULL) {
            cf_future_unhook((FutureObject *)future, &item->hook);
        }
        if (waiter != NULL) {
            /* First the pointer, so that nothing dangles if the list cannot be
               cleaned: a waiter that nobody waits with is harmless there. */
            waiter_detach(waiter);
            if (future != NULL && st->unwatch_foreign != NULL) {
                PyObject *r = PyObject_CallFunctionObjArgs(st->unwatch_foreign, future,
                                                           waiter, NULL);
                if (r == NULL) {
                    PyErr_WriteUnraisable(future);
                }
                Py_XDECREF(r);
            }
            Py_DECREF(waiter);
        }
        Py_XDECREF(future);
    }
    CF_GONE(watch);
    PyMem_Free(w);
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}
