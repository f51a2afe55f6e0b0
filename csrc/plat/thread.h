/* Threads of our own that run no Python. */
#ifndef CF_PLAT_THREAD_H
#define CF_PLAT_THREAD_H

/* Start body(arg) in a small detached thread that takes no signals: they are for threads that
   can do something about them.  0, or an errno value: then there is no thread. */
int cf_thread_start(void *(*body)(void *), void *arg);

#endif
