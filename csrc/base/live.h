/* How many objects of each kind are alive in this process: for tests, in a build with
   -DCF_COUNT_LIVE (make test-leaks).  Without it nothing is counted and nothing is there.

   A kind is counted where it is allocated and where it is freed.  What many of them share
   (a list of arguments, a memo) is not; LeakSanitizer sees to that. */
#ifndef CF_BASE_LIVE_H
#define CF_BASE_LIVE_H

#include "base/atomic.h"

#define CF_LIVE_KINDS(X)                                                            \
    /* Python objects */                                                            \
    X(future) X(as_completed) X(waiter) X(map_iterator)                             \
    X(thread_executor) X(thread_worker) X(process_executor) X(process_engine)       \
    X(shared_buffer) X(pickle_sink) X(reducer) X(digest) X(checks_object)           \
    /* of futures */                                                                \
    X(long_call)            /* the arguments of a call that are more than three */  \
    X(callback) X(watch) X(emulation)                                               \
    /* of pools and queues */                                                       \
    X(thread_pool) X(process_pool) X(task) X(task_extra) X(codec) X(pickling)       \
    X(definitions) X(definition_entry) X(definition_block) X(definition_content)    \
    X(checks) X(loaded) X(queue) X(queue_view)                                      \
    /* of shared memory */                                                          \
    X(segment) X(arena) X(block) X(pins) X(lease)

#ifdef CF_COUNT_LIVE

enum {
#define X(kind) CF_LIVE_##kind,
    CF_LIVE_KINDS(X)
#undef X
    CF_LIVE_COUNT
};

extern _Atomic int64_t cf_live[CF_LIVE_COUNT];      /* module/live.c */

/* relaxed: whoever compares them waits until they are what they should be */
#  define CF_BORN(kind) \
    ((void)atomic_fetch_add_explicit(&cf_live[CF_LIVE_##kind], 1, memory_order_relaxed))
#  define CF_GONE(kind) \
    ((void)atomic_fetch_sub_explicit(&cf_live[CF_LIVE_##kind], 1, memory_order_relaxed))

#else
#  define CF_BORN(kind) ((void)0)
#  define CF_GONE(kind) ((void)0)
#endif

#endif
