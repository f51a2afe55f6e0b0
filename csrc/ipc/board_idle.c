/* Idle workers of the board: who searches, who sleeps, who calls whom; and what there is
   to do when one of them is gone.

       STARTING --its first line--+
                                  v
         +--clears its bit--> AWAKE --sets its bit--> PARKED
         |                                              |
         +---a signal, or something to take-------------+
         +---CALLED <--anybody, who then wakes it-------+

   The token: 0, a worker's number + 1, or PARENT while a thread of the parent calls.
   Whoever takes it away from somebody and lets it go then looks at the order, and calls
   somebody if there is something to take.  So everybody who finds the token taken can go
   away: somebody will look.  If the owner is dead that is cf_board_bury().

   To own it is to find one's number in it: nobody else remembers.  An owner can lose it
   without notice (to cf_board_bury, or to a caller that had mistaken it for a sleeper); it
   searches on without it, which costs at most a wake-up too many. */
#include "ipc/board.h"

#include <assert.h>

#include "plat/peer.h"
#include "plat/wait.h"

enum { AWAKE, PARKED, CALLED, STARTING };

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

/* Is there a reason to be awake?  Being closed is one: workers that stayed for the last
   tasks leave when these are gone, each called by the one before. */
static bool
is_reason(const cf_board *board)
{
    return cf_load_seq(&board->shared->closed) != 0 || cf_board_length(board) != 0;
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
    } while (move_token(board, mine, 0) && is_reason(board)
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

void
cf_board_found(cf_board *board, uint32_t number)
{
    if (cf_load_seq(&board->shared->token) == number + 1
        && move_token(board, number + 1, 0) && is_reason(board)) {
        notify(board, number + 1);
    }
}

typedef struct {
    const cf_board *board;
    uint64_t tail;
} moment;

static bool
was_pushed_since(void *arg)
{
    const moment *then = arg;
    return cf_load_acquire(&then->board->shared->tail) != then->tail;
}

static bool
spin_until_pushed(cf_board *board)
{
    moment now = {board, cf_load_acquire(&board->shared->tail)};
    return cf_board_length(board) != 0 || cf_spin_look(&board->spin, was_pushed_since, &now);
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
sleep_until_called(cf_word *berth, cf_deadline until)
{
    while (cf_load_acquire(berth) == PARKED) {
        cf_status status = cf_wait32(berth, PARKED, until, CF_SHARED);
        if (status == CF_INTR) {
            return status;
        }
        if (status == CF_TIMEDOUT) {
            return CF_AGAIN;
        }
        if (status == CF_SYSTEM) {
            cf_yield();     /* no way to sleep here: at least let others run */
        }
    }
    return CF_OK;
}

cf_status
cf_board_spin(cf_board *board, uint32_t number)
{
    int64_t start = cf_now();
    if (must_leave(board, number)) {
        cf_board_found(board, number);
        return CF_TIMEDOUT;
    }
    if (searches(board, number) && spin_until_pushed(board)) {
        cf_spin_learn(&board->spin, start);
        return CF_OK;
    }
    /* What the worker does before it sleeps may take long: nobody is to rely on it. */
    cf_board_found(board, number);
    return CF_AGAIN;
}

cf_status
cf_board_sleep(cf_board *board, uint32_t number, cf_deadline until)
{
    int64_t start = cf_now();
    cf_status status = CF_OK;
    bool leaves = must_leave(board, number);
    if (!leaves) {
        park(board, number);
        /* A token that came to us unasked (see call()). */
        move_token(board, number + 1, 0);
        /* The last look; its partners are cf_board_push, cf_board_close and
           cf_board_dismiss.  If somebody else searches it is theirs to call us. */
        leaves = must_leave(board, number);
        if (!leaves && !(is_reason(board) && searches(board, number))) {
            status = sleep_until_called(&board->records[number].berth, until);
        }
        unpark(board, number);
        leaves = leaves || must_leave(board, number);
    }
    cf_spin_learn(&board->spin, start);
    if (leaves || status != CF_OK) {
        /* Who handles a signal, or does what a quiet time is good for, may be long in
           coming back. */
        cf_board_found(board, number);
    }
    return leaves ? CF_TIMEDOUT : status;
}

cf_status
cf_board_wait(cf_board *board, uint32_t number)
{
    cf_status status = cf_board_spin(board, number);
    return status == CF_AGAIN ? cf_board_sleep(board, number, CF_FOREVER) : status;
}

void
cf_board_begin(cf_board *board, uint32_t number)
{
    cf_store_seq(&board->records[number].berth, AWAKE);
}

void
cf_board_busy(cf_board *board, uint32_t number, bool busy)
{
    cf_store_release(&board->records[number].busy, busy);
}

void
cf_board_ended(cf_board *board, uint32_t number, bool failed)
{
    cf_record *me = &board->records[number];
    /* No read-modify-write: nobody else writes them. */
    if (failed) {
        cf_store_relaxed(&me->failed, cf_load_relaxed(&me->failed) + 1);
    }
    cf_store_relaxed(&me->ended, cf_load_relaxed(&me->ended) + 1);
}

void
cf_board_active(cf_board *board, uint32_t number, bool active)
{
    cf_record *me = &board->records[number];
    if (cf_load_relaxed(&me->active) == active) {
        return;
    }
    /* Who dies between the two is taken for what it was: the figure is off, nothing else. */
    (active ? cf_activity_begin : cf_activity_end)(&board->shared->activity, cf_now_coarse());
    cf_store_relaxed(&me->active, active);
}

cf_board_tally
cf_board_count_up(const cf_board *board, int64_t since)
{
    cf_board_tally tally = {0, 0, 0, 0};
    uint32_t count = enlisted(board);
    for (uint32_t i = 0; i < count; i++) {
        const cf_record *record = &board->records[i];
        tally.ended += cf_load_relaxed(&record->ended);
        tally.failed += cf_load_relaxed(&record->failed);
        tally.running += cf_load_relaxed(&record->enlisted) && cf_load_relaxed(&record->busy);
    }
    tally.active = cf_activity_total(&board->shared->activity, cf_now_coarse(), since);
    return tally;
}

void
cf_board_last(cf_board *board, uint32_t number, int bell)
{
    cf_store_release(&board->records[number].last, 1);
    if (bell >= 0) {
        cf_bell_ring(bell);
    }
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
    cf_store_seq(&record->berth, STARTING);
    cf_store_seq(&record->enlisted, 1);
    if (enlisted(board) <= number) {
        cf_store_seq(&board->shared->enlisted, number + 1);
    }
}

bool
cf_board_begun(const cf_board *board, uint32_t enlisted_up_to)
{
    for (uint32_t i = 0; i < enlisted_up_to && i < board->workers; i++) {
        const cf_record *record = &board->records[i];
        if (cf_load_relaxed(&record->enlisted)
            && cf_load_relaxed(&record->berth) != STARTING) {
            return true;
        }
    }
    return false;
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
cf_board_rouse(cf_board *board, uint32_t number)
{
    rouse(board, number);
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
    cf_board_active(board, number, false);
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
    if (is_reason(board)) {
        cf_board_notify(board);
    }
}
