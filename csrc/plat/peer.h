/* Other processes: see them die, and let them ring. */
#ifndef CF_PLAT_PEER_H
#define CF_PLAT_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "plat/clock.h"

/* A descriptor that becomes readable when process `pid` ends (-1, errno). */
int cf_peer_open(int pid);

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
