#include "plat/orphan.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "plat/peer.h"
#include "plat/thread.h"

#define LOOK_NS 500000000

typedef struct {
    int fd;                     /* of the process, or -1: */
    cf_peer peer;               /* who it is */
} watched;

static void *
watch(void *arg)
{
    watched *parent = arg;
    bool gone = false;
    while (!gone) {
        if (parent->fd < 0) {
            cf_poll(NULL, NULL, 0, cf_now() + LOOK_NS);
            gone = cf_peer_is_gone(&parent->peer);
        }
        else if (cf_poll(&parent->fd, &gone, 1, CF_FOREVER) == CF_SYSTEM) {
            break;              /* not to be watched: better an orphan than a lost task */
        }
    }
    if (gone) {
        _exit(1);
    }
    free(parent);
    return NULL;
}

cf_status
cf_orphan_watch(int pid)
{
    watched *parent = malloc(sizeof *parent);
    if (parent == NULL) {
        errno = ENOMEM;
        return CF_SYSTEM;
    }
    parent->fd = cf_peer_open(pid);
    if (parent->fd < 0) {
        parent->peer = cf_peer_of(pid);
        if (cf_peer_is_gone(&parent->peer)) {
            _exit(1);
        }
    }
    /* PR_SET_PDEATHSIG would not do: it fires when the thread that forked ends. */
    int error = cf_thread_start(watch, parent);
    if (error != 0) {
        if (parent->fd >= 0) {
            cf_peer_close(parent->fd);
        }
        free(parent);
        errno = error;
        return CF_SYSTEM;
    }
    return CF_OK;
}
