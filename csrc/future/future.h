/* The Future: one object that is also the work item of a thread pool.

   sync/cell.h draws the states.  Fields and their guards:

   - `cell` is atomic.
   - `remote` is written before the future is shared; it is dropped with CF_HAS_REMOTE by
     whoever makes the future done for good (decoded, cancelled, set).
   - `call` (what to run) is filled before the future is shared.  Whoever wins the
     move out of PENDING owns it: the claiming worker, cancel(), or set_result().
     Then the same memory holds `name` and `trace`, the worker's until the future is done.
   - `result` belongs to the holder of CF_LOCKED until the future is done; from then
     on nothing writes it.
   - `hooks` and `emulation` belong to the holder of CF_LOCKED.
   - `link` belongs to the queue that the future is in. */
#ifndef CF_FUTURE_FUTURE_H
#define CF_FUTURE_FUTURE_H

#include "py/state.h"
#include "sync/cell.h"
#include "sync/taskq.h"
#include "sync/waitset.h"

#define CF_INLINE_ARGS 3

typedef struct {
    PyObject *fn;
    PyObject *kwnames;              /* tuple or NULL, as in the vectorcall protocol */
    union {
        PyObject *inlined[CF_INLINE_ARGS];
        PyObject **block;           /* PyMem_Malloc, if they are more */
    } args;
} cf_call;

/* Who ran the call, and when. */
typedef struct {
    cf_word started, finished;      /* cf_now_stamp(); finished is 0 while it runs */
    uint32_t pool;                  /* its number, see threads/pool.h, or CF_IN_PROCESS */
    uint32_t worker;                /* number of the thread, or identifier of the process */
} cf_trace;

#define CF_IN_PROCESS UINT32_MAX

/* Somebody must be told when the future is done. */
typedef enum { CF_HOOK_CALLBACK, CF_HOOK_TICKET } cf_hook_kind;

typedef struct cf_hook {
    struct cf_hook *next;
    cf_hook_kind kind;
} cf_hook;

typedef struct {
    cf_hook hook;
    PyObject *fn;                   /* owned */
} cf_callback_hook;                 /* the future's memory */

typedef struct {
    cf_hook hook;
    cf_waitset *set;                /* borrowed: the waiter unhooks before it goes */
    cf_ticket ticket;
} cf_ticket_hook;                   /* the waiter's memory */

struct cf_emulation;                /* see future/emulation.h */

/* Where the task of a future without a call is; see future/remote.h. */
typedef struct cf_remote cf_remote;
typedef struct {
    uint32_t number;
    uint32_t turn;                  /* the slot may be another task's by now: not with this */
} cf_remote_slot;

typedef struct {
    cf_remote *pool;
    cf_remote_slot slot;
} cf_remote_task;

/* CF_HAS_FETCHER: with CF_HAS_REMOTE, a thread is decoding the result. */
enum { CF_HAS_CALL = 1, CF_HAS_TRACE = 2, CF_HAS_REMOTE = 4, CF_HAS_FETCHER = 8,
       CF_HAS_NAME = 16 };

typedef struct {
    PyObject_HEAD
    cf_word cell;
    _Atomic uint8_t has;            /* which members of `u` are alive */
    cf_link link;
    PyObject *result;               /* result or exception; NULL stands for None */
    cf_hook *hooks;                 /* newest first */
    struct cf_emulation *emulation;
    union {
        cf_call call;
        struct {
            cf_remote_task remote;
            PyObject *name;         /* the function's: see cf_call_name(); or NULL */
            cf_trace trace;
        };
    } u;
    uint32_t nargs;                 /* positional arguments of `call` */
    uint32_t submitted;             /* cf_now_stamp(); 0: by no pool */
} FutureObject;

/* `has` is changed by the owner of what it speaks of.  Release, with the acquire of
   cf_future_has(): a name or trace that is there is whole. */
static inline void
cf_future_set_has(FutureObject *f, uint32_t has)
{
    cf_store_release(&f->has, (uint8_t)has);
}

static inline uint32_t
cf_future_has(FutureObject *f)
{
    return cf_load_acquire(&f->has);
}

uint32_t cf_future_load_remote(FutureObject *f);

/* The future's word as of now. */
static inline uint32_t
cf_future_load(FutureObject *f)
{
    uint32_t word = cf_load_acquire(&f->cell);
    return (word & CF_REMOTE) ? cf_future_load_remote(f) : word;
}

static inline bool
cf_future_check(cf_state *st, PyObject *obj)
{
    return Py_IS_TYPE(obj, (PyTypeObject *)st->future_type)
        || PyObject_TypeCheck(obj, st->FutureBase);
}

/* A pending future with nothing in it, or NULL with MemoryError.  Not by tp_alloc(), which
   would also make room for attributes (3.11) and have the cycle collector look at it. */
FutureObject *cf_future_alloc(cf_state *st);

/* A pending future with a call in it; takes new references to all of it.  NULL with
   MemoryError. */
FutureObject *cf_future_new(cf_state *st, PyObject *fn, PyObject *const *args,
                            size_t nargs, PyObject *kwnames);

/* What names a callable when it is gone (new; NULL: nothing does): its qualified name as a
   str, or something without state of the user's that has one.  Runs no Python code; not to
   be called with an exception set. */
PyObject *cf_call_name(PyObject *fn);

/* The future's (function name or None, pool, worker, seconds queued, seconds run), each
   None if it is not known, as _trace() returns it. */
PyObject *cf_future_trace(FutureObject *f);

/* The claimer's: call what the future holds and drop function and arguments.
   Returns the result (new) or NULL with an exception set. */
PyObject *cf_future_run_call(FutureObject *f, const cf_trace *trace);

/* Drop function and arguments, if they are still there; their owner's. */
void cf_future_drop_call(FutureObject *f);

/* Let go of the slot in which its task was; the owner's, as above. */
void cf_future_drop_remote(FutureObject *f);

/* A future that has no call in it (any more), and never had a name: here is one (stolen;
   may be NULL). */
void cf_future_set_name(FutureObject *f, PyObject *name);

/* The future dies: forget its function's name. */
void cf_future_drop_name(FutureObject *f);

/* If it failed and nobody was given the exception, have it logged, if that is wanted at
   all.  0 or -1. */
int cf_future_report_unread(cf_state *st, FutureObject *f);

/* PENDING -> RUNNING (true).  A cancelled future is notified instead (false); in
   any other state false too, and `*unexpected` says so. */
bool cf_future_claim(cf_state *st, FutureObject *f, bool *unexpected);

/* Finish with a result or exception (stolen; also on error) and tell everybody.
   0, or -1: InvalidStateError, or a callback raised what is not an Exception. */
int cf_future_finish(cf_state *st, FutureObject *f, PyObject *result, bool failed);

/* 1 cancelled (now or before), 0 too late, -1 error as for finish. */
int cf_future_cancel(cf_state *st, FutureObject *f);

/* CANCELLED -> CANCELLED_AND_NOTIFIED, telling who waits. 0 or -1 with an exception. */
int cf_future_notify_cancelled(cf_state *st, FutureObject *f);

/* The bare moves, without callbacks.  With `alone` they refuse (0) a future that
   has CF_EMULATED: that goes through cfutures._base, which holds the condition and
   makes the move by _commit().  1: moved; 0: not; -1: InvalidStateError.  `result` is
   stolen unless 0 comes back. */
int cf_future_commit_finish(cf_state *st, FutureObject *f, PyObject *result,
                            bool failed, bool alone);
int cf_future_commit_cancel(FutureObject *f, bool alone);
int cf_future_commit_notify(FutureObject *f, bool alone);

/* In a forked child: end a future whose pool is gone, without telling anybody (its
   callbacks belong to the parent).  `exception` is borrowed, or NULL to cancel. */
void cf_future_abandon(FutureObject *f, PyObject *exception);

/* Wait for a bit of `mask` in the word (CF_DONE or CF_NOTIFIED): 1, 0 deadline, -1. */
int cf_future_block(cf_state *st, FutureObject *f, uint32_t mask, cf_deadline until);

/* If it is done, see to it that `result` is there: one that came as bytes is decoded, by
   one thread.  0 and the word after that, or -1 (Ctrl-C while another thread decodes). */
int cf_future_settle(cf_state *st, FutureObject *f, uint32_t *word);

/* The same for who waits for the result: Ctrl-C that came with it is raised (-1), and the
   result stays where it is.  It would become the task's exception if it was noticed while the
   result is decoded. */
static inline int
cf_future_receive(cf_state *st, FutureObject *f, uint32_t *word)
{
    return PyErr_CheckSignals() < 0 ? -1 : cf_future_settle(st, f, word);
}

/* The result of a finished future (new), or NULL with its exception, CancelledError
   or TimeoutError set.  Waits until `until` if it is not done. */
PyObject *cf_future_result(cf_state *st, FutureObject *f, cf_deadline until);

/* A future is looked at by the cycle collector from its first reference to
   something that may refer back. */
void cf_future_track(FutureObject *f);

/* Nobody needs to be told any more that it failed, or may yet fail. */
void cf_future_mark_read(FutureObject *f);

/* A text such as "FINISHED" (borrowed). */
PyObject *cf_future_state_name(cf_state *st, uint32_t word);

/* ---- hooks ---- */

/* Hang a ticket on the future unless it is notified already (then false). */
bool cf_future_hook(FutureObject *f, cf_ticket_hook *hook);
void cf_future_unhook(FutureObject *f, cf_ticket_hook *hook);

/* Add a callback, or call it at once if the future is done.  0 or -1. */
int cf_future_add_callback(cf_state *st, FutureObject *f, PyObject *fn);

/* Call the callbacks, if there are any, through self._invoke_callbacks, which a
   subclass may override. */
int cf_future_callbacks(cf_state *st, FutureObject *f);

/* Call them, in the order in which they were added, and forget them. */
int cf_future_run_callbacks(cf_state *st, FutureObject *f);

void cf_future_free_callbacks(cf_hook *hooks);

/* Post and unlink every ticket; called with the lock held. */
void cf_future_post_tickets_lock_held(FutureObject *f, bool failed);

int cf_future_add_type(PyObject *module, cf_state *st);

#endif
