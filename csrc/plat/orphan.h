/* A process that must not outlive its parent. */
#ifndef CF_PLAT_ORPHAN_H
#define CF_PLAT_ORPHAN_H

#include "base/status.h"

/* End this process, at once and without a word, when process `pid` ends: by a thread that
   does nothing else and takes no signals.  If `pid` is gone already the process ends
   here.  Where the system has no descriptors of processes (before Linux 5.3, or in a sandbox
   that forbids them) or none left, the thread looks twice a second.  CF_OK or CF_SYSTEM
   (errno). */
cf_status cf_orphan_watch(int pid);

#endif
