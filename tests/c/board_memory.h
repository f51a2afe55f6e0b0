/* Memory for a board, laid out as a segment's, with gaps between the parts that
   AddressSanitizer watches: a number out of range that nobody notices shows. */
#ifndef CF_TESTS_BOARD_MEMORY_H
#define CF_TESTS_BOARD_MEMORY_H

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "ipc/board.h"

#if defined(__SANITIZE_ADDRESS__)
#  include <sanitizer/asan_interface.h>
#  define POISON(at, bytes) ASAN_POISON_MEMORY_REGION(at, bytes)
#  define UNPOISON(at, bytes) ASAN_UNPOISON_MEMORY_REGION(at, bytes)
#else
#  define POISON(at, bytes) ((void)(at))
#  define UNPOISON(at, bytes) ((void)(at))
#endif

#define GAP 4096

enum { AWAKE, PARKED, CALLED, STARTING };   /* of a berth; see board_idle.c */

static inline void
segment_make(cf_segment *seg, uint32_t slots, uint32_t workers)
{
    *seg = (cf_segment){.fd = -1, .geometry = {.slots = slots, .workers = workers}};
    uint64_t *offsets[] = {&seg->board, &seg->records, &seg->order, &seg->slots};
    uint64_t sizes[] = {CF_BOARD_BYTES, (uint64_t)workers * CF_RECORD_BYTES,
                        (uint64_t)slots * 8, (uint64_t)slots * CF_SLOT_BYTES};
    uint64_t end = GAP;
    for (int i = 0; i < 4; i++) {
        *offsets[i] = end;
        end += (sizes[i] + 2 * GAP - 1) / GAP * GAP;
    }
    seg->bytes = end;
    seg->base = aligned_alloc(GAP, end);
    memset(seg->base, 0, end);
    POISON(seg->base, end);
    for (int i = 0; i < 4; i++) {
        UNPOISON(seg->base + *offsets[i], sizes[i]);
    }
}

static inline void
segment_drop(cf_segment *seg)
{
    UNPOISON(seg->base, seg->bytes);
    free(seg->base);
}

static inline uint32_t
state_of(cf_board *b, uint32_t slot)
{
    return cf_load_acquire(&cf_board_slot(b, slot)->word) & CF_SLOT_STATE;
}

#endif
