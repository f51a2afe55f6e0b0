#include "ipc/block.h"

static cf_block *
find(const cf_segment *seg, const cf_place *place)
{
    if (place->where == CF_WHERE_INLINE || place->where > seg->geometry.arenas
        || place->block >= seg->arena_blocks) {
        return NULL;
    }
    return cf_arena_table(seg, place->where - 1) + place->block;
}

bool
cf_block_holds(const cf_segment *seg, const cf_place *place)
{
    const cf_block *block = find(seg, place);
    if (block == NULL) {
        return false;
    }
    uint32_t state = cf_load_relaxed(&block->word) & CF_BLOCK_STATE;
    if (state != CF_BLOCK_LIVE && state != CF_BLOCK_HELD) {
        return false;
    }
    uint64_t at = (uint64_t)cf_load_relaxed(&block->at) * CF_BLOCK_UNIT;
    uint64_t room = cf_load_relaxed(&block->room) & ~CF_BLOCK_KEPT;
    room *= CF_BLOCK_UNIT;
    if (at < seg->arena_data || at + room > seg->geometry.arena_bytes) {
        return false;
    }
    uint64_t begin = cf_arena_offset(seg, place->where - 1) + at;
    return place->offset >= begin && place->offset - begin <= room
        && place->size <= room - (place->offset - begin);
}

bool
cf_block_adopt(cf_segment *seg, const cf_place *place, uint32_t holder)
{
    if (holder >= CF_BLOCK_HOLDERS || !cf_load_relaxed(&seg->mine)
        || !cf_block_holds(seg, place)) {
        return false;
    }
    cf_block *block = find(seg, place);
    uint32_t word = cf_load_relaxed(&block->word);
    if ((word & CF_BLOCK_STATE) != CF_BLOCK_LIVE) {
        return false;
    }
    uint32_t held = (word >> CF_BLOCK_TURN_SHIFT << CF_BLOCK_TURN_SHIFT)
        | holder << CF_BLOCK_HOLDER_SHIFT | CF_BLOCK_HELD;
    /* relaxed: the message that brought the place also brought the block's bytes, and
       the owner learns of the adoption by the message's end */
    return atomic_compare_exchange_strong_explicit(
        &block->word, &word, held, memory_order_relaxed, memory_order_relaxed);
}

/* LIVE or HELD -> RETURNED; false if somebody else was faster or it is neither. */
static bool
give_up(cf_block *block)
{
    uint32_t word = cf_load_relaxed(&block->word), first = word, returned;
    do {
        uint32_t state = word & CF_BLOCK_STATE;
        if ((word ^ first) >> CF_BLOCK_TURN_SHIFT != 0) {
            return false;       /* somebody else returned it, and it is in use again */
        }
        if (state == CF_BLOCK_LIVE) {
            returned = word | CF_BLOCK_NOBODY << CF_BLOCK_HOLDER_SHIFT | CF_BLOCK_RETURNED;
        }
        else if (state == CF_BLOCK_HELD) {
            returned = word | CF_BLOCK_RETURNED;
        }
        else {
            return false;
        }
        /* release: what was read in the block was read before; with the acquire in
           cf_arena_reclaim(), should this process die before the push */
    } while (!atomic_compare_exchange_weak_explicit(
        &block->word, &word, returned, memory_order_release, memory_order_relaxed));
    return true;
}

void
cf_block_return(cf_segment *seg, const cf_place *place)
{
    cf_block *block = find(seg, place);
    if (block == NULL || !cf_load_relaxed(&seg->mine) || !give_up(block)) {
        return;
    }
    cf_word *returned = &cf_arena_head_at(seg, place->where - 1)->returned;
    uint32_t top = cf_load_relaxed(returned);
    do {
        cf_store_relaxed(&block->next, top);
        /* release: `next`, and all reads of the block, before the owner's acquire in
           collect() */
    } while (!atomic_compare_exchange_weak_explicit(
        returned, &top, place->block + 1, memory_order_release, memory_order_relaxed));
}

bool
cf_block_kept(const cf_segment *seg, const cf_place *place)
{
    return (cf_load_relaxed(&find(seg, place)->room) & CF_BLOCK_KEPT) != 0;
}
