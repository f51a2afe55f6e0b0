/* The three parts of the board: order and slots, announcements, idle workers.

   A step that one process made and the next one that it did not make any more, because it
   was killed, are all there is to repair: nothing is ever held.  What such a death leaves
   behind is said where the steps stand and in cf_board_bury(). */
#include "ipc/board.h"

#include <assert.h>
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
    uint32_t first = top, done = 0;
    board->unread = 0;
    while (top != 0) {
        if (top > board->count || board->unread == 2 * board->count) {
            *corrupt = true;
            break;
        }
        cf_word *next = &board->slots[top - 1].next;
        uint32_t below = cf_load_relaxed(next);
        cf_store_relaxed(next, done);
        done = top;
        top = below;
        board->unread++;
    }
    if (done == first && board->unread > 1) {
        /* Only a list that runs into itself leads back to its beginning. */
        *corrupt = true;
        board->unread = 0;
        return 0;
    }
    return done;
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
            *corrupt = true;
            *rest = 0;
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

/* ---- idle workers ----

   The token: 0, a worker's number + 1, or PARENT while a thread of the parent calls.
   Whoever takes it away from somebody and lets it go then looks at the order, and calls
   somebody if there is something to take.  So everybody who finds the token taken can go
   away: somebody will look.  If the owner is dead that is cf_board_bury().

   To own it is to find one's number in it: nobody else remembers.  An owner can lose it
   without notice (to cf_board_bury, or to a caller that had mistaken it for a sleeper); it
   searches on without it, which costs at most a wake-up too many. */

enum { AWAKE, PARKED, CALLED };

#define PARENT UINT32_MAX
#define NOBODY UINT32_MAX

static bool
move_token(cf_board *board, uint32_t from, uint32_t to)
{
    return atomic_compare_exchange_strong_explicit(
        &board->shared->token, &from, to, memory_order_seq_cst, memory_order_seq_cst);
}

/* The worker is, or becomes, the one who searches. */
static bool
searches(cf_board *board, uint32_t number)
{
    return cf_load_seq(&board->shared->token) == number + 1
        || move_token(board, 0, number + 1)
        || cf_load_seq(&board->shared->token) == number + 1;
}

static uint32_t
enlisted(const cf_board *board)
{
    uint32_t count = cf_load_seq(&board->shared->enlisted);
    return count < board->workers ? count : board->workers;
}

static uint32_t
find_parked(const cf_board *board)
{
    uint32_t count = enlisted(board);
    for (uint32_t at = 0; at < count; at += 64) {
        uint64_t bits = cf_load_seq(&board->shared->parked[at / 64]);
        for (; bits != 0; bits &= bits - 1) {
            uint32_t number = at + (uint32_t)__builtin_ctzll(bits);
            /* One that was called clears its bit itself, when it wakes. */
            if (number < board->workers
                && cf_load_seq(&board->records[number].berth) == PARKED) {
                return number;
            }
        }
    }
    return NOBODY;
}

/* Wake a worker that is parked; false if it is not (any more). */
static bool
rouse(cf_board *board, uint32_t number)
{
    cf_word *berth = &board->records[number].berth;
    uint32_t parked = PARKED;
    if (!atomic_compare_exchange_strong_explicit(
            berth, &parked, CALLED, memory_order_seq_cst, memory_order_relaxed)) {
        return false;
    }
    cf_wake32(berth, 1, CF_SHARED);
    return true;
}

/* Pass the token, which is `mine`, on to somebody who is parked, or let it go.  A death on
   the way leaves a token with somebody who does not know of it, or a worker CALLED and
   not woken. */
static void
call(cf_board *board, uint32_t mine)
{
    do {
        uint32_t number;
        while ((number = find_parked(board)) != NOBODY) {
            /* It owns the token before it wakes. */
            if (!move_token(board, mine, number + 1) || rouse(board, number)) {
                return;
            }
            /* It woke without us (dismissed, interrupted) or died. */
            if (!move_token(board, number + 1, mine)) {
                return;
            }
        }
        /* Look again after letting go: a worker may have parked, or a task been pushed,
           while we had it, and have relied on us. */
    } while (move_token(board, mine, 0) && cf_board_length(board) != 0
             && find_parked(board) != NOBODY && move_token(board, 0, mine));
}

static void
notify(cf_board *board, uint32_t mine)
{
    if (cf_load_seq(&board->shared->token) == 0 && find_parked(board) != NOBODY
        && move_token(board, 0, mine)) {
        call(board, mine);
    }
}

void
cf_board_notify(cf_board *board)
{
    notify(board, PARENT);
}

/* The worker searches no more. */
static void
let_go(cf_board *board, uint32_t number)
{
    if (cf_load_seq(&board->shared->token) == number + 1
        && move_token(board, number + 1, 0) && cf_board_length(board) != 0) {
        notify(board, number + 1);
    }
}

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
            let_go(board, number);
            return slot;
        }
    }
    if (cf_load_relaxed(&me->busy)) {
        cf_store_release(&me->busy, 0);
    }
    return CF_NO_SLOT;
}

/* cf_spin_until() for a tail that changes. */
static bool
spin_until_pushed(cf_board *board)
{
    /* A yield to another thread, rather than to nobody, takes longer than this (ns). */
    const int64_t switch_time = 800;
    cf_spin *spin = &board->spin;
    uint64_t tail = cf_load_acquire(&board->shared->tail);
    if (cf_board_length(board) != 0) {
        return true;
    }
    int32_t looks = cf_load_relaxed(&spin->looks);
    int64_t end = 0, yielded = 0;
    for (;;) {
        for (int32_t i = 0; i < looks; i++) {
            if (cf_load_acquire(&board->shared->tail) != tail) {
                bool shared_cpu = i == 0 && yielded != 0
                    && cf_now() - yielded > switch_time;
                cf_store_relaxed(&spin->looks, shared_cpu ? CF_LOOKS_MIN
                                               : looks < CF_LOOKS_MAX ? 2 * looks
                                                                      : CF_LOOKS_MAX);
                return true;
            }
            cf_relax();
        }
        yielded = cf_now();
        if (end == 0) {
            end = yielded + cf_load_relaxed(&spin->limit);
        }
        if (yielded >= end) {
            return false;
        }
        cf_yield();
    }
}

static bool
must_leave(const cf_board *board, uint32_t number)
{
    /* Closed before the length: what was pushed before is seen. */
    return cf_load_seq(&board->records[number].dismissed) != 0
        || (cf_load_seq(&board->shared->closed) != 0 && cf_board_length(board) == 0);
}

static void
park(cf_board *board, uint32_t number)
{
    /* Whoever sees the bit finds the berth PARKED; all seq_cst: the last look, at order,
       closed, dismissed, comes after. */
    cf_store_seq(&board->records[number].berth, PARKED);
    atomic_fetch_or_explicit(&board->shared->parked[number / 64], 1ull << number % 64,
                             memory_order_seq_cst);
}

static void
unpark(cf_board *board, uint32_t number)
{
    atomic_fetch_and_explicit(&board->shared->parked[number / 64], ~(1ull << number % 64),
                              memory_order_seq_cst);
    /* Who called us after this finds us AWAKE, and takes the token back; who did before
       has given it to us before. */
    cf_store_seq(&board->records[number].berth, AWAKE);
}

static cf_status
sleep_until_called(cf_word *berth)
{
    while (cf_load_acquire(berth) == PARKED) {
        cf_status status = cf_wait32(berth, PARKED, CF_FOREVER, CF_SHARED);
        if (status == CF_INTR) {
            return status;
        }
        if (status == CF_SYSTEM) {
            cf_yield();     /* no way to sleep here: at least let others run */
        }
    }
    return CF_OK;
}

cf_status
cf_board_wait(cf_board *board, uint32_t number)
{
    int64_t start = cf_now();
    cf_status status = CF_OK;
    bool leaves = must_leave(board, number);
    if (!leaves && !(searches(board, number) && spin_until_pushed(board))) {
        park(board, number);
        move_token(board, number + 1, 0);
        /* The last look; its partners are cf_board_push, cf_board_close and
           cf_board_dismiss.  If somebody else searches it is theirs to call us. */
        leaves = must_leave(board, number);
        if (!leaves && (cf_board_length(board) == 0 || !searches(board, number))) {
            status = sleep_until_called(&board->records[number].berth);
        }
        unpark(board, number);
        leaves = leaves || must_leave(board, number);
    }
    cf_spin_learn(&board->spin, start);
    if (leaves || status == CF_INTR) {
        /* Who handles a signal may be long in coming back. */
        let_go(board, number);
    }
    return leaves ? CF_TIMEDOUT : status;
}

void
cf_board_busy(cf_board *board, uint32_t number, bool busy)
{
    cf_store_release(&board->records[number].busy, busy);
}

void
cf_board_last(cf_board *board, uint32_t number, int bell)
{
    cf_store_release(&board->records[number].last, 1);
    cf_bell_ring(bell);
}

/* ---- the parent and its workers ---- */

bool
cf_board_is_last(const cf_board *board, uint32_t number)
{
    return cf_load_acquire(&board->records[number].last) != 0;
}

void
cf_board_enlist(cf_board *board, uint32_t number)
{
    assert(number < board->workers);
    cf_record *record = &board->records[number];
    cf_store_relaxed(&record->dismissed, 0);
    cf_store_relaxed(&record->busy, 0);
    cf_store_relaxed(&record->last, 0);
    cf_store_seq(&record->berth, AWAKE);
    cf_store_seq(&record->enlisted, 1);
    if (enlisted(board) <= number) {
        cf_store_seq(&board->shared->enlisted, number + 1);
    }
}

uint32_t
cf_board_idle(const cf_board *board, uint32_t enlisted_up_to)
{
    uint32_t idle = 0;
    for (uint32_t i = 0; i < enlisted_up_to && i < board->workers; i++) {
        const cf_record *record = &board->records[i];
        idle += cf_load_acquire(&record->enlisted) && !cf_load_acquire(&record->busy)
            && !cf_load_acquire(&record->last) && !cf_load_acquire(&record->dismissed);
    }
    return idle;
}

void
cf_board_close(cf_board *board)
{
    cf_store_seq(&board->shared->closed, 1);
    uint32_t count = enlisted(board);
    for (uint32_t i = 0; i < count; i++) {
        rouse(board, i);
    }
}

void
cf_board_dismiss(cf_board *board, uint32_t number)
{
    cf_store_seq(&board->records[number].dismissed, 1);
    rouse(board, number);
}

void
cf_board_bury(cf_board *board, uint32_t number)
{
    assert(number < board->workers);
    cf_store_seq(&board->records[number].enlisted, 0);
    unpark(board, number);
    /* Whoever has the token may have got it from the dead worker, and not know. */
    uint32_t token = cf_load_seq(&board->shared->token);
    while (token != 0 && token != PARENT
           && !atomic_compare_exchange_weak_explicit(&board->shared->token, &token, 0,
                                                     memory_order_seq_cst,
                                                     memory_order_seq_cst)) {
    }
    /* Whoever was CALLED may have been called by it, and still sleep. */
    uint32_t count = enlisted(board);
    for (uint32_t i = 0; i < count; i++) {
        if (cf_load_seq(&board->records[i].berth) == CALLED) {
            cf_wake32(&board->records[i].berth, 1, CF_SHARED);
        }
    }
    if (cf_board_length(board) != 0) {
        cf_board_notify(board);
    }
}
