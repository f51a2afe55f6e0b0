/* A first-in first-out queue between processes: any number of producers and consumers, none
   of them anybody's parent, each of which may be killed between any two instructions.

   Its memory is a segment of its own.  Each process that takes part is a *member*: it has a
   number, a record that says which process that is, and the arena of that number.  An item
   is one block of its producer's arena (and one more for each large buffer).  The order is
   a ring of entries, 64 bits each; a position counts the entries from the beginning of
   the queue, and its entry goes through

       EMPTY --a producer puts--> ITEM --a consumer takes--> TAKEN by n --it has it--> EMPTY
         lap                      lap                         lap                    lap + 1

   Put: the item is complete before it gets into the order, by one compare-and-swap of the
   entry at the tail.  So there is no half-written item, and nobody ever waits for a
   producer.  Take: one compare-and-swap of the entry at the head, which also writes the
   taker's number: an item is always somebody's.  The taker then adopts the item's blocks
   (block.h) and makes the entry EMPTY for the next lap; nothing else, and no Python code,
   happens while it is TAKEN.

   Tail and head only say where to look.  Whoever finds that the entry at the tail is in use,
   or that the one at the head was taken, moves them on; so a process that died between two
   steps holds up nobody.  A position's entry is taken only while it is an ITEM of this very
   lap, and the head passes it only after that: the order is that of the positions.

   The bound is exact: whoever puts at position p has seen a head h with p - h < maxsize, and
   the head only grows.

   Without a bound (or with a very large one) the first ring is small.  When its last free
   entry comes up, the producer puts a LINK there instead of an item; the next position lies
   in the next ring, which is twice as large.  What the order takes is so some bytes for
   each item that was ever in the queue at one time.

   What a death leaves behind:

       before the item is in the order     blocks of the dead one's arena that nobody knows
       before the tail is moved            others move it
       before anybody is woken             a sleeper looks by itself now and then
       TAKEN                               the item is lost with its taker; cf_queue_tend()
                                           frees its blocks.  Until then its entry is in
                                           use, which matters a whole lap later
       after that                          HELD blocks: cf_queue_tend() returns them
       between the two steps of a return   that block is lost until its arena is cleared
       woken and not awake                 as above: other sleepers look by themselves
       in cf_queue_tend()                  the next one takes over (its record says who)

   The arena of a dead member stays as long as an item in it is in the order or somebody
   holds a block of it; then it is cleared, and the number is free for another process when
   no block bears it any more.

   Entries, blocks and records are shared with processes of the same user, and believed; what
   leads to an address is checked (CF_CORRUPT). */
#ifndef CF_IPC_QUEUE_H
#define CF_IPC_QUEUE_H

#include "ipc/arena.h"
#include "plat/clock.h"
#include "plat/peer.h"
#include "plat/spin.h"

/* Processes at a time (number 0 is nobody's); one that has ended counts as long as its items
   are in the queue. */
#define CF_QUEUE_MEMBERS 1024u
#define CF_QUEUE_RINGS 15u
#define CF_QUEUE_ARENA_MAX ((uint64_t)1 << 31)      /* an entry has room for its blocks */

/* At the beginning of an item's block; the frame follows, or is a spill. */
typedef struct {
    uint64_t size;              /* of the frame */
    uint64_t spill;             /* where it is in the file; 0: behind this */
    uint8_t codec, count;       /* procs/codec.h knows what they mean */
    uint16_t flags;
    uint32_t table;             /* 1: the frame ends in a table of buffers (frame.h) */
} cf_item;

_Static_assert(sizeof(cf_item) == 24, "leaves 104 bytes in the smallest block");

/* Who is waited for: */
typedef enum { CF_QUEUE_ITEM, CF_QUEUE_ROOM } cf_queue_event;

/* One process's view of a queue. */
typedef struct cf_queue cf_queue;

struct cf_queue_head;
struct cf_queue_member;

struct cf_queue {
    /* Never change. */
    cf_segment *seg;                    /* one reference */
    struct cf_queue_head *shared;
    struct cf_queue_member *members;
    _Atomic uint64_t *rings;
    uint64_t maxsize;                   /* 0: none */
    unsigned first, ring_count;         /* ring k has 1 << (first + k) entries */
    uint32_t number;                    /* this process's; 0: not joined yet */
    /* A head that was seen; the real one may be further. */
    _Atomic uint64_t head_seen;
    cf_spin spins[2];                   /* by cf_queue_event */
};

/* A new queue; attach: one that another process made (`fd` is duplicated).  Neither joins.
   maxsize 0: no bound but memory.  arena_bytes: of each member, at most
   CF_QUEUE_ARENA_MAX; what does not find room there goes through the file.  CF_OK, CF_SYSTEM (errno) or CF_CORRUPT (no queue). */
cf_status cf_queue_create(uint64_t maxsize, uint64_t arena_bytes, cf_queue **out);
cf_status cf_queue_attach(int fd, cf_queue **out);

/* Become a member, and open its arena (the caller's to close).  CF_OK or CF_SYSTEM (errno;
   EUSERS: there are too many). */
cf_status cf_queue_join(cf_queue *queue, cf_arena **arena);
/* Be no member any more.  No block is held, nothing is being put or taken, the arena was
   closed.  Items that were put stay. */
void cf_queue_leave(cf_queue *queue);
/* Free the view: the reference to the segment and private memory.  A forked child's view
   of its parent's is freed like this, without leaving. */
void cf_queue_free(cf_queue *queue);

/* ---- putting and taking: members; any thread, without the GIL or with it ---- */

/* Append the item in `block` of this process's arena (cf_item, frame, filled).  From then
   on it is the taker's.  Wakes a sleeper.  CF_OK; CF_AGAIN: there is no room. */
cf_status cf_queue_put(cf_queue *queue, uint32_t block);

/* What was taken: held by this process, which returns it with cf_taken_return(). */
typedef struct {
    cf_item item;
    cf_place place;             /* the block's bytes, cf_item included */
} cf_taken;

/* Take the oldest item.  Its block, and those in its table, are HELD by this process
   afterwards.  Wakes who waits for room.  CF_OK; CF_AGAIN: there is none; CF_CORRUPT: it was
   damaged, and is gone. */
cf_status cf_queue_take(cf_queue *queue, cf_taken *taken);

/* The item's own block goes back to its producer (and a spill to the system), not the
   buffers in its table: each of those by cf_block_return(). */
void cf_taken_return(cf_queue *queue, const cf_taken *taken);

/* Buffers of an item that was taken or not yet put: calls visit for each place.  false: the
   table is damaged. */
bool cf_item_buffers(cf_segment *seg, const cf_item *item, const cf_place *place,
                     bool (*visit)(cf_segment *seg, const cf_place *buffer, void *arg),
                     void *arg);
/* It will not be put: its blocks go back, through the stack of its arena. */
void cf_item_drop(cf_queue *queue, uint32_t block);

/* ---- waiting ---- */

/* Would cf_queue_take() find an item, cf_queue_put() room?  As of now. */
bool cf_queue_ready(cf_queue *queue, cf_queue_event event);
/* Look awake, as long as such waits used to be.  true: ready. */
bool cf_queue_spin(cf_queue *queue, cf_queue_event event);
/* Sleep until it is ready.  CF_OK: try; CF_TIMEDOUT: the deadline has passed; CF_AGAIN:
   time to call cf_queue_tend(), and then come again; CF_INTR: a signal came; CF_SYSTEM. */
cf_status cf_queue_sleep(cf_queue *queue, cf_queue_event event, cf_deadline until);
/* A wait of this process ended (`start`: when it began, cf_now()). */
void cf_queue_waited(cf_queue *queue, cf_queue_event event, int64_t start);
/* Who waited leaves without having tried once more: a wake-up that it may have got goes
   to another one. */
void cf_queue_pass_on(cf_queue *queue, cf_queue_event event);

/* Items in the queue, as of now. */
uint64_t cf_queue_length(cf_queue *queue);

/* ---- the dead (queue_members.c) ---- */

/* Look for members that have died: what they were taking is lost, what they held goes back to
   its owners, their own arenas are cleared when nobody needs them.  Some microseconds for
   each member; needed for memory, not for progress (but see TAKEN above). */
void cf_queue_tend(cf_queue *queue);

#endif
