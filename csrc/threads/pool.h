/* A thread pool, apart from its Python objects.

   Its life, in `state` (bits are only ever added) and in the queue's CF_TASKQ_CLOSED:

       OPEN --shutdown(), executor collected, interpreter exit--> closed, draining
       OPEN --initializer failed--> BROKEN (pending tasks fail; closed by shutdown())
       any  --fork, in the child--> FORKED (empty and closed)

   closed: workers finish what is queued, then leave.  Whoever closes sets the bit in
   `state` first, then closes the queue; whoever submits pushes first, then looks at
   `state`: so a task that came too late is found by its own submitter (who withdraws
   it) if no worker is left to take it.

   The pool is kept alive by its executor and by each worker; the last one frees it. */
#ifndef CF_THREADS_POOL_H
#define CF_THREADS_POOL_H

#include "executor/executor.h"
#include "sync/lot.h"
#include "sync/taskq.h"

#define CF_POOL_SHUTDOWN   (1u << 0)
#define CF_POOL_BROKEN     (1u << 1)
#define CF_POOL_FINALIZING (1u << 2)
#define CF_POOL_FORKED     (1u << 3)

typedef struct cf_worker {
    cf_berth berth;             /* the worker's own */
    _Atomic bool busy;          /* written by the worker, read by submit() */
    FutureObject *_Atomic current;  /* what it runs, for a forked child */
    uint32_t number;
    unsigned long thread;       /* PyThread_get_thread_ident() */
    struct cf_worker *next;     /* guarded by the pool's workers_lock */
} cf_worker;

typedef struct cf_pool {
    cf_taskq queue;
    cf_lot lot;
    cf_word state;
    cf_word refs;
    uint32_t max_workers;
    cf_word threads;            /* started, or being started; never more than max */
    uint32_t number;            /* for the trace: N of "ThreadPoolExecutor-N_M" */
    int64_t switch_interval;    /* nanoseconds */
    PyObject *module;           /* owned: the state must outlive the pool */
    cf_spinlock workers_lock;
    cf_worker *workers;         /* guarded by workers_lock; those that run */
    struct cf_pool *prev, *next;    /* guarded by the module's pools_lock */
} cf_pool;

cf_pool *cf_pool_new(PyObject *module, uint32_t max_workers, uint32_t number);
void cf_pool_incref(cf_pool *pool);
void cf_pool_decref(cf_pool *pool);

/* Stop taking tasks, for the reason `bit`; workers drain the queue and leave. */
void cf_pool_close(cf_pool *pool, uint32_t bit);

/* Take everything that waits: cancel it and tell who waits for it.  -1 if a
   callback raised (the rest is cancelled all the same). */
int cf_pool_cancel_queued(cf_state *st, cf_pool *pool);

/* Fail what waits with `reason` (borrowed), or each with a BrokenThreadPool if NULL. */
void cf_pool_fail_queued(cf_state *st, cf_pool *pool, PyObject *reason);

/* The initializer failed: what waits, and what comes, fails with BrokenThreadPool. */
void cf_pool_break(cf_state *st, cf_pool *pool);

/* A submit that the state forbids: RuntimeError or BrokenThreadPool. */
void cf_pool_raise_closed(cf_state *st, uint32_t state);

/* In a forked child: every pool is empty and closed, and what its threads were
   running has failed. */
void cf_pool_after_fork(cf_state *st);

/* Whether some pool has all its workers busy, as many as there are CPUs at least, and
   tasks waiting besides: for cf_block().  It looks at the first few pools. */
bool cf_pools_saturated(cf_state *st);

/* BrokenThreadPool(text of a failed initializer) (new). */
PyObject *cf_pool_broken_error(cf_state *st);

#define CF_BROKEN_TEXT \
    "A thread initializer failed, the thread pool is not usable anymore"

int cf_threads_add_types(PyObject *module, cf_state *st);
int cf_worker_add_type(PyObject *module, cf_state *st);

typedef struct {
    ExecutorObject base;
    cf_pool *pool;              /* NULL until __init__ */
} ThreadPoolObject;

#endif
