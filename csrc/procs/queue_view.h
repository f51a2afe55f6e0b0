/* One process's view of a queue between processes: a mapping, a member, an arena, a codec.

   All objects of a process that are the same queue share one view, which is found by the
   file behind it.  When the last object is gone the process leaves the queue, unless arrays
   that it has got still lie in the queue's memory; then the view lingers until a queue is
   made or opened (or the process ends).  Some views of queues that other processes made
   linger anyway: a worker gets the same queue with task after task, and opening it costs
   more than a task.

   A forked child has the objects of its parent but is another member: it opens the queue
   anew.  The parent's view stays where it is, unused; arrays in it are still read. */
#ifndef CF_PROCS_QUEUE_VIEW_H
#define CF_PROCS_QUEUE_VIEW_H

#include "procs/queue_codec.h"

typedef struct cf_queue_view {
    /* Never change. */
    cf_queue *queue;
    cf_codec *codec;
    cf_arena *arena;                    /* guarded by the codec's lock */
    PyObject *module;                   /* owned: the state must outlive the view */
    bool received;                      /* another process made the queue */
    uint32_t refs;                      /* guarded by st->queues_lock, as is the list */
    struct cf_queue_view *next;
} cf_queue_view;

/* Those that return a view give a reference, or NULL with an exception. */

/* Of a new queue; maxsize 0: no bound. */
cf_queue_view *cf_queue_view_create(PyObject *module, uint64_t maxsize);
/* Of the queue behind a descriptor, which is not kept. */
cf_queue_view *cf_queue_view_open(PyObject *module, int fd);
/* The one that there is already, or NULL (no exception). */
cf_queue_view *cf_queue_view_find(cf_state *st, const cf_shm_identity *file);
void cf_queue_view_release(cf_state *st, cf_queue_view *v);

/* Is it this process's, not its parent's? */
static inline bool
cf_queue_view_is_alive(const cf_queue_view *v)
{
    return cf_load_relaxed(&v->queue->seg->mine);
}

/* Give the memory of free blocks back to the system, but for `keep` bytes.  Needs no GIL. */
void cf_queue_view_trim(cf_queue_view *v, uint64_t keep);

/* In a forked child: the parent's views are not the child's. */
void cf_queues_after_fork(cf_state *st);

/* The exception for CF_SYSTEM (errno) or CF_CORRUPT (`what`); always NULL. */
PyObject *cf_queue_raise(cf_status status, const char *what);

#endif
