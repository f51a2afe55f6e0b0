/* Who takes part in a queue, and what is to be done for those that have died.

   Burying is for memory: nobody waits for it, but who needs a number or the entry that a
   dead one was taking.  One process at a time buries a member; its name stands in the
   record meanwhile, so that another one can go on if it dies, too.  Everything it does can
   be done twice.

   A dead member's number stands in three places: in entries that are TAKEN (whoever buries
   it takes them over), in blocks that it held (they are returned in its name), and as the
   number of its arena, in which items can still be waiting, and blocks be held by others.
   When all of that is over the arena is cleared and the number given away.  In the word of a
   block that was returned the number may stand for longer, which means nothing. */
#include "ipc/queue_parts.h"

#include <errno.h>

static uint64_t
who_is(const cf_peer *peer, uint64_t state)
{
    return peer->started << 24 | (uint64_t)((uint32_t)peer->pid & 0x3fffffu) << 2 | state;
}

static bool
is_gone(const cf_queue_member *member, uint64_t who)
{
    uint64_t state = CF_MEMBER_STATE(who);
    if (state == CF_MEMBER_DEAD) {
        return true;
    }
    cf_peer peer = {
        .pid = CF_MEMBER_PID(who), .started = CF_MEMBER_STARTED(who),
        .space = state == CF_MEMBER_JOINED ? cf_load_relaxed(&member->space) : 0};
    return cf_peer_is_gone(&peer);
}

static uint32_t
numbers_in_use(const cf_queue *q)
{
    uint32_t numbers = cf_load_acquire(&q->shared->numbers);
    return numbers < CF_QUEUE_MEMBERS ? numbers : CF_QUEUE_MEMBERS;
}

/* ---- joining ---- */

static bool
join_as(cf_queue *q, uint32_t number, const cf_peer *me)
{
    cf_queue_member *member = &q->members[number];
    uint64_t was = CF_MEMBER_FREE;
    if (cf_load_relaxed(&member->who) != CF_MEMBER_FREE) {
        return false;
    }
    /* First the count, so that nobody who looks for the dead overlooks this one. */
    uint32_t numbers = cf_load_relaxed(&q->shared->numbers);
    while (numbers <= number
           && !atomic_compare_exchange_weak_explicit(
               &q->shared->numbers, &numbers, number + 1,
               memory_order_release, memory_order_relaxed)) {
    }
    if (!atomic_compare_exchange_strong_explicit(
            &member->who, &was, who_is(me, CF_MEMBER_JOINED),
            memory_order_acq_rel, memory_order_relaxed)) {
        return false;
    }
    cf_store_relaxed(&member->space, me->space);
    q->number = number;
    return true;
}

static bool bury(cf_queue *q, uint32_t number, uint64_t who, const cf_peer *me);
static void tend(cf_queue *q, bool again);

cf_status
cf_queue_join(cf_queue *q, cf_arena **arena)
{
    cf_peer me = cf_peer_self();
    for (int tries = 0; tries < 2; tries++) {
        for (uint32_t number = 1; number < CF_QUEUE_MEMBERS; number++) {
            if (!join_as(q, number, &me)) {
                continue;
            }
            if (cf_arena_open(q->seg, number, arena) == CF_OK) {
                cf_arena_reserve(*arena, q->seg->geometry.arena_bytes / 8);
                tend(q, false);
                return CF_OK;
            }
            int saved = errno;
            cf_queue_leave(q);
            errno = saved;
            return CF_SYSTEM;
        }
        tend(q, true);
    }
    errno = EUSERS;
    return CF_SYSTEM;
}

void
cf_queue_leave(cf_queue *q)
{
    uint32_t number = q->number;
    cf_peer me = cf_peer_self();
    /* From here on somebody else may bury it, and give the number away. */
    q->number = 0;
    cf_store_release(&q->members[number].who, (uint64_t)CF_MEMBER_DEAD);
    (void)bury(q, number, CF_MEMBER_DEAD, &me);
}

/* ---- what still bears a number ---- */

typedef bool (*entry_visitor)(cf_queue *q, cf_entry64 *at, uint64_t lap, uint32_t number);

/* Goes through all entries that may be in use, with the lap of each (or one off it, if the
   queue moves on meanwhile).  false: `visit` has said so. */
static bool
all_entries(cf_queue *q, entry_visitor visit, uint32_t number)
{
    /* The entry at the tail, too: an item may be there already. */
    uint64_t end = cf_load_seq(&q->shared->tail) + 1, begin = 0;
    for (unsigned ring = 0; ring < q->ring_count; ring++) {
        uint64_t entries = cf_queue_entries(q, ring);
        uint64_t next = ring + 1 < q->ring_count
            ? cf_load_acquire(&q->shared->start[ring + 1]) : 0;
        uint64_t last = next != 0 ? next : end > begin ? end : begin;
        /* What was never reached would take memory by being looked at. */
        uint64_t position = last - begin > entries ? last - entries : begin;
        for (; position < last; position++) {
            cf_entry64 *at = cf_queue_ring(q, ring) + (position & (entries - 1));
            if (!visit(q, at, position >> (q->first + ring), number)) {
                return false;
            }
        }
        if (next == 0) {
            break;
        }
        begin = next;
    }
    return true;
}

static bool
take_over(cf_queue *q, cf_entry64 *at, uint64_t lap, uint32_t number)
{
    uint64_t entry = cf_load_seq(at);
    if (CF_ENTRY_STATE(entry) != CF_ENTRY_TAKEN || CF_ENTRY_TAKER(entry) != number) {
        return true;
    }
    if (q->number == 0) {
        return false;           /* it cannot become that of somebody who is no member */
    }
    uint64_t mine = cf_entry_taken(entry, q->number);
    uint64_t ahead = ((entry >> CF_ENTRY_LAP_SHIFT) - lap) & CF_ENTRY_LAPS;
    lap += ahead <= CF_ENTRY_LAPS / 2 ? ahead : ahead - CF_ENTRY_LAPS - 1;
    if (atomic_compare_exchange_strong_explicit(at, &entry, mine, memory_order_seq_cst,
                                                memory_order_relaxed)) {
        cf_taken lost;
        (void)cf_queue_receive(q, at, lap, &lost, true);
    }
    return true;
}

static bool
is_not_in_arena(cf_queue *q, cf_entry64 *at, uint64_t lap, uint32_t number)
{
    (void)q;
    (void)lap;
    uint64_t entry = cf_load_seq(at);
    uint32_t state = CF_ENTRY_STATE(entry);
    return !((state == CF_ENTRY_ITEM || state == CF_ENTRY_TAKEN)
             && CF_ENTRY_ARENA(entry) == number);
}

static bool
is_dead(const cf_queue *q, uint32_t number)
{
    uint64_t state = number < CF_QUEUE_MEMBERS
        ? CF_MEMBER_STATE(cf_load_acquire(&q->members[number].who)) : CF_MEMBER_FREE;
    return state == CF_MEMBER_DEAD || state == CF_MEMBER_BURYING;
}

/* Does a block in arena `number` bear the number of somebody who is not dead?  When no item
   of the arena is in the order, every block that somebody will look at does: blocks are
   adopted while their item is TAKEN. */
static bool
is_held(const cf_queue *q, uint32_t number)
{
    const cf_block *table = cf_arena_table(q->seg, number);
    uint32_t blocks = cf_load_acquire(&cf_arena_head_at(q->seg, number)->blocks);
    for (uint32_t i = 0; i < blocks && i < q->seg->arena_blocks; i++) {
        uint32_t word = cf_load_acquire(&table[i].word);
        if ((word & CF_BLOCK_STATE) == CF_BLOCK_HELD
            && !is_dead(q, CF_BLOCK_HOLDER(word))) {
            return true;
        }
    }
    return false;
}

/* What the dead one held goes back to the owners.  Nobody else moves such a block. */
static void
return_held(cf_queue *q, uint32_t number)
{
    uint32_t numbers = numbers_in_use(q);
    for (uint32_t other = 1; other < numbers; other++) {
        const cf_block *table = cf_arena_table(q->seg, other);
        if (CF_MEMBER_STATE(cf_load_acquire(&q->members[other].who)) == CF_MEMBER_FREE) {
            continue;
        }
        uint32_t blocks = cf_load_acquire(&cf_arena_head_at(q->seg, other)->blocks);
        for (uint32_t i = 0; i < blocks && i < q->seg->arena_blocks; i++) {
            uint32_t word = cf_load_acquire(&table[i].word);
            if ((word & CF_BLOCK_STATE) == CF_BLOCK_HELD
                && CF_BLOCK_HOLDER(word) == number) {
                cf_place place = {.where = other + 1, .block = i};
                cf_block_return(q->seg, &place);
            }
        }
    }
}

/* ---- burying ---- */

/* Do what can be done.  false: something of it is still needed. */
static bool
bury(cf_queue *q, uint32_t number, uint64_t who, const cf_peer *me)
{
    cf_queue_member *member = &q->members[number];
    if (!atomic_compare_exchange_strong_explicit(
            &member->who, &who, who_is(me, CF_MEMBER_BURYING), memory_order_acq_rel,
            memory_order_relaxed)) {
        return false;           /* somebody else is at it */
    }
    bool over = all_entries(q, take_over, number);
    if (over) {
        return_held(q, number);
        over = all_entries(q, is_not_in_arena, number) && !is_held(q, number)
            && cf_arena_clear(q->seg, number) == CF_OK;
    }
    if (over) {
        cf_store_relaxed(&member->space, 0);
    }
    /* Release: all of it is done when somebody sees this. */
    cf_store_release(&member->who, over ? CF_MEMBER_FREE : (uint64_t)CF_MEMBER_DEAD);
    return over;
}

/* again: those, too, that somebody has tried to bury already. */
static void
tend(cf_queue *q, bool again)
{
    cf_peer me = {0};
    uint32_t numbers = numbers_in_use(q);
    for (uint32_t number = 1; number < numbers; number++) {
        cf_queue_member *member = &q->members[number];
        uint64_t who = cf_load_acquire(&member->who);
        uint64_t state = CF_MEMBER_STATE(who);
        if (state == CF_MEMBER_FREE || (state == CF_MEMBER_DEAD && !again)
            || number == q->number || !is_gone(member, who)) {
            continue;
        }
        if (me.pid == 0) {
            me = cf_peer_self();
        }
        (void)bury(q, number, who, &me);
    }
}

void
cf_queue_tend(cf_queue *q)
{
    tend(q, true);
}
