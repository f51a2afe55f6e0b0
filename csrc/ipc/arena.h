/* An arena: the part of a segment in which one process allocates, and all free.

   Only the owner allocates, so there is no lock between processes that a death could
   leave held.  The owner's books (which block lies where, which are free) are private to
   it; in shared memory there is only, for each block, one word:

       FREE --owner allocates--> LIVE --receiver adopts--> LIVE, held by worker n
         ^                        |                               |
         |<----owner frees--------+                               |
         +----owner collects----- RETURNED <--whoever has it returns it

   and a stack of returned blocks, which the owner empties in one step.  A block that is
   returned twice, or that is not LIVE, is left alone (a worker may have scribbled).

   Blocks come in size classes, four to each doubling; a class keeps its free blocks, the
   last one freed is the first one used (its pages are in the caches and in the page
   table).  Virtual space is never given back, memory is: cf_arena_trim(). */
#ifndef CF_IPC_ARENA_H
#define CF_IPC_ARENA_H

#include "ipc/segment.h"

typedef struct cf_arena cf_arena;

/* The process's own arena `number`; its blocks, if any are left from an earlier owner,
   are forgotten and their memory is given back.  CF_OK, CF_SYSTEM (out of memory). */
cf_status cf_arena_open(cf_segment *seg, uint32_t number, cf_arena **out);
void cf_arena_close(cf_arena *arena);       /* the private books only */

/* A block for `size` bytes, its data aligned to 64.  `place` is filled (where, block,
   offset, size); *warm says that this process has written to its pages before, and so a
   copy through the mapping will not meet page faults.  CF_OK, or CF_AGAIN: full. */
cf_status cf_arena_alloc(cf_arena *arena, uint64_t size, cf_place *place, bool *warm);

/* Copy into a fresh block (through the mapping or the file, whichever is faster). */
cf_status cf_arena_fill(cf_arena *arena, const cf_place *place, bool warm,
                        uint64_t at, const void *data, uint64_t size);

/* What the owner can ask and do; not to be called from two threads at once. */
uint64_t cf_arena_room(const cf_arena *arena, uint32_t block);     /* bytes it can hold */
void cf_arena_free(cf_arena *arena, uint32_t block);
/* Free it unless a receiver has adopted it, who will return it. */
void cf_arena_release(cf_arena *arena, uint32_t block);
/* Free what worker `holder` had adopted and not returned: it is dead. */
void cf_arena_reclaim(cf_arena *arena, uint32_t holder);
/* Give the pages of free blocks, but for the last `keep` bytes' worth, back to the
   system.  Returns the number of bytes given back. */
uint64_t cf_arena_trim(cf_arena *arena, uint64_t keep);
/* Bytes in blocks that are not free; in free blocks that still have pages. */
void cf_arena_usage(const cf_arena *arena, uint64_t *live, uint64_t *idle);

/* ---- the receiver's side: any process, any thread ---- */

/* Worker `holder` keeps the block beyond its message; it returns it when the last view
   of it is gone.  false: it is not LIVE (corrupt). */
bool cf_block_adopt(cf_segment *seg, const cf_place *place, uint32_t holder);
/* Give a block that somebody else allocated back to its owner.  Once. */
void cf_block_return(cf_segment *seg, const cf_place *place);

#endif
