/* A future whose task is elsewhere: in a slot that another process works on.

   The slot's word runs ahead of the future's: whoever looks at the future (done(),
   result(), wait(), ...) first looks at the slot and moves the future on to where its task
   is.  So nobody has to move it while nobody looks.

       slot      future's word
       queued    PENDING  CF_REMOTE
       taken     RUNNING  CF_REMOTE
       done      FINISHED CF_ENCODED             the result is still bytes in the slot
                 FINISHED CF_ENCODED CF_DECODED  one thread has decoded it: `result`

   From CF_DECODED on (or when it is cancelled, or set by hand) the future has let go of
   the slot.  Where somebody must be told (callbacks, tickets of as_completed(), those who
   sleep on an emulated condition), the slot is *watched*: the process that completes it
   announces it, and the pool's manager thread calls cf_remote_arrived(). */
#ifndef CF_FUTURE_REMOTE_H
#define CF_FUTURE_REMOTE_H

#include "future/future.h"

typedef struct {
    /* Where the task is, as bits of a future's word: nothing, CF_RUNNING,
       CF_STATE_FINISHED with or without CF_FAILED, or CF_STATE_CANCELLED_AND_NOTIFIED if
       the pool took it back.  Called with the cell's lock held. */
    uint32_t (*look)(cf_remote *remote, cf_remote_slot slot);
    /* Take the task back if it has not begun (true: nobody runs it).  Called with the cell's lock held. */
    bool (*cancel)(cf_remote *remote, cf_remote_slot slot);
    /* Wait until it is done or taken back: 1; deadline 0; -1 with an exception. */
    int (*block)(cf_state *st, cf_remote *remote, cf_remote_slot slot, cf_deadline until);
    /* Announce it when it is done; false: it is done already. */
    bool (*watch)(cf_remote *remote, cf_remote_slot slot, FutureObject *f);
    /* The result (new; an exception if *failed), never NULL. */
    PyObject *(*fetch)(cf_state *st, cf_remote *remote, cf_remote_slot slot, bool *failed);
    /* Who runs or ran it, and when, as far as that is known (false: not at all).  Called
       with the cell's lock held. */
    bool (*trace)(cf_remote *remote, cf_remote_slot slot, cf_trace *trace);
    /* The future has its result, or is dying: the slot is the pool's again.  If it dies
       before its task has ended, and that fails, the exception will have been `read`. */
    void (*let_go)(cf_remote *remote, cf_remote_slot slot, bool read);
} cf_remote_ops;

struct cf_remote {
    const cf_remote_ops *ops;
};

/* A pending future for the task in `slot`, with the name of its function (stolen) or NULL.
   NULL with MemoryError. */
FutureObject *cf_remote_future(cf_state *st, cf_remote *remote, cf_remote_slot slot,
                               PyObject *name);

/* The task of a watched future is done: move on, tell everybody, call callbacks.  0, or
   -1 if a callback raised what is not an Exception. */
int cf_remote_arrived(cf_state *st, FutureObject *f);

/* For a future with CF_REMOTE: a callback or ticket was hung on it, or it is emulated from
   now on.  0 or -1 as above. */
int cf_remote_watch(cf_state *st, FutureObject *f);

#endif
