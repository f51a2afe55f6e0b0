/* The one shared region of a process pool: what it is made of and where things lie.

       header | board | worker records | order | task slots | arena 0 | arena 1 | ...
                                                                              spills

   All of it is one cf_shm, mapped once in each process, at whatever address; places in
   it are offsets from its beginning.  Every part is as large as it can ever be: a page
   takes memory once it was written.  Behind what is mapped the file goes on; spills are
   messages that found no room in an arena and are read and written through the file.

   Arena 0 is the parent's, each worker that runs has one of the others.

   What a worker wrote is checked before the parent uses it: a place that is not inside
   the part it should be in is CF_CORRUPT, and whoever wrote it is treated as crashed. */
#ifndef CF_IPC_SEGMENT_H
#define CF_IPC_SEGMENT_H

#include "base/atomic.h"
#include "base/live.h"
#include "base/status.h"
#include "plat/shm.h"

typedef struct {
    uint32_t slots;             /* a power of two */
    uint32_t workers;           /* worker records */
    uint32_t arenas;            /* with the parent's */
    uint64_t arena_bytes;       /* a multiple of the page size, 1 MiB to 128 GiB */
} cf_geometry;

#define CF_BOARD_BYTES  65536u
#define CF_RECORD_BYTES 128u
#define CF_SLOT_BYTES   128u
#define CF_ARENA_MIN    ((uint64_t)1 << 20)
#define CF_ARENA_MAX    ((uint64_t)1 << 37)
#define CF_SLOTS_MIN    4096u
#define CF_ARENA_PARENT 0u              /* the number of the parent's */

/* One process's view of a segment.  Counted: the pool has one reference and each buffer
   whose memory lies in the segment has one. */
typedef struct cf_segment {
    int fd;                     /* owned; for the functions below */
    char *base;
    uint64_t bytes;             /* mapped */
    cf_geometry geometry;
    cf_shm_identity file;       /* what is over `bytes` of its length is for spills */
    /* Offsets: CF_BOARD_BYTES of the board's own, `workers` times CF_RECORD_BYTES,
       `slots` times 8, `slots` times CF_SLOT_BYTES, `arenas` times arena_bytes. */
    uint64_t board, records, order, slots, arenas;
    /* In each arena: where its data begins, after head and table; blocks in the table. */
    uint64_t arena_data;
    uint32_t arena_blocks;
    cf_word refs;
    /* false in a forked child: what was mapped before belongs to its parent, whose blocks
       must not be given back by the child.  (It may attach the segment again.) */
    _Atomic bool mine;
    struct cf_segment *older, *newer;   /* all of this process; segment.c's lock */
} cf_segment;

/* A new segment.  Where the address space is limited, arena_bytes becomes smaller, down
   to CF_ARENA_MIN, and then `slots`, down to CF_SLOTS_MIN: look at `geometry`.  CF_OK or
   CF_SYSTEM (errno; EINVAL: the wanted geometry is none). */
cf_status cf_segment_create(const cf_geometry *wanted, cf_segment **out);

/* Map one that another process made; `fd` is duplicated.  CF_OK, CF_SYSTEM or CF_CORRUPT
   (it is none, or of another version). */
cf_status cf_segment_attach(int fd, cf_segment **out);

void cf_segment_incref(cf_segment *seg);
void cf_segment_decref(cf_segment *seg);        /* the last one unmaps and closes */
/* mine = false.  After fork() it is done in the child, without being asked. */
void cf_segment_disown(cf_segment *seg);

/* Through the file (plat/shm.h), unless the descriptor is not the segment's any more: a
   program that closes what it does not own may have another file there.  CF_OK or
   CF_SYSTEM (errno; EBADF: that). */
cf_status cf_segment_write(cf_segment *seg, uint64_t offset, const void *data,
                           uint64_t size);
cf_status cf_segment_read(cf_segment *seg, uint64_t offset, void *data, uint64_t size);
cf_status cf_segment_discard(cf_segment *seg, uint64_t offset, uint64_t size);

static inline void *
cf_segment_at(const cf_segment *seg, uint64_t offset)
{
    return seg->base + offset;
}

/* ---- where the bytes of a message are ---- */

#define CF_WHERE_INLINE 0u              /* in the slot itself */
#define CF_WHERE_SPILL  0xffffffffu     /* in the file, behind what is mapped */
/* any other value: in arena (where - 1), block `block` */

typedef struct {
    uint64_t offset;            /* of the first byte, in the segment; 0 if inline */
    uint64_t size;
    uint32_t where;
    uint32_t block;
} cf_place;

/* Is it inside a block of arena (where - 1) that is in use, or a spill?  (An inline one
   is checked by who knows its slot.)  What is true can be read without harm.  A place in
   shared memory is copied first, then checked, then used. */
bool cf_place_valid(const cf_segment *seg, const cf_place *place);

/* Messages that found no room in an arena.  CF_OK, CF_SYSTEM (errno), or CF_CORRUPT: the
   place is no spill.  Any process, any thread; a spill is freed once, by who reads it. */
cf_status cf_spill_write(cf_segment *seg, const void *data, uint64_t size, cf_place *out);
cf_status cf_spill_read(cf_segment *seg, const cf_place *place, void *data);
void cf_spill_free(cf_segment *seg, const cf_place *place);

#endif
