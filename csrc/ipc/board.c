/* The order of tasks, the moves of a slot, and announcements.  (Idle workers are in
   board_idle.c.)

   Nothing is ever held: a worker that is killed leaves a step undone, and what that means
   is said where the step stands. */
#include "ipc/board.h"

#include <limits.h>

#include "plat/peer.h"
#include "plat/wait.h"

_Static_assert(sizeof(cf_slot) == CF_SLOT_BYTES && sizeof(cf_record) == CF_RECORD_BYTES
               && sizeof(cf_board_head) <= CF_BOARD_BYTES, "as the segment is laid out");

void
cf_board_init(cf_board *board, cf_segment *seg)
{
    *board = (cf_board){
        .seg = seg,
        .spin = CF_SPIN_INIT,
        .shared = cf_segment_at(seg, seg->board),
        .records = cf_segment_at(seg, seg->records),
        .order = cf_segment_at(seg, seg->order),
        .slots = cf_segment_at(seg, seg->slots),
        .count = seg->geometry.slots,
        .workers = seg->geometry.workers < CF_MAX_WORKERS ? seg->geometry.workers
                                                          : CF_MAX_WORKERS,
    };
    board->tail = cf_load_acquire(&board->shared->tail);
    board->head_seen = cf_load_acquire(&board->shared->head);
}

/* ---- the order ---- */

/* Entries between head and tail, and where the head was.  Seq_cst for the tail: the last
   look of a worker that parks, see cf_board_push. */
static uint64_t
look(const cf_board *board, uint64_t *head)
{
    for (;;) {
        *head = cf_load_acquire(&board->shared->head);
        uint64_t length = cf_load_seq(&board->shared->tail) - *head;
        if (length <= board->count) {
            return length;
        }
        /* The head may have moved on between the two; if it did not the ring cannot be
           that long: somebody scribbled, and there is nothing that can be found. */
        if (cf_load_acquire(&board->shared->head) == *head) {
            return 0;
        }
    }
}

uint64_t
cf_board_length(const cf_board *board)
{
    uint64_t head;
    return look(board, &head);
}

cf_status
cf_board_push(cf_board *board, uint32_t slot)
{
    uint64_t tail = board->tail;
    if (tail - board->head_seen >= board->count) {
        board->head_seen = cf_load_acquire(&board->shared->head);
        if (tail - board->head_seen >= board->count) {
            return tail - board->head_seen == board->count ? CF_AGAIN : CF_CORRUPT;
        }
    }
    cf_word *word = &board->slots[slot].word;
    uint32_t was = cf_load_relaxed(word);
    if ((was & CF_SLOT_STATE) != CF_SLOT_FREE) {
        return CF_CORRUPT;
    }
    uint32_t turn = CF_SLOT_TURN(was + (1u << CF_SLOT_TURN_SHIFT));
    /* No read-modify-write: as long as it is FREE nobody else changes the word.  Release,
       with the acquire in try_take: the message. */
    cf_store_release(word, turn << CF_SLOT_TURN_SHIFT | CF_SLOT_QUEUED);
    /* The entry that this replaces has been passed by the head.  A worker that read the
       head before that can still come and read this one, or hold the old one for as long
       as it likes.  Either way it takes the slot only if the slot is QUEUED, in the turn
       of the entry: a task that may be taken, perhaps before its time.  The worker's
       attempt to move the head fails, since a head never comes back to where it was; the
       entry whose task was taken early is passed when the head comes to it, since its
       slot is not QUEUED then, or is in another turn.  (After 4096 uses of the slot turns
       repeat: then again the task is one that may be taken.) */
    cf_store_relaxed(&board->order[tail & (board->count - 1)], (uint64_t)turn << 32 | slot);
    board->tail = tail + 1;
    /* Seq_cst: published before cf_board_notify looks for an idle worker.  The mirror
       image is in cf_board_wait: announce oneself, then look at the tail. */
    cf_store_seq(&board->shared->tail, tail + 1);
    return CF_OK;
}

/* Does the slot of this entry wait to be taken?  Its word, for the one who takes it. */
static bool
is_queued(const cf_board *board, uint64_t entry, uint32_t *word)
{
    uint32_t slot = (uint32_t)entry;
    if (slot >= board->count) {
        return false;
    }
    /* Acquire: who finds it TAKEN and moves the head for the taker passes on that the
       taker is busy. */
    *word = cf_load_acquire(&board->slots[slot].word);
    return (*word & CF_SLOT_STATE) == CF_SLOT_QUEUED && CF_SLOT_TURN(*word) == entry >> 32;
}

/* The head moves from `head` to the next entry, unless somebody moved it already. */
static void
pass(cf_board *board, uint64_t head)
{
    atomic_compare_exchange_strong_explicit(&board->shared->head, &head, head + 1,
                                            memory_order_acq_rel, memory_order_relaxed);
}

uint64_t
cf_board_advance(cf_board *board)
{
    uint64_t head, length = 0;
    uint32_t word;
    for (uint32_t steps = 0; steps <= board->count; steps++) {
        length = look(board, &head);
        if (length == 0
            || is_queued(board, cf_load_relaxed(&board->order[head & (board->count - 1)]),
                         &word)) {
            break;
        }
        pass(board, head);
    }
    return length;
}

/* ---- slots: the parent's moves ---- */

/* From state `from` (of worker `number`, if it is TAKEN) to `to`; the word before, or 0 if
   the slot is not in that state. */
static uint32_t
move(cf_word *word, uint32_t from, uint32_t number, uint32_t to)
{
    uint32_t now = cf_load_relaxed(word);
    while ((now & CF_SLOT_STATE) == from
           && (from != CF_SLOT_TAKEN || CF_SLOT_WORKER(now) == number)) {
        if (atomic_compare_exchange_weak_explicit(
                word, &now, (now & ~CF_SLOT_STATE) | to,
                memory_order_acq_rel, memory_order_relaxed)) {
            return now;
        }
    }
    return 0;
}

void
cf_board_wake(cf_board *board, uint32_t slot)
{
    cf_wake32(&board->slots[slot].word, INT_MAX, CF_SHARED);
}

bool
cf_board_cancel(cf_board *board, uint32_t slot)
{
    uint32_t before = move(&board->slots[slot].word, CF_SLOT_QUEUED, 0, CF_SLOT_CANCELLED);
    if (before & CF_SLOT_SLEEPERS) {
        cf_board_wake(board, slot);
    }
    return before != 0;
}

uint32_t
cf_board_watch(cf_board *board, uint32_t slot)
{
    return atomic_fetch_or_explicit(&board->slots[slot].word, CF_SLOT_WATCHED,
                                    memory_order_acq_rel);
}

void
cf_board_free(cf_board *board, uint32_t slot)
{
    /* No read-modify-write: nobody else is interested in the slot. */
    cf_word *word = &board->slots[slot].word;
    uint32_t turn = CF_SLOT_TURN(cf_load_relaxed(word));
    cf_store_release(word, turn << CF_SLOT_TURN_SHIFT | CF_SLOT_FREE);
}

cf_status
cf_board_await(cf_board *board, uint32_t slot, cf_spin *spin, cf_deadline until)
{
    cf_word *word = &board->slots[slot].word;
    int64_t start = spin == NULL || until == CF_NO_WAIT ? 0 : cf_now();
    /* Who has less time than a spin may last does not spin. */
    if (start != 0 && until - start > CF_SPIN_MAX) {
        cf_spin_until(spin, word, CF_SLOT_DONE | CF_SLOT_CANCELLED);
    }
    cf_status status = CF_OK;
    for (;;) {
        uint32_t now = cf_load_acquire(word), state = now & CF_SLOT_STATE;
        if (state == CF_SLOT_DONE || state == CF_SLOT_CANCELLED) {
            status = CF_OK;
            break;
        }
        if (state != CF_SLOT_QUEUED && state != CF_SLOT_TAKEN) {
            status = CF_CORRUPT;
            break;
        }
        if (until == CF_NO_WAIT) {
            status = CF_TIMEDOUT;
        }
        if (status != CF_OK && status != CF_AGAIN) {
            break;
        }
        if (!(now & CF_SLOT_SLEEPERS)
            && !atomic_compare_exchange_strong_explicit(
                word, &now, now | CF_SLOT_SLEEPERS,
                memory_order_relaxed, memory_order_relaxed)) {
            continue;
        }
        status = cf_wait32(word, now | CF_SLOT_SLEEPERS, until, CF_SHARED);
    }
    if (start != 0) {
        cf_spin_learn(spin, start);
    }
    return status;
}

/* ---- announcements ---- */

/* The slot is DONE: wake who sleeps on it and push it on the list if it is watched. */
static void
tell(cf_board *board, uint32_t slot, uint32_t before, int bell)
{
    if (before & CF_SLOT_SLEEPERS) {
        /* If it is not watched the slot may be used again by now: a wake-up too many. */
        cf_board_wake(board, slot);
    }
    if (!(before & CF_SLOT_WATCHED)) {
        return;
    }
    cf_board_head *shared = board->shared;
    cf_word *next = &board->slots[slot].next;
    uint32_t top = cf_load_relaxed(&shared->announced);
    do {
        cf_store_relaxed(next, top);
        /* Seq_cst: announced, then a look whether the manager sleeps; it does the mirror
           image in cf_board_manager_sleeps.  That the list may have been emptied and
           filled again with the same top since it was read does not matter: `next` is
           the top then as well. */
    } while (!atomic_compare_exchange_weak_explicit(
                 &shared->announced, &top, slot + 1,
                 memory_order_seq_cst, memory_order_relaxed));
    /* Who dies from here on with the bell in its hand wakes the manager by its death. */
    cf_word *asleep = &shared->manager_asleep;
    if (bell >= 0 && cf_load_seq(asleep) != 0
        && atomic_exchange_explicit(asleep, 0, memory_order_seq_cst) != 0) {
        cf_bell_ring(bell);
    }
}

void
cf_board_finish(cf_board *board, uint32_t slot, bool failed, int bell)
{
    /* An addition turns one state into the other whatever bits are being set beside it.
       Release: the result. */
    uint32_t step = CF_SLOT_DONE - CF_SLOT_TAKEN + (failed ? CF_SLOT_FAILED : 0);
    uint32_t before = atomic_fetch_add_explicit(&board->slots[slot].word, step,
                                                memory_order_acq_rel);
    if (before & (CF_SLOT_SLEEPERS | CF_SLOT_WATCHED)) {
        tell(board, slot, before, bell);
    }
}

bool
cf_board_fail(cf_board *board, uint32_t slot, uint32_t number)
{
    uint32_t before = move(&board->slots[slot].word, CF_SLOT_TAKEN, number,
                           CF_SLOT_DONE | CF_SLOT_FAILED);
    tell(board, slot, before, -1);
    return before != 0;
}

/* Turn the list that begins at `top` round, in place: its first slot, or 0. */
static uint32_t
reversed(cf_board *board, uint32_t top, bool *corrupt)
{
    uint32_t first = top, done = 0, steps = 0;
    for (; top != 0 && top <= board->count && steps < board->count; steps++) {
        cf_word *next = &board->slots[top - 1].next;
        uint32_t below = cf_load_relaxed(next);
        cf_store_relaxed(next, done);
        done = top;
        top = below;
    }
    /* A number out of range ends the list.  One that runs into itself leads back to its
       beginning, or does not end at all: nothing of it can be told. */
    bool cyclic = (done == first && steps > 1) || (top != 0 && top <= board->count);
    if (top != 0 || cyclic) {
        *corrupt = true;
    }
    board->unread = cyclic ? 0 : steps;
    return cyclic ? 0 : done;
}

size_t
cf_board_announced(cf_board *board, uint32_t *rest, uint32_t *numbers, size_t room,
                   bool *corrupt)
{
    if (*rest == 0 && cf_load_relaxed(&board->shared->announced) != 0) {
        uint32_t top = atomic_exchange_explicit(&board->shared->announced, 0,
                                                memory_order_acq_rel);
        *rest = reversed(board, top, corrupt);
    }
    size_t filled = 0;
    while (*rest != 0 && filled < room) {
        uint32_t slot = *rest - 1;
        if (slot >= board->count || board->unread == 0) {
            *corrupt = true;        /* somebody scribbled meanwhile */
            *rest = board->unread = 0;
            break;
        }
        /* Read before it is told: then the slot is the caller's, who may free it. */
        *rest = cf_load_relaxed(&board->slots[slot].next);
        board->unread--;
        numbers[filled++] = slot;
    }
    return filled;
}

bool
cf_board_manager_sleeps(cf_board *board)
{
    cf_store_seq(&board->shared->manager_asleep, 1);
    if (board->unread == 0 && cf_load_seq(&board->shared->announced) == 0) {
        return true;
    }
    cf_board_manager_wakes(board);
    return false;
}

void
cf_board_manager_wakes(cf_board *board)
{
    cf_store_seq(&board->shared->manager_asleep, 0);
}

/* ---- taking ---- */

uint32_t
cf_board_take(cf_board *board, uint32_t number)
{
    cf_record *me = &board->records[number];
    if (cf_load_acquire(&me->dismissed)) {
        return CF_NO_SLOT;
    }
    uint64_t head;
    while (look(board, &head) != 0) {
        uint64_t entry = cf_load_relaxed(&board->order[head & (board->count - 1)]);
        uint32_t slot = (uint32_t)entry, word;
        bool taken = false;
        while (!taken && is_queued(board, entry, &word)) {
            /* Busy before it is TAKEN, and so before the head moves: see
               cf_board_length. */
            cf_store_relaxed(&me->busy, 1);
            uint32_t others = word & ~(CF_SLOT_STATE | 0xfffu << CF_SLOT_WORKER_SHIFT);
            taken = atomic_compare_exchange_weak_explicit(
                &board->slots[slot].word, &word,
                others | CF_SLOT_TAKEN | number << CF_SLOT_WORKER_SHIFT,
                memory_order_acq_rel, memory_order_relaxed);
        }
        /* Who dies here leaves an entry that others pass. */
        pass(board, head);
        if (taken) {
            cf_board_found(board, number);
            return slot;
        }
    }
    if (cf_load_relaxed(&me->busy)) {
        cf_store_release(&me->busy, 0);
    }
    return CF_NO_SLOT;
}
