#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "plat/thread.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#define STACK_SIZE (64 * 1024)

static int
start(pthread_attr_t *attr, void *(*body)(void *), void *arg)
{
    pthread_t thread;
    sigset_t all, old;
    pthread_attr_setstacksize(attr, STACK_SIZE);
    pthread_attr_setdetachstate(attr, PTHREAD_CREATE_DETACHED);
    /* A thread begins with the signal mask of its maker. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&thread, attr, body, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(attr);
    return error;
}

int
cf_thread_start(void *(*body)(void *), void *arg)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    return start(&attr, body, arg);
}

int
cf_thread_start_elsewhere(void *(*body)(void *), void *arg)
{
    pthread_attr_t attr;
    cpu_set_t others;
    int cpu = sched_getcpu();
    pthread_attr_init(&attr);
    /* Fails on systems with more processors than the set has room for: anywhere, then. */
    if (cpu >= 0 && sched_getaffinity(0, sizeof others, &others) == 0) {
        CPU_CLR(cpu, &others);
        if (CPU_COUNT(&others) > 0) {
            pthread_attr_setaffinity_np(&attr, sizeof others, &others);
        }
    }
    return start(&attr, body, arg);
}
