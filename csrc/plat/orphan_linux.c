#include "plat/orphan.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

#include "plat/peer.h"

static void *
watch(void *arg)
{
    int fd = (int)(intptr_t)arg;
    bool ready = false;
    while (!ready) {
        if (cf_poll(&fd, &ready, 1, CF_FOREVER) == CF_SYSTEM) {
            return NULL;        /* not to be watched: better an orphan than a lost task */
        }
    }
    _exit(1);
}

cf_status
cf_orphan_watch(int pid)
{
    int fd = cf_peer_open(pid);
    if (fd < 0) {
        if (errno == ESRCH) {
            _exit(1);
        }
        return CF_SYSTEM;
    }
    /* A thread of the small kind: PR_SET_PDEATHSIG would not do, it fires when the thread
       that forked ends. */
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 * 1024);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&thread, &attr, watch, (void *)(intptr_t)fd);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (error != 0) {
        cf_peer_close(fd);
        errno = error;
        return CF_SYSTEM;
    }
    return CF_OK;
}
