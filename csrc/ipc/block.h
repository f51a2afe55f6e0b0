/* A block of an arena, as every process sees it: one word, and a link.

       FREE --owner allocates--> LIVE --receiver adopts--> HELD by worker n
         ^                        |                               |
         |<----owner frees--------+<-------(owner: n is dead)-----|
         +----owner collects----- RETURNED <--whoever has it returns it

   Only the owner moves a block out of FREE and RETURNED; the moves out of LIVE and HELD
   are compare-and-swaps, so of two that would both end a block's use one does.  The word
   also counts how often the block was used, so that a move which was begun in an earlier
   use does not succeed in a later one.

   A returned block is pushed on the arena's stack, which the owner empties in one step:
   nobody else pops, so there is no ABA there.  A process that dies between the move to
   RETURNED and the push leaves its number in the word, by which cf_arena_reclaim() finds
   the block.

   What is in here any process may scribble over.  Readers check that a block is inside
   its arena's data; the owner believes only its private books (arena.c). */
#ifndef CF_IPC_BLOCK_H
#define CF_IPC_BLOCK_H

#include "ipc/segment.h"

#define CF_BLOCK_FREE       0u          /* zeros: a table that was never written is free */
#define CF_BLOCK_LIVE       1u
#define CF_BLOCK_HELD       2u
#define CF_BLOCK_RETURNED   3u
#define CF_BLOCK_STATE      3u
#define CF_BLOCK_HOLDER_SHIFT 2         /* 13 bits: who holds it, or who held it */
#define CF_BLOCK_HOLDER(word) (((word) >> CF_BLOCK_HOLDER_SHIFT) & 0x1fffu)
#define CF_BLOCK_HOLDERS    0x1fffu     /* their numbers are below this one ... */
#define CF_BLOCK_NOBODY     0x1fffu     /* ... which says that it was not HELD */
#define CF_BLOCK_TURN_SHIFT 16          /* 16 bits: how often it was used */

#define CF_BLOCK_UNIT 64u               /* alignment; what `at` and `room` count */
#define CF_BLOCK_MIN  128u              /* bytes in the smallest */
/* The block was used before: it has pages, though this owner may not have mapped them.
   A hint for cf_arena_fill(), which may not look into the books. */
#define CF_BLOCK_KEPT (1u << 31)

typedef struct {
    cf_word word;
    cf_word next;               /* block + 1 below it on the stack; its returner's */
    /* Written by the owner when it allocates, in units: */
    cf_word at;                 /* from the arena's beginning */
    cf_word room;               /* and CF_BLOCK_KEPT */
} cf_block;

_Static_assert(sizeof(cf_block) == 16, "the table is an eighth of the arena");

/* At the arena's beginning; the table follows. */
typedef struct {
    cf_word returned;           /* top of the stack: block + 1, or 0 */
    cf_word blocks;             /* the owner's: the table is zeros from here on */
} cf_arena_head;

#define CF_ARENA_HEAD_BYTES 128u

/* The parts of arena `number`, which must be in range. */
static inline uint64_t
cf_arena_offset(const cf_segment *seg, uint32_t number)
{
    return seg->arenas + number * seg->geometry.arena_bytes;
}

static inline cf_arena_head *
cf_arena_head_at(const cf_segment *seg, uint32_t number)
{
    return cf_segment_at(seg, cf_arena_offset(seg, number));
}

static inline cf_block *
cf_arena_table(const cf_segment *seg, uint32_t number)
{
    return cf_segment_at(seg, cf_arena_offset(seg, number) + CF_ARENA_HEAD_BYTES);
}

/* ---- any process, any thread ---- */

/* Is `place` inside a block that is LIVE or HELD, and the block inside its arena? */
bool cf_block_holds(const cf_segment *seg, const cf_place *place);

/* Worker `holder` (below CF_BLOCK_HOLDERS) keeps the block beyond its message; it returns
   it when the last view of it is gone.  false: it is not LIVE (corrupt), or the segment
   was disowned. */
bool cf_block_adopt(cf_segment *seg, const cf_place *place, uint32_t holder);

/* Give a block that somebody else allocated back to its owner.  Once; a second time, or
   of a block that nobody uses, does nothing, and nor does it in a forked child
   (cf_segment_disown). */
void cf_block_return(cf_segment *seg, const cf_place *place);

/* Has its owner written to the block's pages in an earlier use?  (`place` is valid.) */
bool cf_block_kept(const cf_segment *seg, const cf_place *place);

#endif
