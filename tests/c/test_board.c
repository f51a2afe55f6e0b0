/* ipc/board.h: each function, and what it makes of memory that somebody scribbled over.
   (Workers: test_board_workers.c; workers that die: test_board_processes.c.) */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "board_memory.h"
#include "check.h"
#include "ipc/board.h"
#include "plat/peer.h"
#include "plat/wait.h"

static cf_segment the_segment;

static void
open_board(cf_board *b, uint32_t slots, uint32_t workers)
{
    segment_make(&the_segment, slots, workers);
    cf_board_init(b, &the_segment);
}

static void
push(cf_board *b, uint32_t slot)
{
    CHECK_EQUAL(cf_board_push(b, slot), CF_OK);
}

static void
tasks_are_taken_in_order_and_once(void)
{
    cf_board b;
    open_board(&b, 8, 2);
    CHECK_EQUAL(cf_board_take(&b, 0), CF_NO_SLOT);
    const uint32_t order[] = {3, 1, 7, 0};
    for (int i = 0; i < 4; i++) {
        push(&b, order[i]);
        CHECK_EQUAL(cf_board_length(&b), i + 1);
    }
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_EQUAL(cf_board_take(&b, i % 2), order[i]);
        uint32_t word = cf_load_relaxed(&cf_board_slot(&b, order[i])->word);
        CHECK_EQUAL(word & CF_SLOT_STATE, CF_SLOT_TAKEN);
        CHECK_EQUAL(CF_SLOT_WORKER(word), i % 2);
    }
    CHECK_EQUAL(cf_board_take(&b, 0), CF_NO_SLOT);
    CHECK_EQUAL(cf_board_length(&b), 0);
    segment_drop(&the_segment);
}

static void
a_slot_can_be_used_any_number_of_times(void)
{
    cf_board b;
    open_board(&b, 4, 4096);
    for (uint32_t i = 0; i < 3 * 4096 + 5; i++) {
        push(&b, 2);
        uint32_t number = i * 7 % 4096;
        CHECK_EQUAL(cf_board_take(&b, number), 2);
        CHECK_EQUAL(CF_SLOT_WORKER(cf_load_relaxed(&cf_board_slot(&b, 2)->word)), number);
        cf_board_finish(&b, 2, false, -1);
        CHECK_EQUAL(state_of(&b, 2), CF_SLOT_DONE);
        cf_board_free(&b, 2);
    }
    CHECK_EQUAL(cf_board_length(&b), 0);
    segment_drop(&the_segment);
}

static void
cancelled_tasks_fill_the_ring_until_the_head_moves(void)
{
    cf_board b;
    open_board(&b, 4, 1);
    for (int i = 0; i < 4; i++) {
        push(&b, 0);
        CHECK(cf_board_cancel(&b, 0));
        CHECK_EQUAL(state_of(&b, 0), CF_SLOT_CANCELLED);
        CHECK(!cf_board_cancel(&b, 0));
        cf_board_free(&b, 0);
    }
    CHECK_EQUAL(cf_board_push(&b, 1), CF_AGAIN);
    CHECK_EQUAL(state_of(&b, 1), CF_SLOT_FREE);
    CHECK_EQUAL(cf_board_length(&b), 4);
    CHECK_EQUAL(cf_board_advance(&b), 0);
    push(&b, 1);
    CHECK_EQUAL(cf_board_advance(&b), 1);
    /* A task at the head holds up cancelled ones behind it. */
    push(&b, 2);
    CHECK(cf_board_cancel(&b, 2));
    CHECK_EQUAL(cf_board_advance(&b), 2);
    CHECK_EQUAL(cf_board_take(&b, 0), 1);
    CHECK(!cf_board_cancel(&b, 1));
    CHECK_EQUAL(cf_board_take(&b, 0), CF_NO_SLOT);
    CHECK_EQUAL(cf_board_length(&b), 0);
    segment_drop(&the_segment);
}

static void
an_entry_of_an_earlier_turn_is_passed(void)
{
    cf_board b;
    open_board(&b, 8, 1);
    push(&b, 5);
    CHECK(cf_board_cancel(&b, 5));
    cf_board_free(&b, 5);
    push(&b, 6);
    push(&b, 5);
    /* The first entry names slot 5, which is QUEUED again, behind slot 6. */
    CHECK_EQUAL(cf_board_take(&b, 0), 6);
    CHECK_EQUAL(cf_board_take(&b, 0), 5);
    CHECK_EQUAL(cf_board_take(&b, 0), CF_NO_SLOT);
    segment_drop(&the_segment);
}

static void
who_waits_learns_how_it_ended(void)
{
    cf_board b;
    open_board(&b, 4, 4);
    cf_spin spin = CF_SPIN_INIT;
    cf_deadline soon = cf_now() + 1000000;
    CHECK_EQUAL(cf_board_await(&b, 0, NULL, CF_NO_WAIT), CF_CORRUPT);       /* FREE */
    push(&b, 0);
    push(&b, 1);
    CHECK_EQUAL(cf_board_await(&b, 0, &spin, CF_NO_WAIT), CF_TIMEDOUT);
    CHECK_EQUAL(cf_load_relaxed(&cf_board_slot(&b, 0)->word) & CF_SLOT_SLEEPERS, 0);
    CHECK_EQUAL(cf_board_await(&b, 0, &spin, soon), CF_TIMEDOUT);
    CHECK(cf_now() >= soon);
    CHECK(cf_load_relaxed(&cf_board_slot(&b, 0)->word) & CF_SLOT_SLEEPERS);
    CHECK_EQUAL(cf_board_await(&b, 0, NULL, cf_now() + 1000000), CF_TIMEDOUT);
    CHECK_EQUAL(cf_board_take(&b, 3), 0);
    CHECK_EQUAL(cf_board_await(&b, 0, NULL, cf_now() + 1000000), CF_TIMEDOUT);
    cf_board_finish(&b, 0, true, -1);
    CHECK_EQUAL(cf_board_await(&b, 0, NULL, CF_NO_WAIT), CF_OK);
    CHECK(cf_load_relaxed(&cf_board_slot(&b, 0)->word) & CF_SLOT_FAILED);
    CHECK(cf_board_cancel(&b, 1));
    CHECK_EQUAL(cf_board_await(&b, 1, &spin, CF_FOREVER), CF_OK);
    cf_board_free(&b, 0);
    CHECK_EQUAL(cf_load_relaxed(&cf_board_slot(&b, 0)->word), 1u << CF_SLOT_TURN_SHIFT);
    segment_drop(&the_segment);
}

static void
only_what_the_dead_had_taken_can_be_failed(void)
{
    cf_board b;
    open_board(&b, 4, 4);
    CHECK(!cf_board_fail(&b, 0, 0));
    push(&b, 0);
    CHECK(!cf_board_fail(&b, 0, 0));
    CHECK_EQUAL(cf_board_take(&b, 2), 0);
    CHECK(!cf_board_fail(&b, 0, 0));
    CHECK(cf_board_fail(&b, 0, 2));
    CHECK_EQUAL(state_of(&b, 0), CF_SLOT_DONE);
    CHECK(cf_load_relaxed(&cf_board_slot(&b, 0)->word) & CF_SLOT_FAILED);
    CHECK(!cf_board_fail(&b, 0, 2));
    segment_drop(&the_segment);
}

static void
announced_slots_come_in_order_in_as_many_pieces_as_asked_for(void)
{
    cf_board b;
    uint32_t rest = 0, numbers[8];
    bool corrupt = false;
    open_board(&b, 8, 1);
    CHECK_EQUAL(cf_board_announced(&b, &rest, numbers, 8, &corrupt), 0);
    CHECK(cf_board_manager_sleeps(&b));
    cf_board_manager_wakes(&b);
    for (uint32_t i = 0; i < 8; i++) {
        push(&b, i);
        if (i % 2 == 0) {
            CHECK_EQUAL(cf_board_watch(&b, i) & CF_SLOT_STATE, CF_SLOT_QUEUED);
        }
    }
    for (uint32_t i = 0; i < 8; i++) {
        CHECK_EQUAL(cf_board_take(&b, 0), i);
        if (i == 6) {
            /* What fails because its worker died is announced, too. */
            CHECK(cf_board_fail(&b, i, 0));
        }
        else {
            cf_board_finish(&b, i, false, -1);
        }
    }
    /* Too late: the word says so, and it is not announced. */
    CHECK_EQUAL(cf_board_watch(&b, 1) & CF_SLOT_STATE, CF_SLOT_DONE);
    CHECK(!cf_board_manager_sleeps(&b));
    CHECK_EQUAL(cf_load_relaxed(&b.shared->manager_asleep), 0);
    CHECK_EQUAL(cf_board_announced(&b, &rest, numbers, 1, &corrupt), 1);
    CHECK_EQUAL(numbers[0], 0);
    CHECK(!cf_board_manager_sleeps(&b));
    CHECK_EQUAL(cf_board_announced(&b, &rest, numbers, 8, &corrupt), 3);
    CHECK_EQUAL(numbers[0], 2);
    CHECK_EQUAL(numbers[1], 4);
    CHECK_EQUAL(numbers[2], 6);
    CHECK_EQUAL(cf_board_announced(&b, &rest, numbers, 8, &corrupt), 0);
    CHECK(cf_board_manager_sleeps(&b));
    CHECK(!corrupt);
    segment_drop(&the_segment);
}

static bool
rings(int bell)
{
    bool ready;
    bool rang = cf_poll(&bell, &ready, 1, CF_NO_WAIT) == CF_OK;
    cf_bell_silence(bell);
    return rang;
}

static void
the_bell_rings_once_and_only_if_the_manager_sleeps(void)
{
    cf_board b;
    uint32_t rest = 0, numbers[4];
    bool corrupt = false;
    open_board(&b, 4, 1);
    int bell = cf_bell_open();
    for (int asleep = 0; asleep < 2; asleep++) {
        for (uint32_t i = 0; i < 2; i++) {
            push(&b, i);
            cf_board_watch(&b, i);
        }
        if (asleep) {
            CHECK(cf_board_manager_sleeps(&b));
        }
        cf_board_finish(&b, cf_board_take(&b, 0), false, bell);
        CHECK_EQUAL(rings(bell), asleep);
        cf_board_finish(&b, cf_board_take(&b, 0), false, bell);
        CHECK(!rings(bell));
        CHECK_EQUAL(cf_board_announced(&b, &rest, numbers, 4, &corrupt), 2);
        for (uint32_t i = 0; i < 2; i++) {
            cf_board_free(&b, i);
        }
    }
    CHECK(cf_board_manager_sleeps(&b));
    push(&b, 0);
    cf_board_finish(&b, cf_board_take(&b, 0), false, bell);
    CHECK(!rings(bell));        /* nobody watches it */
    cf_board_enlist(&b, 0);
    CHECK(!cf_board_is_last(&b, 0));
    cf_board_last(&b, 0, bell);
    CHECK(cf_board_is_last(&b, 0));
    CHECK(rings(bell));
    close(bell);
    segment_drop(&the_segment);
}

static void
a_worker_is_idle_from_enlisting_to_taking_and_from_then_on_as_it_says(void)
{
    cf_board b;
    open_board(&b, 4, 3);
    CHECK_EQUAL(cf_board_idle(&b, 3), 0);
    cf_board_enlist(&b, 0);
    cf_board_enlist(&b, 2);
    CHECK_EQUAL(cf_board_idle(&b, 3), 2);
    CHECK_EQUAL(cf_board_idle(&b, 99), 2);
    CHECK_EQUAL(cf_board_idle(&b, 1), 1);
    push(&b, 0);
    push(&b, 1);
    CHECK_EQUAL(cf_board_take(&b, 0), 0);
    CHECK_EQUAL(cf_board_idle(&b, 3), 1);
    cf_board_busy(&b, 0, false);
    CHECK_EQUAL(cf_board_idle(&b, 3), 2);
    cf_board_finish(&b, 0, false, -1);
    CHECK_EQUAL(cf_board_take(&b, 0), 1);
    CHECK_EQUAL(cf_board_idle(&b, 3), 1);
    cf_board_finish(&b, 1, false, -1);
    CHECK_EQUAL(cf_board_take(&b, 0), CF_NO_SLOT);
    CHECK_EQUAL(cf_board_idle(&b, 3), 2);
    cf_board_last(&b, 0, -1);
    CHECK_EQUAL(cf_board_idle(&b, 3), 1);
    cf_board_dismiss(&b, 2);
    CHECK_EQUAL(cf_board_idle(&b, 3), 0);
    cf_board_bury(&b, 2);
    cf_board_enlist(&b, 2);
    CHECK_EQUAL(cf_board_idle(&b, 3), 1);
    cf_board_bury(&b, 0);
    cf_board_enlist(&b, 0);
    CHECK(!cf_board_is_last(&b, 0));
    CHECK_EQUAL(cf_board_idle(&b, 3), 2);
    segment_drop(&the_segment);
}

static void
work_has_begun_when_one_of_those_that_live_is_ready(void)
{
    cf_board b;
    open_board(&b, 4, 3);
    CHECK(!cf_board_begun(&b, 3));
    cf_board_enlist(&b, 0);
    cf_board_enlist(&b, 2);
    CHECK(!cf_board_begun(&b, 3));
    cf_board_begin(&b, 2);
    CHECK(cf_board_begun(&b, 3));
    CHECK(cf_board_begun(&b, 99));
    CHECK(!cf_board_begun(&b, 2));
    cf_board_bury(&b, 2);
    CHECK(!cf_board_begun(&b, 3));
    cf_board_enlist(&b, 2);
    CHECK(!cf_board_begun(&b, 3));
    cf_board_begin(&b, 0);
    CHECK(cf_board_begun(&b, 3));
    segment_drop(&the_segment);
}

static void
what_workers_ended_is_counted_beyond_their_end(void)
{
    cf_board b;
    open_board(&b, 4, 3);
    int64_t since = cf_now_coarse() - 1;
    cf_board_enlist(&b, 0);
    cf_board_enlist(&b, 2);
    push(&b, 0);
    CHECK_EQUAL(cf_board_take(&b, 2), 0);
    CHECK_EQUAL(cf_board_count_up(&b, since).running, 1);
    cf_board_ended(&b, 2, true);
    cf_board_ended(&b, 0, false);
    cf_board_busy(&b, 2, false);
    cf_board_finish(&b, 0, true, -1);
    cf_board_tally tally = cf_board_count_up(&b, since);
    CHECK_EQUAL(tally.ended, 2);
    CHECK_EQUAL(tally.failed, 1);
    CHECK_EQUAL(tally.running, 0);
    /* A worker that dies at work is not at work any more, and its successor goes on. */
    cf_board_active(&b, 2, true);
    cf_board_active(&b, 2, true);
    cf_board_busy(&b, 2, true);
    CHECK_EQUAL(cf_load_relaxed(&b.shared->activity.present), 1);
    cf_board_bury(&b, 2);
    CHECK_EQUAL(cf_load_relaxed(&b.shared->activity.present), 0);
    CHECK_EQUAL(cf_board_count_up(&b, since).running, 0);
    cf_board_enlist(&b, 2);
    cf_board_ended(&b, 2, false);
    CHECK_EQUAL(cf_board_count_up(&b, since).ended, 3);
    segment_drop(&the_segment);
}

static void
who_is_dismissed_takes_nothing_and_leaves(void)
{
    cf_board b;
    open_board(&b, 4, 2);
    cf_board_enlist(&b, 0);
    cf_board_enlist(&b, 1);
    push(&b, 0);
    cf_board_dismiss(&b, 0);
    CHECK_EQUAL(cf_board_take(&b, 0), CF_NO_SLOT);
    CHECK_EQUAL(cf_board_wait(&b, 0), CF_TIMEDOUT);
    CHECK_EQUAL(cf_board_wait(&b, 1), CF_OK);
    CHECK_EQUAL(cf_load_relaxed(&b.shared->token), 2);
    cf_board_close(&b);
    /* Closed: what is there is still taken. */
    CHECK_EQUAL(cf_board_wait(&b, 1), CF_OK);
    CHECK_EQUAL(cf_board_take(&b, 1), 0);
    CHECK_EQUAL(cf_load_relaxed(&b.shared->token), 0);
    CHECK_EQUAL(cf_board_take(&b, 1), CF_NO_SLOT);
    CHECK_EQUAL(cf_board_wait(&b, 1), CF_TIMEDOUT);
    segment_drop(&the_segment);
}

static void
nobody_can_rely_on_who_is_about_to_sleep_or_has_slept_long_enough(void)
{
    cf_board b;
    open_board(&b, 4, 2);
    cf_board_enlist(&b, 0);
    b.spin.limit = 0;
    CHECK_EQUAL(cf_board_spin(&b, 0), CF_AGAIN);
    CHECK_EQUAL(b.shared->token, 0);
    cf_deadline soon = cf_now() + 1000000;
    CHECK_EQUAL(cf_board_sleep(&b, 0, soon), CF_AGAIN);
    CHECK(cf_now() >= soon);
    CHECK_EQUAL(b.shared->token, 0);
    CHECK_EQUAL(b.shared->parked[0], 0);
    CHECK_EQUAL(b.records[0].berth, AWAKE);
    push(&b, 0);
    CHECK_EQUAL(cf_board_sleep(&b, 0, CF_FOREVER), CF_OK);
    CHECK_EQUAL(b.shared->token, 0 + 1);
    CHECK_EQUAL(cf_board_spin(&b, 0), CF_OK);
    CHECK_EQUAL(b.shared->token, 0 + 1);
    CHECK_EQUAL(cf_board_take(&b, 0), 0);
    CHECK_EQUAL(b.shared->token, 0);
    segment_drop(&the_segment);
}

typedef struct {
    cf_board *board;
    uint32_t number;
} waiter;

static void *
wait_to_leave(void *arg)
{
    waiter *w = arg;
    CHECK_EQUAL(cf_board_wait(w->board, w->number), CF_TIMEDOUT);
    return NULL;
}

static void *
sleep_until_roused(void *arg)
{
    waiter *w = arg;
    CHECK_EQUAL(cf_board_sleep(w->board, w->number, CF_FOREVER), CF_OK);
    return NULL;
}

static void
who_sleeps_can_be_roused_for_nothing(void)
{
    cf_board b;
    open_board(&b, 4, 2);
    cf_board_enlist(&b, 1);
    cf_board_rouse(&b, 1);                      /* starting: it does nothing */
    CHECK_EQUAL(b.records[1].berth, STARTING);
    cf_board_begin(&b, 1);
    cf_board_rouse(&b, 1);                      /* awake: it does nothing */
    CHECK_EQUAL(b.records[1].berth, AWAKE);
    waiter w = {&b, 1};
    pthread_t thread = start(sleep_until_roused, &w);
    while (cf_load_seq(&b.shared->parked[0]) == 0) {
        cf_yield();
    }
    cf_board_rouse(&b, 1);
    join(thread);
    CHECK_EQUAL(b.shared->token, 0);
    CHECK_EQUAL(b.shared->parked[0], 0);
    CHECK_EQUAL(b.records[1].berth, AWAKE);
    segment_drop(&the_segment);
}

static void
who_stayed_for_the_last_task_leaves_when_another_takes_it(void)
{
    cf_board b;
    open_board(&b, 4, 3);
    cf_board_enlist(&b, 1);
    cf_board_enlist(&b, 2);
    push(&b, 0);
    cf_board_close(&b);
    cf_store_seq(&b.shared->token, 2 + 1);      /* worker 2 searches */
    waiter w = {&b, 1};
    pthread_t thread = start(wait_to_leave, &w);
    while (cf_load_seq(&b.shared->parked[0]) == 0) {
        cf_yield();
    }
    CHECK_EQUAL(cf_board_take(&b, 2), 0);
    join(thread);
    CHECK_EQUAL(b.shared->token, 0);
    segment_drop(&the_segment);
}

/* ---- scribbled memory ---- */

static void
a_list_of_announced_slots_may_be_anything(void)
{
    cf_board b;
    prng r = prng_new();
    for (int i = rounds(20000); i > 0; i--) {
        const uint32_t slots = 8;
        open_board(&b, slots, 1);
        for (uint32_t k = 0; k < slots; k++) {
            cf_store_relaxed(&cf_board_slot(&b, k)->next,
                             prng_below(&r, 20) ? prng_below(&r, slots + 1)
                                                : prng_below(&r, UINT32_MAX));
        }
        uint32_t top = prng_below(&r, 10) ? 1 + prng_below(&r, slots) : UINT32_MAX;
        cf_store_relaxed(&b.shared->announced, top);
        /* What is true of it. */
        uint32_t length = 0, at = top;
        while (at != 0 && at <= slots && length <= slots) {
            at = cf_load_relaxed(&cf_board_slot(&b, at - 1)->next);
            length++;
        }
        bool cyclic = length > slots, ends_well = at == 0;
        uint32_t rest = 0, numbers[3], told = 0, last = CF_NO_SLOT;
        bool corrupt = false;
        size_t count;
        while ((count = cf_board_announced(&b, &rest, numbers, 3, &corrupt)) > 0) {
            for (size_t k = 0; k < count; k++) {
                CHECK(numbers[k] < slots);
                last = numbers[k];
            }
            told += (uint32_t)count;
        }
        CHECK_EQUAL(corrupt, !ends_well);
        CHECK_EQUAL(told, cyclic ? 0 : length);
        CHECK(told == 0 || last == top - 1);
        CHECK_EQUAL(rest, 0);
        CHECK(cf_board_manager_sleeps(&b));
        segment_drop(&the_segment);
    }
}

static void
a_list_that_changes_while_it_is_read_ends(void)
{
    cf_board b;
    uint32_t rest = 0, numbers[8];
    for (int how = 0; how < 2; how++) {
        bool corrupt = false;
        open_board(&b, 8, 1);
        for (uint32_t i = 0; i < 4; i++) {
            cf_store_relaxed(&cf_board_slot(&b, i)->next, i);
        }
        cf_store_relaxed(&b.shared->announced, 4);
        CHECK_EQUAL(cf_board_announced(&b, &rest, numbers, 1, &corrupt), 1);
        CHECK_EQUAL(numbers[0], 0);
        CHECK(!corrupt);
        cf_store_relaxed(&cf_board_slot(&b, 2)->next, how ? 3 : 77);
        CHECK_EQUAL(cf_board_announced(&b, &rest, numbers, 8, &corrupt), how ? 3 : 2);
        CHECK_EQUAL(cf_board_announced(&b, &rest, numbers, 8, &corrupt), 0);
        CHECK(corrupt);
        CHECK_EQUAL(rest, 0);
        CHECK(cf_board_manager_sleeps(&b));
        segment_drop(&the_segment);
    }
}

static void
words_that_cannot_be_are_found_out(void)
{
    cf_board b;
    open_board(&b, 4, 2);
    for (uint32_t state = 0; state <= CF_SLOT_STATE; state++) {
        cf_word *word = &cf_board_slot(&b, 0)->word;
        cf_store_relaxed(word, state | 0xfff00 | CF_SLOT_SLEEPERS);
        bool ended = state == CF_SLOT_DONE || state == CF_SLOT_CANCELLED;
        bool waits = state == CF_SLOT_QUEUED || state == CF_SLOT_TAKEN;
        CHECK_EQUAL(cf_board_await(&b, 0, NULL, cf_now()),
                    ended ? CF_OK : waits ? CF_TIMEDOUT : CF_CORRUPT);
        CHECK_EQUAL(cf_board_push(&b, 0), state == CF_SLOT_FREE ? CF_OK : CF_CORRUPT);
    }
    segment_drop(&the_segment);

    /* A head that is ahead of the tail, or too far behind it. */
    open_board(&b, 4, 2);
    cf_board_enlist(&b, 0);
    cf_store_relaxed(&b.shared->head, 1);
    CHECK_EQUAL(cf_board_length(&b), 0);
    CHECK_EQUAL(cf_board_advance(&b), 0);
    CHECK_EQUAL(cf_board_take(&b, 0), CF_NO_SLOT);
    cf_store_relaxed(&b.shared->head, UINT64_MAX - 5);
    for (uint32_t i = 0; i < 4; i++) {
        push(&b, i);        /* it looks at the head when the ring may be full */
    }
    CHECK_EQUAL(cf_board_cancel(&b, 0), true);
    cf_board_free(&b, 0);
    CHECK_EQUAL(cf_board_push(&b, 0), CF_CORRUPT);
    CHECK_EQUAL(cf_board_advance(&b), 0);
    CHECK_EQUAL(cf_board_length(&b), 0);
    segment_drop(&the_segment);

    /* Entries that name no slot, or none that waits, are passed. */
    open_board(&b, 4, 2);
    push(&b, 0);
    push(&b, 1);
    cf_store_relaxed(&b.order[0], (uint64_t)1 << 32 | 4);
    CHECK_EQUAL(cf_board_advance(&b), 1);
    cf_store_relaxed(&b.order[1], UINT64_MAX);
    CHECK_EQUAL(cf_board_take(&b, 0), CF_NO_SLOT);
    CHECK_EQUAL(cf_board_length(&b), 0);
    segment_drop(&the_segment);
}

/* Any word of the board becomes anything. */
static void
scribble(cf_board *b, prng *r, int words)
{
    for (; words > 0; words--) {
        uint32_t value = prng_below(r, 3) == 0 ? prng_below(r, 20)
                         : prng_below(r, 2)    ? prng_below(r, UINT32_MAX)
                                               : 1u << prng_below(r, 32);
        cf_word *word;
        switch (prng_below(r, 4)) {
        case 0:
            word = (cf_word *)b->shared + prng_below(r, sizeof *b->shared / 4);
            if (prng_below(r, 2)) {
                cf_word *often[] = {&b->shared->token, &b->shared->announced,
                                    &b->shared->enlisted, (cf_word *)&b->shared->head,
                                    (cf_word *)&b->shared->tail,
                                    (cf_word *)&b->shared->parked[0]};
                word = often[prng_below(r, 6)];
            }
            break;
        case 1:
            word = (cf_word *)b->records + prng_below(r, b->workers * CF_RECORD_BYTES / 4);
            break;
        case 2:
            word = (cf_word *)b->order + prng_below(r, b->count * 2);
            break;
        default:
            word = prng_below(r, 2) ? &cf_board_slot(b, prng_below(r, b->count))->word
                                    : &cf_board_slot(b, prng_below(r, b->count))->next;
            break;
        }
        cf_store_relaxed(word, value);
    }
}

typedef struct {
    cf_board *board;
    cf_word stop;
} scribbler;

static void *
scribble_on(void *arg)
{
    scribbler *x = arg;
    prng r = prng_new();
    while (!cf_load_acquire(&x->stop)) {
        scribble(x->board, &r, 1);
        prng_dawdle(&r);
    }
    return NULL;
}

/* One of the things that the parent does. */
static void
do_something(cf_board *b, prng *r, uint32_t *rest, bool *corrupt)
{
    uint32_t slot = prng_below(r, b->count), number = prng_below(r, b->workers);
    uint32_t numbers[4];
    cf_status status;
    switch (prng_below(r, 14)) {
    case 0: case 1: case 2:
        status = cf_board_push(b, slot);
        CHECK(status == CF_OK || status == CF_AGAIN || status == CF_CORRUPT);
        cf_board_notify(b);
        break;
    case 3:
        CHECK(cf_board_advance(b) <= b->count);
        break;
    case 4:
        cf_board_cancel(b, slot);
        break;
    case 5:
        cf_board_fail(b, slot, number);
        break;
    case 6:
        cf_board_watch(b, slot);
        break;
    case 7:
        cf_board_free(b, slot);
        break;
    case 8:
        status = cf_board_await(b, slot, NULL, cf_now() + prng_below(r, 2000));
        CHECK(status == CF_OK || status == CF_TIMEDOUT || status == CF_CORRUPT);
        break;
    case 9:
        for (size_t n = cf_board_announced(b, rest, numbers, 4, corrupt); n > 0; n--) {
            CHECK(numbers[n - 1] < b->count);
        }
        break;
    case 10:
        cf_board_bury(b, number);
        break;
    case 11:
        cf_board_enlist(b, number);
        break;
    case 12:
        CHECK(cf_board_idle(b, b->workers) <= b->workers);
        cf_board_is_last(b, number);
        if (prng_below(r, 2)) {
            cf_board_dismiss(b, number);
        }
        break;
    default:
        CHECK(cf_board_length(b) <= b->count);
        cf_board_manager_sleeps(b);
        cf_board_wake(b, slot);
        break;
    }
}

static void
whatever_is_scribbled_the_parent_stays_in_its_memory_and_comes_back(void)
{
    prng r = prng_new();
    for (int i = rounds(600); i > 0; i--) {
        cf_board b;
        open_board(&b, 16, 70);
        scribbler x = {&b, 0};
        pthread_t thread = start(scribble_on, &x);
        uint32_t rest = 0;
        bool corrupt = false;
        for (int k = 0; k < 2000; k++) {
            do_something(&b, &r, &rest, &corrupt);
            /* As a worker does, who reads the same words. */
            uint32_t slot = cf_board_take(&b, prng_below(&r, 70));
            CHECK(slot == CF_NO_SLOT || slot < 16);
            if (slot != CF_NO_SLOT) {
                cf_board_finish(&b, slot, false, -1);
            }
        }
        cf_store_release(&x.stop, 1);
        join(thread);
        segment_drop(&the_segment);
    }
}

int
main(void)
{
    RUN(tasks_are_taken_in_order_and_once);
    RUN(a_slot_can_be_used_any_number_of_times);
    RUN(cancelled_tasks_fill_the_ring_until_the_head_moves);
    RUN(an_entry_of_an_earlier_turn_is_passed);
    RUN(who_waits_learns_how_it_ended);
    RUN(only_what_the_dead_had_taken_can_be_failed);
    RUN(announced_slots_come_in_order_in_as_many_pieces_as_asked_for);
    RUN(the_bell_rings_once_and_only_if_the_manager_sleeps);
    RUN(a_worker_is_idle_from_enlisting_to_taking_and_from_then_on_as_it_says);
    RUN(work_has_begun_when_one_of_those_that_live_is_ready);
    RUN(what_workers_ended_is_counted_beyond_their_end);
    RUN(who_is_dismissed_takes_nothing_and_leaves);
    RUN(nobody_can_rely_on_who_is_about_to_sleep_or_has_slept_long_enough);
    RUN(who_sleeps_can_be_roused_for_nothing);
    RUN(who_stayed_for_the_last_task_leaves_when_another_takes_it);
    RUN(a_list_of_announced_slots_may_be_anything);
    RUN(a_list_that_changes_while_it_is_read_ends);
    RUN(words_that_cannot_be_are_found_out);
    RUN(whatever_is_scribbled_the_parent_stays_in_its_memory_and_comes_back);
    return finish_tests();
}
