/* Other processes: see them die, and let them ring. */
#ifndef CF_PLAT_PEER_H
#define CF_PLAT_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "plat/clock.h"

/* A descriptor that becomes readable when process `pid` ends (-1, errno). */
int cf_peer_open(int pid);

/* Which process this is, for others that are not its parent: a number is given to another
   process after the end of one, and means nothing outside of its namespace. */
typedef struct {
    int pid;
    uint64_t started;           /* clock ticks since the machine's start; 0: not known */
    uint64_t space;             /* of process numbers; 0: not known */
} cf_peer;

cf_peer cf_peer_self(void);
cf_peer cf_peer_of(int pid);    /* one of the same namespace, which is still there */
/* Is it known to have ended?  Any process of the same user or not; a few microseconds. */
bool cf_peer_is_gone(const cf_peer *peer);

/* A bell: a descriptor that is readable from cf_bell_ring() to cf_bell_silence(). */
int cf_bell_open(void);
void cf_bell_ring(int fd);      /* may be called in a signal handler */
void cf_bell_silence(int fd);

void cf_peer_close(int fd);     /* either of them */

/* Sleep until one of `count` descriptors is readable (or broken); ready[i] says which
   are.  A negative descriptor is passed over.  CF_OK, CF_TIMEDOUT, CF_INTR or CF_SYSTEM
   (errno; EBADF: ready[] includes one that is closed). */
cf_status cf_poll(const int *fds, bool *ready, int count, cf_deadline until);

#endif
