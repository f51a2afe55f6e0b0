/* Watching many futures at once, ours and the standard library's: what wait() and
   as_completed() share. */
#ifndef CF_FUTURE_WATCH_H
#define CF_FUTURE_WATCH_H

#include "future/future.h"

typedef struct {
    cf_ticket_hook hook;        /* hangs on a future of ours */
    PyObject *future;           /* owned; NULL once it was handed out */
    PyObject *waiter;           /* owned; for a future of the standard library */
} cf_watched;

typedef struct {
    cf_waitset set;
    Py_ssize_t count;
    cf_watched items[];
} cf_watch;

static inline cf_watched *
cf_watched_of(cf_ticket *ticket)
{
    return cf_container_of(ticket, cf_watched, hook.ticket);
}

/* Room for the futures of a list, which are not watched yet.  NULL with MemoryError. */
cf_watch *cf_watch_new(PyObject *list, cf_wake_when when);

/* Begin.  The tickets of futures that are done already are listed in `*done`, in order,
   or posted if `done` is NULL.  0, or -1 with an exception (something in the list is no
   future); cf_watch_free() cleans up either way. */
int cf_watch_begin(cf_state *st, cf_watch *w, cf_ticket **done);

/* End, whatever is still watched, and free.  Keeps an exception that is set. */
void cf_watch_free(cf_state *st, cf_watch *w);

/* 1 if a future is finished or cancelled-and-notified, 0 if not, -1 error. */
int cf_watch_is_done(cf_state *st, PyObject *future);

/* 1 if a done future failed (was not cancelled), 0 if not, -1 error. */
int cf_watch_is_failed(cf_state *st, PyObject *future);

int cf_watch_add_types(PyObject *module, cf_state *st);

#endif
