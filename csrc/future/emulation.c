#include "future/emulation.h"

#include "future/remote.h"
#include "plat/wait.h"
#include "py/block.h"

static cf_state *
state_of(FutureObject *f)
{
    return cf_state_of(Py_TYPE(f));
}

/* The future's emulation, made if need be (borrowed), or NULL with MemoryError. */
static cf_emulation *
emulation_of(FutureObject *f)
{
    cf_emulation *e = PyMem_Calloc(1, sizeof *e);
    if (e == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    cf_future_track(f);
    cf_cell_lock(&f->cell);
    if (f->emulation == NULL) {
        CF_BORN(emulation);
        f->emulation = e;
        e = NULL;
    }
    cf_cell_unlock(&f->cell, 0, 0);
    PyMem_Free(e);
    return f->emulation;
}

/* What `slot` holds (new), or NULL. */
static PyObject *
get(FutureObject *f, PyObject **slot)
{
    cf_cell_lock(&f->cell);
    PyObject *value = Py_XNewRef(*slot);
    cf_cell_unlock(&f->cell, 0, 0);
    return value;
}

PyObject *
cf_emulated_callbacks(FutureObject *f)
{
    /* Once made it stays until the future dies. */
    cf_emulation *e = f->emulation;
    if (e == NULL) {
        return NULL;
    }
    /* Callbacks that are neither among the hooks any more nor in the list yet would be
       missed.  It takes no Python code; but who moves them may have to stop for the
       collector, which waits for us if we keep the thread state. */
    while (cf_load_acquire(&e->moving) != 0) {
        PyThreadState *ts = cf_gil_release();
        cf_yield();
        cf_gil_take(ts);
    }
    return get(f, &e->callbacks);
}

/* What `slot` holds (new); if nothing, `made` (stolen) is put there first. */
static PyObject *
get_or_put(FutureObject *f, PyObject **slot, PyObject *made, uint32_t bits)
{
    if (made == NULL) {
        return NULL;
    }
    cf_future_load(f);          /* a remote one that is done by now needs no manager */
    uint32_t word = cf_cell_lock(&f->cell);
    if (*slot == NULL) {
        *slot = made;
        made = NULL;
    }
    PyObject *value = Py_NewRef(*slot);
    cf_cell_unlock(&f->cell, 0, bits & ~word);
    Py_XDECREF(made);
    if (bits != 0 && (word & CF_REMOTE) && cf_remote_watch(state_of(f), f) < 0) {
        Py_CLEAR(value);
    }
    return value;
}

/* Every reader takes a new reference under the lock, so the old value can go at once. */
static int
put(FutureObject *f, PyObject **slot, PyObject *value, uint32_t bits)
{
    cf_future_load(f);
    uint32_t word = cf_cell_lock(&f->cell);
    PyObject *old = *slot;
    *slot = Py_XNewRef(value);
    cf_cell_unlock(&f->cell, 0, bits & ~word);
    Py_XDECREF(old);
    return bits != 0 && (word & CF_REMOTE) ? cf_remote_watch(state_of(f), f) : 0;
}

/* ---- _condition, _waiters, _done_callbacks ---- */

static PyObject *
future_get_condition(PyObject *self, void *Py_UNUSED(closure))
{
    FutureObject *f = (FutureObject *)self;
    cf_emulation *e = emulation_of(f);
    if (e == NULL) {
        return NULL;
    }
    PyObject *condition = get(f, &e->condition);
    return condition != NULL ? condition
        : get_or_put(f, &e->condition,
                     PyObject_CallNoArgs(state_of(f)->new_condition), CF_EMULATED);
}

static PyObject *
future_get_waiters(PyObject *self, void *Py_UNUSED(closure))
{
    FutureObject *f = (FutureObject *)self;
    cf_emulation *e = emulation_of(f);
    return e == NULL ? NULL : get_or_put(f, &e->waiters, PyList_New(0), CF_EMULATED);
}

/* A list of the callbacks that hang on the future, which has them from now on.  From now
   on the future also finishes holding its condition, so that a callback that is being
   added to the list is not missed. */
static PyObject *
future_get_callbacks(PyObject *self, void *Py_UNUSED(closure))
{
    FutureObject *f = (FutureObject *)self;
    cf_emulation *e = emulation_of(f);
    PyObject *list = e == NULL ? NULL : PyList_New(0);
    if (list == NULL) {
        return NULL;
    }
    /* First the list, so that new callbacks go there; then move the old ones. */
    PyObject *callbacks = get_or_put(f, &e->callbacks, list, CF_EMULATED);
    if (callbacks != list || !PyList_Check(callbacks)) {
        return callbacks;
    }
    cf_hook *moved = NULL;
    cf_cell_lock(&f->cell);
    cf_store_relaxed(&e->moving, 1);
    cf_hook **at = &f->hooks;
    while (*at != NULL) {
        cf_hook *hook = *at;
        if (hook->kind == CF_HOOK_CALLBACK) {
            *at = hook->next;
            hook->next = moved;
            moved = hook;
        }
        else {
            at = &hook->next;
        }
    }
    cf_cell_unlock(&f->cell, 0, 0);
    Py_ssize_t place = 0;
    int r = 0;
    for (cf_hook *hook = moved; r == 0 && hook != NULL; hook = hook->next) {
        cf_callback_hook *callback = cf_container_of(hook, cf_callback_hook, hook);
        r = PyList_Insert(callbacks, place++, callback->fn);
    }
    /* release: the list, for who waits in cf_emulated_callbacks() */
    cf_store_release(&e->moving, 0);
    cf_future_free_callbacks(moved);
    if (r < 0) {
        Py_CLEAR(callbacks);
    }
    return callbacks;
}

static int
set_slot(PyObject *self, PyObject *value, size_t offset, uint32_t bits)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a future's state cannot be deleted");
        return -1;
    }
    FutureObject *f = (FutureObject *)self;
    cf_emulation *e = emulation_of(f);
    if (e == NULL) {
        return -1;
    }
    return put(f, (PyObject **)((char *)e + offset), value, bits);
}

static int
future_set_condition(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    return set_slot(self, value, offsetof(cf_emulation, condition), CF_EMULATED);
}

static int
future_set_waiters(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    return set_slot(self, value, offsetof(cf_emulation, waiters), CF_EMULATED);
}

static int
future_set_callbacks(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    PyObject *list = future_get_callbacks(self, NULL);      /* moves the hooks */
    if (list == NULL) {
        return -1;
    }
    Py_DECREF(list);
    return set_slot(self, value, offsetof(cf_emulation, callbacks), 0);
}

/* ---- _state, _result, _exception ---- */

static PyObject *
future_get_state(PyObject *self, void *Py_UNUSED(closure))
{
    FutureObject *f = (FutureObject *)self;
    return Py_NewRef(cf_future_state_name(state_of(f), cf_future_load(f)));
}

static int
future_set_state(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    static const struct { const char *name; uint32_t bits; } states[] = {
        {"PENDING", CF_STATE_PENDING},
        {"RUNNING", CF_STATE_RUNNING},
        {"CANCELLED", CF_STATE_CANCELLED},
        {"CANCELLED_AND_NOTIFIED", CF_STATE_CANCELLED_AND_NOTIFIED},
        {"FINISHED", CF_STATE_FINISHED},
    };
    FutureObject *f = (FutureObject *)self;
    if (value != NULL && PyUnicode_Check(value)) {
        for (size_t i = 0; i < Py_ARRAY_LENGTH(states); i++) {
            if (PyUnicode_CompareWithASCIIString(value, states[i].name) == 0) {
                uint32_t word = cf_cell_lock(&f->cell);
                uint32_t old = word & CF_STATE, new = states[i].bits;
                cf_cell_unlock(&f->cell, old & ~new, new & ~old);
                return 0;
            }
        }
    }
    PyErr_Format(PyExc_ValueError, "no state of a future: %R", value);
    return -1;
}

/* What the future holds (new; None for nothing), and whether it is an exception. */
static PyObject *
held(FutureObject *f, bool *failed)
{
    uint32_t word;
    if (cf_future_settle(state_of(f), f, &word) < 0) {
        return NULL;
    }
    word = cf_cell_lock(&f->cell);
    PyObject *result = Py_XNewRef(f->result);
    cf_cell_unlock(&f->cell, 0, 0);
    *failed = (word & CF_FAILED) != 0;
    return result == NULL ? Py_NewRef(Py_None) : result;
}

static PyObject *
get_held(PyObject *self, bool want_failed)
{
    bool failed;
    PyObject *result = held((FutureObject *)self, &failed);
    if (result != NULL && failed != want_failed) {
        Py_SETREF(result, Py_NewRef(Py_None));
    }
    return result;
}

/* A future holds one thing, result or exception; setting the other one to None
   leaves it alone. */
static int
set_held(PyObject *self, PyObject *value, bool failed)
{
    FutureObject *f = (FutureObject *)self;
    cf_emulation *e = emulation_of(f);
    if (e == NULL) {
        return -1;
    }
    if (e->stale == NULL) {
        PyObject *list = PyList_New(0);
        if (list == NULL) {
            return -1;
        }
        Py_DECREF(get_or_put(f, &e->stale, list, 0));
    }
    if (value == NULL) {
        value = Py_None;
    }
    uint32_t word = cf_cell_lock(&f->cell);
    bool was = (word & CF_FAILED) != 0;
    if (value == Py_None && was != failed) {
        cf_cell_unlock(&f->cell, 0, 0);
        return 0;
    }
    PyObject *old = f->result;
    bool now = failed && value != Py_None;
    f->result = Py_NewRef(value);
    cf_cell_unlock(&f->cell, was && !now ? CF_FAILED : 0, now && !was ? CF_FAILED : 0);
    if (old != NULL) {
        /* result() reads without the lock and may be about to use it. */
        int r = PyList_Append(e->stale, old);
        Py_DECREF(old);
        return r;
    }
    return 0;
}

static PyObject *
future_get_result(PyObject *self, void *Py_UNUSED(closure))
{
    return get_held(self, false);
}

static int
future_set_result(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    return set_held(self, value, false);
}

static PyObject *
future_get_exception(PyObject *self, void *Py_UNUSED(closure))
{
    return get_held(self, true);
}

static int
future_set_exception(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    return set_held(self, value, true);
}

/* vars(future) may be given a reference back to it. */
static PyObject *
future_get_dict(PyObject *self, void *closure)
{
    cf_future_track((FutureObject *)self);
    return PyObject_GenericGetDict(self, closure);
}

PyGetSetDef cf_future_getset[] = {
    {"__dict__", future_get_dict, PyObject_GenericSetDict, NULL, NULL},
    {"_condition", future_get_condition, future_set_condition,
     PyDoc_STR("threading.Condition for the standard library's wait(); made when asked for"),
     NULL},
    {"_waiters", future_get_waiters, future_set_waiters,
     PyDoc_STR("list of the standard library's waiters; made when asked for"), NULL},
    {"_done_callbacks", future_get_callbacks, future_set_callbacks,
     PyDoc_STR("list of the callbacks; made when asked for"), NULL},
    {"_state", future_get_state, future_set_state, PyDoc_STR("'PENDING', 'RUNNING', …"),
     NULL},
    {"_result", future_get_result, future_set_result, PyDoc_STR("result or None"), NULL},
    {"_exception", future_get_exception, future_set_exception,
     PyDoc_STR("exception or None"), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyObject *
cf_future_py_commit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    FutureObject *f = (FutureObject *)self;
    if (nargs != 2 || !PyUnicode_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "_commit(how, value)");
        return NULL;
    }
    int moved = 0;
    if (PyUnicode_CompareWithASCIIString(args[0], "cancel") == 0) {
        moved = cf_future_commit_cancel(f, false);
    }
    else if (PyUnicode_CompareWithASCIIString(args[0], "notify") == 0) {
        moved = cf_future_commit_notify(f, false);
    }
    else {
        bool failed = PyUnicode_CompareWithASCIIString(args[0], "exception") == 0;
        moved = cf_future_commit_finish(state_of(f), f, Py_NewRef(args[1]), failed, false);
    }
    return moved < 0 ? NULL : PyBool_FromLong(moved);
}

int
cf_emulation_traverse(cf_emulation *e, visitproc visit, void *arg)
{
    Py_VISIT(e->condition);
    Py_VISIT(e->waiters);
    Py_VISIT(e->callbacks);
    Py_VISIT(e->stale);
    return 0;
}

void
cf_emulation_free(cf_emulation *e)
{
    Py_XDECREF(e->condition);
    Py_XDECREF(e->waiters);
    Py_XDECREF(e->callbacks);
    Py_XDECREF(e->stale);
    CF_GONE(emulation);
    PyMem_Free(e);
}
