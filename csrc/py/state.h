/* The state of one copy of the module (one for each interpreter). */
#ifndef CF_PY_STATE_H
#define CF_PY_STATE_H

#include "py/compat.h"
#include "base/atomic.h"
#include "base/live.h"
#include "plat/spin.h"

/* Every owned reference of the module, once: traverse and clear expand this.

   Types are made by cf_<area>_add_types().  The objects of the second group are
   Python's, handed over by cfutures._base and cfutures.thread through
   _core._configure(name=object, ...). */
#define CF_STATE_TYPES(X)                                                        \
    X(FutureBase)           /* _core.Future */                                   \
    X(AsCompleted)                                                               \
    X(Waiter)                                                                    \
    X(ExecutorBase)         /* _core.Executor */                                 \
    X(MapIterator)                                                               \
    X(ThreadPool)                                                                \
    X(Worker)                                                                    \
    X(ProcessPool)                                                               \
    X(ProcessEngine)                                                             \
    X(SharedBuffer)         /* a view of a block in a pool's memory */           \
    X(PickleSink)           /* where a message's pickler writes to */            \
    X(QueueBase)            /* _core.Queue */

#define CF_STATE_OBJECTS(X)                                                      \
    X(future_type)          /* cfutures.Future: what submit() makes */           \
    X(standard_future)      /* concurrent.futures.Future */                      \
    X(cancelled_error)                                                           \
    X(invalid_state_error)                                                       \
    X(broken_thread_pool)                                                        \
    X(broken_process_pool)                                                       \
    X(done_and_not_done)    /* the named tuple that wait() returns */            \
    X(log_callback_error)   /* (future, exception) */                            \
    X(log_critical)         /* (message, exception) */                           \
    X(log_unexpected_state) /* (future) */                                       \
    X(new_condition)        /* threading.Condition */                            \
    X(finish_emulated)      /* (future, how, value): see future/emulation.c */   \
    X(add_callback_emulated)    /* (future, fn) -> bool: it was not too late */  \
    X(watch_foreign)        /* (future, waiter) -> bool: it is done already */   \
    X(unwatch_foreign)      /* (future, waiter) */                               \
    X(log_unread)           /* (name or None, exception) */                      \
    X(show_progress)        /* (iterator of map(), progress) -> an iterator */   \
    X(describe)             /* _cells.py: what a worker needs to have a function */ \
    X(load_definition)      /* (bytes-like) -> callable */                        \
    X(pickler)              /* (file, buffer_callback): .dump(obj), .clear_memo() */ \
    X(loads)                /* (data, buffers=iterable) */                        \
    X(queue_pickler)        /* the same as pickler, for items of a queue */       \
    X(queue_full)           /* queue.Full */                                     \
    X(queue_empty)          /* queue.Empty */                                    \
    X(pack_exception)       /* (exc): what to pickle for it */                    \
    X(transfer_failed)      /* (what, exc) -> the exception for the future */     \
    X(state_pending) X(state_running) X(state_cancelled)                         \
    X(state_cancelled_and_notified) X(state_finished)                            \
    X(str_submit) X(str_invoke_callbacks) X(str_result) X(str_cancel) X(str_spawn)    \
    X(str_grow)                                                                  \
    X(str_class) X(str_name)

typedef struct cf_state {
#define X(name) PyTypeObject *name;
    CF_STATE_TYPES(X)
#undef X
#define X(name) PyObject *name;
    CF_STATE_OBJECTS(X)
#undef X
    /* Pools that have not been freed; guarded by pools_lock. */
    cf_spinlock pools_lock;
    struct cf_pool *pools;
    struct cf_procpool *procpools;
    /* This process's views of queues; guarded by queues_lock. */
    cf_spinlock queues_lock;
    struct cf_queue_view *queues;
    /* Set once, by module_exec: the pools' answer to "is there more to do than CPUs to do
       it, so that a waiting thread should keep out of the way?"; how much more, or 0, and
       whether all workers are at it already. */
    uint32_t (*saturated)(struct cf_state *st, bool *all_busy);
    int cpus;
    /* Set once, by threading's exit hook. */
    cf_word finalizing;
    /* 1: exceptions that nobody has asked for are logged; see future/trace.c. */
    cf_word warn_unread;
} cf_state;

extern struct PyModuleDef cf_module_def;

static inline cf_state *
cf_state_of_module(PyObject *module)
{
    return (cf_state *)PyModule_GetState(module);
}

/* The state for an instance of one of our types, or of a subclass of one.  Not for
   tp_clear and tp_dealloc: when the interpreter takes modules down the type may have been
   cleared before its instances; those that need the state hold the module. */
static inline cf_state *
cf_state_of(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &cf_module_def);
    /* Every type that reaches us is ours or derives from one of ours. */
    assert(module != NULL);
    return cf_state_of_module(module);
}

/* METH_VARARGS | METH_KEYWORDS: _core._configure(**objects). */
PyObject *cf_state_configure(PyObject *module, PyObject *args, PyObject *kwargs);
int cf_state_init(cf_state *st);
int cf_state_traverse(cf_state *st, visitproc visit, void *arg);
void cf_state_clear(cf_state *st);

#endif
