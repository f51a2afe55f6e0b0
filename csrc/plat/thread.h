/* Threads of our own that run no Python. */
#ifndef CF_PLAT_THREAD_H
#define CF_PLAT_THREAD_H

/* Start body(arg) in a small detached thread that takes no signals: they are for threads that
   can do something about them.  0, or an errno value: then there is no thread. */
int cf_thread_start(void *(*body)(void *), void *arg);

/* The same for a thread that shall not run on the processor that the caller has just now, if it may
   use another one: there it begins at once, where the system might put it behind the caller. */
int cf_thread_start_elsewhere(void *(*body)(void *), void *arg);

#endif
