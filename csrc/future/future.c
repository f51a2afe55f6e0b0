/* The moves of a future from state to state, and what each of them owes to whom. */
#include "future/future.h"

#include "future/emulation.h"
#include "future/remote.h"
#include "py/block.h"

/* ---- making one ---- */

void
cf_future_track(FutureObject *f)
{
    if (!PyObject_GC_IsTracked((PyObject *)f)) {
        PyObject_GC_Track(f);
    }
}

FutureObject *
cf_future_new(cf_state *st, PyObject *fn, PyObject *const *args, size_t nargs,
              PyObject *kwnames)
{
    FutureObject *f = cf_future_alloc(st);
    if (f == NULL) {
        return NULL;
    }
    size_t total = nargs + (kwnames == NULL ? 0 : (size_t)PyTuple_GET_SIZE(kwnames));
    PyObject **to = f->u.call.args.inlined;
    if (total > CF_INLINE_ARGS) {
        to = PyMem_Malloc(total * sizeof *to);
        if (to == NULL) {
            Py_DECREF(f);
            PyErr_NoMemory();
            return NULL;
        }
        CF_BORN(long_call);
        f->u.call.args.block = to;
    }
    for (size_t i = 0; i < total; i++) {
        to[i] = cf_new_ref_for_another(args[i]);
    }
    f->u.call.fn = cf_new_ref_for_another(fn);
    f->u.call.kwnames = kwnames == NULL ? NULL : cf_new_ref_for_another(kwnames);
    f->nargs = (uint32_t)nargs;
    f->submitted = cf_now_stamp();
    cf_future_set_has(f, CF_HAS_CALL);
    return f;
}

/* ---- the call ---- */

static size_t
call_size(FutureObject *f)
{
    PyObject *kwnames = f->u.call.kwnames;
    return f->nargs + (kwnames == NULL ? 0 : (size_t)PyTuple_GET_SIZE(kwnames));
}

void
cf_future_drop_call(FutureObject *f)
{
    if (!(cf_future_has(f) & CF_HAS_CALL)) {
        return;
    }
    cf_call call = f->u.call;
    size_t total = call_size(f);
    cf_future_set_has(f, 0);
    PyObject **args = total > CF_INLINE_ARGS ? call.args.block : call.args.inlined;
    Py_DECREF(call.fn);
    Py_XDECREF(call.kwnames);
    for (size_t i = 0; i < total; i++) {
        Py_DECREF(args[i]);
    }
    if (total > CF_INLINE_ARGS) {
        CF_GONE(long_call);
        PyMem_Free(args);
    }
}

PyObject *
cf_future_run_call(FutureObject *f, const cf_trace *trace)
{
    /* On the stack, where the cycle collector and a callee that borrows the slot
       before the arguments cannot get in each other's way. */
    cf_call call = f->u.call;
    size_t total = call_size(f);
    f->u.name = cf_call_name(call.fn);
    f->u.trace = *trace;
    cf_future_set_has(f, CF_HAS_NAME | CF_HAS_TRACE);
    PyObject *space[1 + CF_INLINE_ARGS] = {
        NULL, call.args.inlined[0], call.args.inlined[1], call.args.inlined[2]};
    PyObject **args = space + 1;
    size_t nargsf = f->nargs | PY_VECTORCALL_ARGUMENTS_OFFSET;
    if (total > CF_INLINE_ARGS) {
        args = call.args.block;
        nargsf = f->nargs;
    }
    PyObject *result = PyObject_Vectorcall(call.fn, args, nargsf, call.kwnames);
    cf_store_relaxed(&f->u.trace.finished, cf_now_stamp());

    PyObject *exc = result == NULL ? PyErr_GetRaisedException() : NULL;
    Py_DECREF(call.fn);
    Py_XDECREF(call.kwnames);
    for (size_t i = 0; i < total; i++) {
        Py_DECREF(args[i]);
    }
    if (total > CF_INLINE_ARGS) {
        CF_GONE(long_call);
        PyMem_Free(args);
    }
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
    return result;
}

/* ---- telling who waits ---- */

bool
cf_future_hook(FutureObject *f, cf_ticket_hook *hook)
{
    uint32_t word = cf_cell_lock(&f->cell);
    if (word & CF_NOTIFIED) {
        cf_cell_unlock(&f->cell, 0, 0);
        return false;
    }
    hook->hook.kind = CF_HOOK_TICKET;
    hook->hook.next = f->hooks;
    f->hooks = &hook->hook;
    cf_cell_unlock(&f->cell, 0, CF_HOOKED & ~word);
    return true;
}

void
cf_future_unhook(FutureObject *f, cf_ticket_hook *hook)
{
    cf_cell_lock(&f->cell);
    for (cf_hook **at = &f->hooks; *at != NULL; at = &(*at)->next) {
        if (*at == &hook->hook) {
            *at = hook->hook.next;
            break;
        }
    }
    /* CF_HOOKED may stay set for nothing; that costs one look at an empty list. */
    cf_cell_unlock(&f->cell, 0, 0);
}

void
cf_future_post_tickets_lock_held(FutureObject *f, bool failed)
{
    cf_hook **at = &f->hooks;
    while (*at != NULL) {
        cf_hook *hook = *at;
        if (hook->kind == CF_HOOK_TICKET) {
            *at = hook->next;
            cf_ticket_hook *t = cf_container_of(hook, cf_ticket_hook, hook);
            cf_waitset_post(t->set, &t->ticket, failed);
        }
        else {
            at = &hook->next;
        }
    }
}

/* ---- the moves ---- */

/* Hand a move to cfutures._base, which makes it holding `_condition`. */
static int
finish_emulated(cf_state *st, FutureObject *f, const char *how, PyObject *value)
{
    PyObject *r = PyObject_CallFunction(st->finish_emulated, "OsO", f, how,
                                        value == NULL ? Py_None : value);
    if (r == NULL) {
        return -1;
    }
    int truth = PyObject_IsTrue(r);
    Py_DECREF(r);
    return truth;
}

bool
cf_future_claim(cf_state *st, FutureObject *f, bool *unexpected)
{
    *unexpected = false;
    uint32_t word = CF_STATE_PENDING;
    /* acquire: the call that the submitter wrote */
    if (atomic_compare_exchange_strong_explicit(&f->cell, &word, CF_STATE_RUNNING,
                                                memory_order_acquire,
                                                memory_order_relaxed)) {
        return true;
    }
    word = cf_cell_lock(&f->cell);
    if ((word & CF_STATE) == CF_STATE_PENDING) {
        cf_cell_unlock(&f->cell, 0, CF_RUNNING);
        return true;
    }
    cf_cell_unlock(&f->cell, 0, 0);
    if ((word & CF_STATE) == CF_STATE_CANCELLED) {
        cf_future_notify_cancelled(st, f);
    }
    else {
        *unexpected = true;
    }
    return false;
}

int
cf_future_commit_finish(cf_state *st, FutureObject *f, PyObject *result, bool failed,
                        bool alone)
{
    uint32_t word = cf_cell_lock(&f->cell);
    if (word & CF_DONE) {
        cf_cell_unlock(&f->cell, 0, 0);
        Py_XDECREF(result);
        PyErr_Format(st->invalid_state_error, "%U: %R",
                     cf_future_state_name(st, word), f);
        return -1;
    }
    if (alone && (word & CF_EMULATED)) {
        cf_cell_unlock(&f->cell, 0, 0);
        return 0;
    }
    if (word & CF_REMOTE) {     /* set by hand, or by the manager: what is in the slot ... */
        f->u.remote.pool->ops->cancel(f->u.remote.pool, f->u.remote.slot);
    }
    f->result = result;
    if (word & CF_HOOKED) {
        cf_future_post_tickets_lock_held(f, failed);
    }
    /* set_exception(None) is told to waiters as a failure, but is a result. */
    bool raises = failed && result != Py_None;
    cf_cell_unlock(&f->cell, word & (CF_RUNNING | CF_REMOTE),
                   CF_STATE_FINISHED | (raises ? CF_FAILED : 0));
    if (!(word & CF_RUNNING)) {
        /* Set by hand before its pool began it.  Once it runs the call is the worker's. */
        cf_future_drop_call(f);
    }
    cf_future_drop_remote(f);     /* ... is wanted by nobody */
    return 1;
}

int
cf_future_commit_cancel(FutureObject *f, bool alone)
{
    uint32_t word = cf_cell_lock(&f->cell);
    if ((word & CF_STATE) != CF_STATE_PENDING || (alone && (word & CF_EMULATED))
        || ((word & CF_REMOTE)
            && !f->u.remote.pool->ops->cancel(f->u.remote.pool, f->u.remote.slot)))
    {
        cf_cell_unlock(&f->cell, 0, 0);
        return 0;
    }
    cf_cell_unlock(&f->cell, word & CF_REMOTE, CF_STATE_CANCELLED);
    if (cf_future_has(f) & CF_HAS_CALL) {
        PyObject *name = cf_call_name(f->u.call.fn);
        cf_future_drop_call(f);
        cf_future_set_name(f, name);
    }
    cf_future_drop_remote(f);
    return 1;
}

int
cf_future_commit_notify(FutureObject *f, bool alone)
{
    uint32_t word = cf_cell_lock(&f->cell);
    if ((word & CF_STATE) != CF_STATE_CANCELLED || (alone && (word & CF_EMULATED))) {
        cf_cell_unlock(&f->cell, 0, 0);
        return 0;
    }
    cf_future_post_tickets_lock_held(f, false);
    cf_cell_unlock(&f->cell, 0, CF_NOTIFIED);
    return 1;
}

int
cf_future_finish(cf_state *st, FutureObject *f, PyObject *result, bool failed)
{
#if CF_UNTRACK_PENDING
    if (result != NULL && PyObject_IS_GC(result)) {
        cf_future_track(f);
    }
#endif
    int moved = cf_future_commit_finish(st, f, result, failed, true);
    if (moved < 0) {
        return -1;
    }
    if (moved == 0) {
        moved = finish_emulated(st, f, failed ? "exception" : "result", result);
        Py_XDECREF(result);
        if (moved < 0) {
            return -1;
        }
    }
    return cf_future_callbacks(st, f);
}

int
cf_future_cancel(cf_state *st, FutureObject *f)
{
    bool remote = (cf_future_load(f) & CF_REMOTE) != 0;
    int moved = cf_future_commit_cancel(f, true);
    if (!moved && (cf_future_load(f) & (CF_STATE | CF_EMULATED)) == CF_EMULATED) {
        moved = finish_emulated(st, f, "cancel", NULL);
        if (moved < 0) {
            return -1;
        }
    }
    /* No worker will come across a task in another process's queue: it is notified now. */
    if (moved && remote && cf_future_notify_cancelled(st, f) < 0) {
        return -1;
    }
    if (moved && cf_future_callbacks(st, f) < 0) {
        return -1;
    }
    return (cf_future_load(f) & CF_CANCELLED) != 0;
}

int
cf_future_notify_cancelled(cf_state *st, FutureObject *f)
{
    if (!cf_future_commit_notify(f, true)
        && (cf_future_load(f) & CF_STATE) == CF_STATE_CANCELLED)
    {
        return finish_emulated(st, f, "notify", NULL) < 0 ? -1 : 0;
    }
    return 0;
}

void
cf_future_abandon(FutureObject *f, PyObject *exception)
{
    uint32_t word = cf_cell_lock(&f->cell);
    cf_hook *hooks = NULL;
    if (!(word & CF_NOTIFIED)) {
        cf_future_post_tickets_lock_held(f, exception != NULL);
        hooks = f->hooks;
        f->hooks = NULL;
    }
    if (word & CF_DONE) {
        cf_cell_unlock(&f->cell, 0, CF_NOTIFIED & ~word);
    }
    else if (exception == NULL) {
        cf_cell_unlock(&f->cell, word & CF_RUNNING, CF_STATE_CANCELLED_AND_NOTIFIED);
    }
    else {
        f->result = Py_NewRef(exception);
        cf_cell_unlock(&f->cell, word & CF_RUNNING, CF_STATE_FINISHED | CF_FAILED);
    }
    cf_future_drop_call(f);
    cf_future_free_callbacks(hooks);
}

/* ---- asking ---- */

static void
raise_stored(PyObject *exc)
{
    if (PyExceptionInstance_Check(exc)) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    else if (PyExceptionClass_Check(exc)) {
        PyErr_SetNone(exc);
    }
    else {
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
    }
}

PyObject *
cf_future_result(cf_state *st, FutureObject *f, cf_deadline until)
{
    uint32_t word = cf_future_load(f);
    if (!(word & CF_DONE)) {
        int ready = cf_future_block(st, f, CF_DONE, until);
        if (ready < 0) {
            return NULL;
        }
        word = cf_future_load(f);
        if (!(word & CF_DONE)) {
            PyErr_SetNone(PyExc_TimeoutError);
            return NULL;
        }
    }
    if ((word & (CF_ENCODED | CF_DECODED)) == CF_ENCODED
        && cf_future_receive(st, f, &word) < 0)
    {
        return NULL;
    }
    if (word & CF_CANCELLED) {
        PyErr_SetNone(st->cancelled_error);
        return NULL;
    }
    PyObject *result = f->result;
    if (!(word & CF_FAILED)) {
        return Py_NewRef(result == NULL ? Py_None : result);
    }
    cf_future_mark_read(f);
    raise_stored(result);
    return NULL;
}

void
cf_future_mark_read(FutureObject *f)
{
    uint32_t word = cf_cell_lock(&f->cell);
    cf_cell_unlock(&f->cell, 0, CF_READ & ~word);
}

PyObject *
cf_future_state_name(cf_state *st, uint32_t word)
{
    switch (word & CF_STATE) {
    case CF_STATE_PENDING:
        return st->state_pending;
    case CF_STATE_RUNNING:
        return st->state_running;
    case CF_STATE_CANCELLED:
        return st->state_cancelled;
    case CF_STATE_CANCELLED_AND_NOTIFIED:
        return st->state_cancelled_and_notified;
    default:
        return st->state_finished;
    }
}
