/* What the parts of the queue share: queue.c (the order), queue_item.c (blocks of items),
   queue_members.c (joining, the dead); and tests.  For nobody else. */
#ifndef CF_IPC_QUEUE_PARTS_H
#define CF_IPC_QUEUE_PARTS_H

#include "ipc/queue.h"

typedef _Atomic uint64_t cf_entry64;

#define CF_QUEUE_APART (2 * CF_CACHE_LINE)      /* processors fetch the neighbour too */

/* In the segment's board. */
typedef struct cf_queue_head {
    /* Written before the queue is known to anybody else. */
    uint64_t magic, maxsize;
    uint32_t first, ring_count;
    /* Where the rings after the first one begin; 0: not yet.  Set once, by whoever passes
       the LINK at the position before. */
    _Atomic uint64_t start[CF_QUEUE_RINGS + 1];
    /* Positions; anybody moves them, by one, by compare-and-swap. */
    _Alignas(CF_QUEUE_APART) _Atomic uint64_t tail;
    _Alignas(CF_QUEUE_APART) _Atomic uint64_t head;
    /* By cf_queue_event.  Bit 0: somebody may be asleep; the rest: how often it was
       cleared. */
    _Alignas(CF_QUEUE_APART) cf_word getters;
    _Alignas(CF_QUEUE_APART) cf_word putters;
    /* Member numbers that were ever in use are below it. */
    _Alignas(CF_QUEUE_APART) cf_word numbers;
} cf_queue_head;

_Static_assert(sizeof(cf_queue_head) <= CF_BOARD_BYTES, "the segment reserves this");

/* In the segment's worker records.

       FREE --joins--> JOINED --has died, or leaves--> BURYING by a member --> FREE
                                   DEAD <---something is still in use----+
                                    +----------------> BURYING

   `who` says all of it in one word: the state, the process that joined or buries, and when
   that process was started. */
typedef struct cf_queue_member {
    _Atomic uint64_t who;
    _Atomic uint64_t space;     /* its owner's: cf_peer.space; 0 until it has written it */
} cf_queue_member;

#define CF_MEMBER_FREE 0u
#define CF_MEMBER_JOINED 1u
#define CF_MEMBER_BURYING 2u
#define CF_MEMBER_DEAD 3u
#define CF_MEMBER_STATE(who) ((who) & 3u)
#define CF_MEMBER_PID(who) ((int)(((who) >> 2) & 0x3fffffu))    /* 22 bits, Linux's limit */
#define CF_MEMBER_STARTED(who) ((who) >> 24)                    /* 40 bits of ticks */

/* ---- entries ---- */

/* From the lowest bit on: the state; EMPTY: the lap; ITEM and TAKEN: 10 bits who took it,
   10 bits arena, 24 bits block, 18 bits of the lap; LINK: nothing. */
#define CF_ENTRY_EMPTY 0u
#define CF_ENTRY_ITEM 1u
#define CF_ENTRY_TAKEN 2u
#define CF_ENTRY_LINK 3u
#define CF_ENTRY_STATE(entry) ((uint32_t)(entry) & 3u)
#define CF_ENTRY_TAKER_SHIFT 2
#define CF_ENTRY_TAKER(entry) (((uint32_t)((entry) >> CF_ENTRY_TAKER_SHIFT)) & 0x3ffu)
#define CF_ENTRY_ARENA(entry) ((uint32_t)((entry) >> 12) & 0x3ffu)
#define CF_ENTRY_BLOCK(entry) ((uint32_t)((entry) >> 22) & 0xffffffu)
#define CF_ENTRY_LAP_SHIFT 46
#define CF_ENTRY_LAPS 0x3ffffu

static inline uint64_t
cf_entry_empty(uint64_t lap)
{
    return lap << 2 | CF_ENTRY_EMPTY;
}

static inline uint64_t
cf_entry_item(uint64_t lap, uint32_t arena, uint32_t block)
{
    return lap << CF_ENTRY_LAP_SHIFT | (uint64_t)block << 22 | (uint64_t)arena << 12
        | CF_ENTRY_ITEM;
}

/* An ITEM or a TAKEN entry as taken by `number`. */
static inline uint64_t
cf_entry_taken(uint64_t entry, uint32_t number)
{
    return (entry & ~(uint64_t)0xfff) | (uint64_t)number << CF_ENTRY_TAKER_SHIFT
        | CF_ENTRY_TAKEN;
}

static inline uint32_t
cf_queue_entries(const cf_queue *q, unsigned ring)
{
    return 1u << (q->first + ring);
}

static inline cf_entry64 *
cf_queue_ring(const cf_queue *q, unsigned ring)
{
    return q->rings + (((uint64_t)1 << ring) - 1) * cf_queue_entries(q, 0);
}

/* How large things are; tests have small ones. */
typedef struct {
    unsigned first;             /* entries in the first ring, logarithm ... */
    unsigned rings;             /* ... of so many, if they grow */
    uint32_t spare;             /* places beyond the bound, for items that are being taken */
    uint64_t arena_bytes;
} cf_queue_sizes;

cf_status cf_queue_make(uint64_t maxsize, const cf_queue_sizes *sizes, cf_queue **out);

/* What is TAKEN by this process goes on: adopt the item's blocks and free the entry, which
   was that of `lap`.  CF_OK or CF_CORRUPT.  lost: its former taker is dead and may have
   adopted some of the blocks already; then what could be adopted is returned at once. */
cf_status cf_queue_receive(cf_queue *q, cf_entry64 *entry, uint64_t lap, cf_taken *taken,
                           bool lost);

/* ---- queue_item.c ---- */

/* Adopt all blocks of the item for this process; `lost` as above.  CF_OK; CF_AGAIN (only if
   lost): nothing was left to adopt; CF_CORRUPT. */
cf_status cf_item_adopt(cf_queue *q, uint32_t arena, uint32_t block, cf_taken *taken,
                        bool lost);

#endif
