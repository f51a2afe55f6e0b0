/* The right to use a block that another process allocated: each SharedBuffer has one.

       begin --> LIVE --end, no fork since, or its children gone--> given back
                  | fork(): children see the block, too
                  v
                 SHARED --end, children live--> WAITING --children gone--> given back

   A forked child has the parent's objects, and with them the memory they lie in.  It sees
   its own private pages where it writes (ipc/segment.c), but what it only reads is still
   the pool's memory, and must not become somebody else's.  So a block that was in use
   during a fork is given back when its last view is gone and no process forked meanwhile
   lives.  In the child itself no lease gives anything back.

   Any thread, with or without the GIL. */
#ifndef CF_PROCS_LEASE_H
#define CF_PROCS_LEASE_H

#include "procs/codec_parts.h"

typedef struct cf_lease cf_lease;

/* A lease of the block, which counts as a view of its arena in `pins`.  NULL: out of
   memory (errno), and the block is the caller's. */
cf_lease *cf_lease_begin(cf_segment *seg, const cf_place *place, cf_pins *pins);
/* Nobody here looks at the block any more. */
void cf_lease_end(cf_lease *lease);

#endif
