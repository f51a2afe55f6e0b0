/* The blocks of an item: adopting them, giving them back. */
#include "ipc/queue_parts.h"

#include <string.h>

#include "ipc/frame.h"

/* Where a block lies, all of it.  false: it is no block in use. */
static bool
place_of(const cf_segment *seg, uint32_t arena, uint32_t block, cf_place *place)
{
    if (arena >= seg->geometry.arenas || block >= seg->arena_blocks) {
        return false;
    }
    const cf_block *b = cf_arena_table(seg, arena) + block;
    *place = (cf_place){
        .offset = cf_arena_offset(seg, arena)
            + (uint64_t)cf_load_relaxed(&b->at) * CF_BLOCK_UNIT,
        .size = (uint64_t)(cf_load_relaxed(&b->room) & ~CF_BLOCK_KEPT) * CF_BLOCK_UNIT,
        .where = arena + 1, .block = block};
    return cf_block_holds(seg, place) && place->size >= sizeof(cf_item);
}

static cf_place
spill_of(const cf_item *item)
{
    return (cf_place){.offset = item->spill, .size = item->size, .where = CF_WHERE_SPILL};
}

static bool
item_valid(const cf_segment *seg, const cf_item *item, const cf_place *place)
{
    if (item->spill == 0) {
        return item->size <= place->size - sizeof *item;
    }
    cf_place spill = spill_of(item);
    return cf_place_valid(seg, &spill);
}

/* Bytes of the frame, which may be a spill. */
static bool
read_frame(cf_segment *seg, const cf_item *item, const cf_place *place, uint64_t at,
           void *to, uint64_t size)
{
    if (item->spill != 0) {
        return cf_segment_read(seg, item->spill + at, to, size) == CF_OK;
    }
    memcpy(to, (char *)cf_segment_at(seg, place->offset) + sizeof *item + at, size);
    return true;
}

bool
cf_item_buffers(cf_segment *seg, const cf_item *item, const cf_place *place,
                bool (*visit)(cf_segment *seg, const cf_place *buffer, void *arg),
                void *arg)
{
    char end[CF_TABLE_END], entry[CF_TABLE_ENTRY];
    uint32_t count;
    if (item->table == 0) {
        return true;
    }
    if (item->size < CF_TABLE_END
        || !read_frame(seg, item, place, item->size - CF_TABLE_END, end, sizeof end)
        || cf_table_count(end, item->size, &count) != CF_OK) {
        return false;
    }
    uint64_t table = item->size - cf_table_size(count);
    for (uint32_t i = 0; i < count; i++) {
        cf_place buffer;
        bool readonly;
        if (!read_frame(seg, item, place, table + (uint64_t)i * CF_TABLE_ENTRY, entry,
                        sizeof entry)
            || cf_table_entry(entry, 0, &buffer, &readonly) != CF_OK
            || !visit(seg, &buffer, arg)) {
            return false;
        }
    }
    return true;
}

/* ---- adopting ---- */

typedef struct {
    uint32_t number;
    bool lost;
} adopter;

static bool
adopt_buffer(cf_segment *seg, const cf_place *buffer, void *arg)
{
    const adopter *a = arg;
    if (!cf_block_adopt(seg, buffer, a->number)) {
        return a->lost;         /* HELD by the dead one: the owner's business */
    }
    if (a->lost) {
        cf_block_return(seg, buffer);
    }
    return true;
}

cf_status
cf_item_adopt(cf_queue *q, uint32_t arena, uint32_t block, cf_taken *taken, bool lost)
{
    adopter a = {q->number, lost};
    if (!place_of(q->seg, arena, block, &taken->place)) {
        return lost ? CF_AGAIN : CF_CORRUPT;
    }
    /* The item's own block comes last: as long as it is LIVE no code of the taker has run
       that could have given one of its buffers back.  So those that are LIVE are still
       those of this item. */
    if (lost && (cf_load_acquire(&(cf_arena_table(q->seg, arena) + block)->word)
                 & CF_BLOCK_STATE) != CF_BLOCK_LIVE) {
        return CF_AGAIN;
    }
    memcpy(&taken->item, cf_segment_at(q->seg, taken->place.offset), sizeof taken->item);
    bool sound = item_valid(q->seg, &taken->item, &taken->place)
        && cf_item_buffers(q->seg, &taken->item, &taken->place, adopt_buffer, &a);
    if (!cf_block_adopt(q->seg, &taken->place, q->number)) {
        return CF_CORRUPT;
    }
    if (!sound || lost) {
        if (!sound) {
            taken->item.spill = 0;
        }
        cf_taken_return(q, taken);
    }
    return sound ? CF_OK : CF_CORRUPT;
}

/* ---- giving back ---- */

static void
free_spill(cf_queue *q, const cf_item *item)
{
    if (item->spill != 0) {
        cf_place spill = spill_of(item);
        cf_spill_free(q->seg, &spill);
    }
}

void
cf_taken_return(cf_queue *q, const cf_taken *taken)
{
    /* A spill's place is not used again, so whoever comes later does no harm. */
    free_spill(q, &taken->item);
    cf_block_return(q->seg, &taken->place);
}

static bool
drop_buffer(cf_segment *seg, const cf_place *buffer, void *arg)
{
    (void)arg;
    cf_block_return(seg, buffer);
    return true;
}

void
cf_item_drop(cf_queue *q, uint32_t block)
{
    cf_taken item;
    if (place_of(q->seg, q->number, block, &item.place)) {
        memcpy(&item.item, cf_segment_at(q->seg, item.place.offset), sizeof item.item);
        (void)cf_item_buffers(q->seg, &item.item, &item.place, drop_buffer, NULL);
        cf_taken_return(q, &item);
    }
}
