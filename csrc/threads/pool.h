/* A thread pool, apart from its Python objects.

   Its life, in `state` (bits are only ever added) and in the queue's `closed`:

       OPEN --shutdown(), executor collected, interpreter exit--> closed, draining
       OPEN --initializer failed--> BROKEN (pending tasks fail; closed by shutdown())
       any  --fork, in the child--> FORKED (empty and closed)

   closed: workers finish what is queued, then leave.  Whoever closes sets the bit in
   `state` first, then closes the queue; whoever submits pushes first, then looks at
   `state`: so a task that came too late is found by its own submitter (who withdraws
   it) if no worker is left to take it.

   `growth` has in one word how many threads there are, how many of them are just being
   started, and whether the pool is closed:

       submit() --+1 thread, +1 start, unless closed--> _spawn() --(-1 start)--> counted
       close    --CF_GROWTH_CLOSED-->  no start begins any more; the last one settles

   So a thread was counted either before the pool was closed, and then it is started
   whatever comes (another submit() may rely on it, since the count was full), or not at
   all; and settled means that all there will ever be are in `_threads`.  The bit in
   `state` comes first: who finds no thread because of CF_GROWTH_CLOSED finds the pool
   closed, too, and withdraws his task.

   The pool is kept alive by its executor and by each worker; the last one frees it. */
#ifndef CF_THREADS_POOL_H
#define CF_THREADS_POOL_H

#include "base/activity.h"
#include "executor/executor.h"
#include "sync/lot.h"
#include "sync/taskq.h"

#define CF_POOL_SHUTDOWN   (1u << 0)
#define CF_POOL_BROKEN     (1u << 1)
#define CF_POOL_FINALIZING (1u << 2)
#define CF_POOL_FORKED     (1u << 3)

/* Tasks that workers took, by what became of them. */
typedef struct {
    _Atomic uint64_t done, failed, cancelled;
} cf_tally;

typedef struct cf_worker {
    cf_berth berth;             /* the worker's own */
    _Atomic bool busy;          /* written by the worker, read by submit() */
    FutureObject *_Atomic current;  /* what it runs, for a forked child */
    uint32_t number;
    unsigned long thread;       /* PyThread_get_thread_ident() */
    struct cf_worker *next;     /* guarded by the pool's workers_lock */
    cf_tally tally;             /* written by the worker */
} cf_worker;

/* Bits of `growth`; the low 32 are the number of threads, started or being started. */
#define CF_GROWTH_START    ((uint64_t)1 << 32)
#define CF_GROWTH_CLOSED   ((uint64_t)1 << 63)

typedef struct cf_pool {
    cf_taskq queue;
    cf_lot lot;
    cf_word state;
    cf_word refs;
    uint32_t max_workers;
    _Atomic uint64_t growth;    /* see above; never more threads than max_workers */
    cf_word settled;            /* a cell: CF_DONE, once closed and nothing is starting */
    uint32_t number;            /* for the trace: N of "ThreadPoolExecutor-N_M" */
    int64_t switch_interval;    /* nanoseconds */
    cf_state *st;
    PyObject *module;           /* owned: the state must outlive the pool */
    cf_spinlock workers_lock;
    cf_worker *workers;         /* guarded by workers_lock; those that run */
    cf_tally tally;             /* of workers that left, and of tasks that none had */
    cf_activity activity;       /* of the workers, but for waiting */
    int64_t opened;             /* cf_now_coarse() */
    struct cf_pool *prev, *next;    /* guarded by the module's pools_lock */
    struct cf_pool *former;     /* the executor's before this one; set before it has this one */
} cf_pool;

cf_pool *cf_pool_new(PyObject *module, uint32_t max_workers, uint32_t number);
void cf_pool_incref(cf_pool *pool);
void cf_pool_decref(cf_pool *pool);

/* The number of threads that run or are being started. */
static inline uint32_t
cf_pool_threads(cf_pool *pool)
{
    /* acquire: who finds it full and then finds the pool open relies on those counted */
    return (uint32_t)cf_load_acquire(&pool->growth);
}

/* Count a thread that the caller is going to start, and give its number; false if there
   are enough, or the pool is closed.  After true the caller does start it and then, be
   it there or not, calls cf_pool_started() in the same thread. */
bool cf_pool_begin_start(cf_pool *pool, uint32_t *number);

/* The thread is in `_threads`; or cf_pool_not_started() was called, and who relied on
   the thread has been told. */
void cf_pool_started(cf_pool *pool);

/* A thread that was counted is none after all. */
void cf_pool_not_started(cf_pool *pool);

/* The pool is closed: wait until every thread is in `_threads`.  Called while the same
   thread is starting one (by a signal handler or a finalizer) it does not wait: it
   would for itself, or for another one that does the same.  0, or -1 with an exception
   (of a signal handler). */
int cf_pool_settle(cf_state *st, cf_pool *pool);

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

/* Add to a counter. */
static inline void
cf_tally_add(_Atomic uint64_t *counter, uint64_t count)
{
    atomic_fetch_add_explicit(counter, count, memory_order_relaxed);
}

/* In a forked child: every pool is empty and closed, and what its threads were
   running has failed. */
void cf_pool_after_fork(cf_state *st);

/* If some pool has work for all its workers, as many as there are CPUs at least, and tasks
   waiting besides: how many, else 0; for cf_block_until().  `*all_busy`: they are at it, not
   just about to begin.  It looks at the first few pools. */
uint32_t cf_pools_saturated(cf_state *st, bool *all_busy);

/* BrokenThreadPool(text of a failed initializer) (new). */
PyObject *cf_pool_broken_error(cf_state *st);

#define CF_NO_POOL_TEXT "ThreadPoolExecutor.__init__() was not called"
#define CF_BROKEN_TEXT \
    "A thread initializer failed, the thread pool is not usable anymore"

int cf_threads_add_types(PyObject *module, cf_state *st);
int cf_worker_add_type(PyObject *module, cf_state *st);

typedef struct {
    ExecutorObject base;
    /* NULL until __init__.  Called again it puts another one here, and closes the former
       one; but that lives as long as the executor, since a submit() may be in the middle of
       it, in another thread or in this one (a signal handler called __init__). */
    _Atomic(cf_pool *) pool;
} ThreadPoolObject;

/* The executor's pool (borrowed, as long as the executor lives), or NULL. */
static inline cf_pool *
cf_pool_of(PyObject *executor)
{
    return atomic_load_explicit(&((ThreadPoolObject *)executor)->pool, memory_order_acquire);
}

#endif
