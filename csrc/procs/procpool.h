/* A process pool as the parent sees it, apart from its Python objects.

   Its life, in `state` (bits are only ever added):

       OPEN --shutdown(), executor collected, interpreter exit--> closed, draining
       OPEN --a worker crashed (on_crash="break"), initializer failed--> BROKEN
       any  --fork, in the child--> FORKED (its tasks are the parent's; here they failed)

   A task is in a slot of the board from submit() until somebody has its result:

       free --submit()--> in flight --worker finishes--> done --result decoded, or the
        ^                                                         future is dropped--+
        +----------------------------------------------------------------------------+
                 (a watched slot: not before the manager has seen it announced)

   Who touches what: the tasks, the list of free slots and the tail of the order belong
   to the holder of `lock` (in builds with a GIL: of the GIL).  Nothing is called under
   it.  The pool is freed when nobody owns it and no future has a slot. */
#ifndef CF_PROCS_PROCPOOL_H
#define CF_PROCS_PROCPOOL_H

#include "executor/executor.h"
#include "future/remote.h"
#include "ipc/arena.h"
#include "ipc/board.h"
#include "plat/peer.h"
#include "procs/codec.h"
#include "procs/defs.h"

#define CF_PROCS_SHUTDOWN (1u << 0)
#define CF_PROCS_BROKEN   (1u << 1)
#define CF_PROCS_FORKED   (1u << 2)

/* What befell a task outside the board; rare, so it is apart from the task. */
typedef struct {
    PyObject *error;            /* owned: it fails with this, whatever is in the slot */
    cf_place spilled;           /* the task's message, if it found no room in the arena */
} cf_task_extra;

enum {
    CF_TASK_LET_GO = 1,         /* the future is through with it */
    CF_TASK_FETCHED = 2,        /* the result was decoded, its blocks are given back */
    CF_TASK_ENDED = 4,          /* the parent ended it: there is no result in the slot */
    CF_TASK_REPORT = 8,         /* let go before it ended: if it fails nobody will ask why */
    CF_TASK_PUSHED = 16,        /* the slot is not free; its turn is in the bits that it has in
                                   the slot's word */
};

/* What the parent alone knows of a slot. */
typedef struct {
    FutureObject *watcher;      /* owned: the future, if the board is to announce it */
    cf_definition *definition;  /* held, or NULL */
    cf_task_extra *extra;       /* or NULL */
    uint32_t block;             /* of the parent's arena, with the task's message, or none */
    uint32_t buffers;           /* cf_message.buffers */
    cf_word flags;              /* bits are set by whoever finds out */
} cf_task;

typedef struct cf_procpool {
    cf_remote remote;           /* first: futures know the pool as this */
    cf_state *st;
    PyObject *module;           /* owned: the state must outlive the pool */
    cf_segment *seg;
    cf_board board;
    cf_arena *arena;            /* the parent's; guarded by the codec */
    cf_codec *codec;
    cf_defs *defs;
    cf_word state;
    cf_spinlock lock;
    cf_task *tasks;             /* reserved for all slots; pages come with use */
    uint32_t *free_slots;       /* a stack of `free_count`; the last freed is used first */
    uint32_t free_count;
    uint32_t used;              /* slots 0..used-1 have been used */
    uint32_t live;              /* slots that are not free */
    cf_word enlisted;           /* records 0..enlisted-1 have been given to workers */
    cf_word running;            /* workers that are enlisted now */
    cf_word limit;              /* start more on demand up to this many */
    uint8_t *records;           /* of each worker record: see roster.c; Python starts and
                                   buries workers one at a time */
    int bell;                   /* eventfd */
    cf_word nudged;             /* _wake() was called */
    cf_word scribbled;          /* a worker wrote over the memory: the manager is to break
                                   the pool */
    uint32_t unread;            /* see cf_board_announced(); the manager's */
    uint32_t owners;            /* executor and engine objects that refer to it */
    cf_word quiet;              /* 1: the manager has nothing to give back */
    PyObject *broken_text;      /* owned; set before CF_PROCS_BROKEN */
    int64_t opened;             /* cf_now_coarse() */
    /* Tasks: submitted (written under `lock`); of these, ended here instead of by a worker,
       and taken back. */
    _Atomic uint64_t submitted, failed_here, cancelled;
    struct cf_procpool *prev, *next;    /* guarded by the module's pools_lock */
    struct cf_procpool *former; /* the executor's before this one; set before it has this one */
} cf_procpool;

static inline void
cf_procpool_lock(cf_procpool *pool)
{
    if (!CF_SERIALIZED) {
        cf_spinlock_lock(&pool->lock);
    }
}

static inline void
cf_procpool_unlock(cf_procpool *pool)
{
    if (!CF_SERIALIZED) {
        cf_spinlock_unlock(&pool->lock);
    }
}

static inline void
cf_procpool_count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static inline cf_word *
cf_procpool_word(cf_procpool *pool, uint32_t slot)
{
    return &cf_board_slot(&pool->board, slot)->word;
}

static inline void
cf_task_flag(cf_task *task, uint32_t flag)
{
    atomic_fetch_or_explicit(&task->flags, flag, memory_order_relaxed);
}

/* It was pushed, in this turn.  In builds with a GIL flags are changed by who holds it. */
static inline void
cf_task_pushed(cf_task *task, uint32_t turn)
{
    uint32_t flags = CF_TASK_PUSHED | turn << CF_SLOT_TURN_SHIFT;
    if (CF_SERIALIZED) {
        cf_store_relaxed(&task->flags, cf_load_relaxed(&task->flags) | flags);
    }
    else {
        cf_task_flag(task, flags);
    }
}

static inline bool
cf_task_is(cf_task *task, uint32_t flags)
{
    return (cf_load_relaxed(&task->flags) & flags) != 0;
}

/* The word of a slot that is a task's, in this turn, cannot be this: somebody scribbled over
   it. */
static inline bool
cf_procpool_nonsense(uint32_t word, uint32_t turn)
{
    uint32_t state = word & CF_SLOT_STATE;
    return state == CF_SLOT_FREE || (state & (state - 1)) != 0 || CF_SLOT_TURN(word) != turn;
}

/* There will be memory to give back when the pool is at rest. */
static inline void
cf_procpool_stir(cf_procpool *pool)
{
    if (cf_load_relaxed(&pool->quiet)) {
        cf_store_relaxed(&pool->quiet, 0);
        cf_bell_ring(pool->bell);
    }
}

/* procpool.c */
cf_procpool *cf_procpool_new(PyObject *module, uint32_t max_workers, uint64_t threshold);
/* One owner more; one less. */
void cf_procpool_own(cf_procpool *pool);
void cf_procpool_disown(cf_procpool *pool);

/* A slot for a task, its task empty, the pool's until it is pushed; CF_NO_SLOT: none left. */
uint32_t cf_procpool_take_slot(cf_procpool *pool);
/* Done or taken back, let go of, not to be announced (any more): give back all that
   belonged to the task.  With an attached thread state. */
void cf_procpool_free_slot(cf_procpool *pool, uint32_t slot);

/* The task in a slot fails with `error` (borrowed), begun or not, unless it is done: then
   false.  Who waits is told, callbacks are called. */
bool cf_procpool_fail(cf_procpool *pool, uint32_t slot, PyObject *error);
/* Everything that has not ended fails with `error`. */
void cf_procpool_fail_all(cf_procpool *pool, PyObject *error);
/* Somebody has seen in shared memory what cannot be there: have the manager break the pool.
   Runs no Python code. */
void cf_procpool_suspect(cf_procpool *pool);
/* A task has this slot, and the slot's word is none that it can have. */
bool cf_procpool_astray(cf_procpool *pool, uint32_t slot);
/* As cf_procpool_fail(), whatever the slot's word is, and who waits is told though it may
   never be announced.  For a pool that takes no more tasks. */
void cf_procpool_end_by_force(cf_procpool *pool, uint32_t slot, PyObject *error);
/* Cancel what has not begun, but for `spared` tasks. */
void cf_procpool_cancel_queued(cf_procpool *pool, uint32_t spared);
/* The slot was not pushed. */
void cf_procpool_untake_slot(cf_procpool *pool, uint32_t slot);
/* Give what slots and arena do not need now, but for `keep` bytes, back to the system. */
uint64_t cf_procpool_trim(cf_procpool *pool, uint64_t keep);
/* A future that has failed with the exception that is set (new); NULL if that is no
   Exception, or there is no memory. */
PyObject *cf_procpool_failed_future(cf_state *st);
/* false: no memory. */
bool cf_procpool_remember_spill(cf_procpool *pool, uint32_t slot, const cf_place *place);

/* A submit that the state forbids. */
void cf_procpool_raise_closed(cf_procpool *pool, uint32_t state);
void cf_procpool_close(cf_procpool *pool, uint32_t bit);

/* The exception for tasks of which nothing is known any more (new). */
PyObject *cf_procpool_scribble_error(cf_procpool *pool);

/* procpool_remote.c */
extern const cf_remote_ops cf_procpool_ops;
/* What arrived, `what`, could not be decoded: the exception that is set becomes the cause of
   one that says so. */
void cf_raise_not_decoded(cf_state *st, const char *what);

/* manager.c: what the manager thread does with a watched slot that is done. */
void cf_procpool_settle(cf_procpool *pool, uint32_t slot);
void cf_procpool_settle_announced(cf_procpool *pool);
PyObject *cf_procpool_poll(cf_procpool *pool, PyObject *fds, cf_deadline until);

/* roster.c: numbers of workers. */
bool cf_roster_enlist(cf_procpool *pool, uint32_t *number, uint32_t *arena);
/* It has begun its last task, and nobody was told. */
bool cf_roster_is_last(cf_procpool *pool, uint32_t number);
/* Workers that sleep on memory that was given back to them wake and give it back to the
   system; arenas of those that are gone, and that nobody reads any more, are emptied. */
void cf_roster_trim(cf_procpool *pool);
/* The numbers of those, as a list (new): now they were told. */
PyObject *cf_roster_lasts(cf_procpool *pool);
void cf_roster_delist(cf_procpool *pool, uint32_t number);
void cf_roster_bury(cf_procpool *pool, uint32_t number, PyObject *error);

void cf_procs_after_fork(cf_state *st);
int cf_procs_add_types(PyObject *module, cf_state *st);

/* worker.c: what a worker process does. */
PyObject *cf_py_run_worker(PyObject *module, PyObject *args);

#endif
