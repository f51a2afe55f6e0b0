/* An arena: the part of a segment in which one process allocates, and all free.

   Only the owner allocates, so there is no lock between processes that a death could
   leave held.  The owner's books (which block lies where, which are free) are private to
   it; in shared memory there is only one word for each block, and the stack of the blocks
   that others have returned (block.h has the picture), which the owner empties when it
   has nothing else.

   The messages that the parent sends are ended by the parent, when their tasks have ended:
   each block of arena CF_ARENA_PARENT is freed or released once, and is not used again
   before, even if its receiver has adopted and returned it long ago.  The messages of a
   worker are ended by the parent too, which returns or adopts their blocks: the worker
   neither frees nor releases what it has sent.

   Blocks come in size classes, four to each doubling; a class keeps its free blocks, the
   last one freed is the first one used (its pages are in the caches and in the page
   table).  Virtual space is not given back but when the arena is full and nothing in it
   is in use; memory is: cf_arena_trim(). */
#ifndef CF_IPC_ARENA_H
#define CF_IPC_ARENA_H

#include "ipc/block.h"

typedef struct cf_arena cf_arena;

/* The process's own arena `number`; its blocks, if any are left from an earlier owner,
   are forgotten and their memory is given back.  CF_OK or CF_SYSTEM (errno). */
cf_status cf_arena_open(cf_segment *seg, uint32_t number, cf_arena **out);
void cf_arena_close(cf_arena *arena);       /* the private books only */
/* Forget the blocks of an arena whose owner is gone, and give its memory back: nothing
   in it is used or returned any more.  CF_OK or CF_SYSTEM (errno). */
cf_status cf_arena_clear(cf_segment *seg, uint32_t number);

/* Keep `bytes` of it for small blocks: when large ones fill the rest there is still room for
   messages that say where else something is.  Once, before anything is allocated. */
void cf_arena_reserve(cf_arena *arena, uint64_t bytes);

/* A block for `size` bytes, its data aligned to 64.  `place` is filled (where, block,
   offset, size); *warm says that this process has written to its pages before, and so a
   copy through the mapping will not meet page faults (small blocks always claim it).
   CF_OK, or CF_AGAIN: full. */
cf_status cf_arena_alloc(cf_arena *arena, uint64_t size, cf_place *place, bool *warm);

/* Copy `size` bytes to place->offset + `at`, in a block just allocated (through the
   mapping or the file, whichever is faster); `warm` is what cf_arena_alloc() said.  It
   does not look into the arena's books: any thread, at any time.
   CF_OK or CF_SYSTEM (errno: the machine is out of memory). */
cf_status cf_arena_fill(cf_arena *arena, const cf_place *place, bool warm,
                        uint64_t at, const void *data, uint64_t size);

/* What the owner can ask and do; like cf_arena_alloc() not to be called from two threads
   at once. */
uint64_t cf_arena_room(const cf_arena *arena, uint32_t block);     /* bytes it can hold */
/* Free it, whoever has adopted it. */
void cf_arena_free(cf_arena *arena, uint32_t block);
/* Its message has ended: free it unless a receiver has adopted it, who will return it. */
void cf_arena_release(cf_arena *arena, uint32_t block);
/* Free what worker `holder` had adopted and not returned: it is dead (and nobody else
   has its number yet). */
void cf_arena_reclaim(cf_arena *arena, uint32_t holder);
/* Give the pages of free blocks, but for the last `keep` bytes' worth, back to the
   system.  Returns the number of bytes given back. */
uint64_t cf_arena_trim(cf_arena *arena, uint64_t keep);
/* Bytes in blocks that are not free; in free blocks that still have pages.  What has been
   returned is free. */
void cf_arena_usage(cf_arena *arena, uint64_t *live, uint64_t *idle);

/* Has something been returned that the owner has not seen yet?  Any process: an owner that
   sleeps could be called to trim. */
bool cf_arena_has_returned(const cf_segment *seg, uint32_t number);

#endif
