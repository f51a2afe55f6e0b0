/* ipc/queue.h in one process: order, bound, growing, waiting, giving back. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <unistd.h>

#include "plat/wait.h"
#include "queue_kit.h"

static void
items_come_out_in_order(void)
{
    member *m = member_new(0, 3);
    uint64_t value = 0;
    CHECK_EQUAL(take_value(m, &value), CF_AGAIN);
    for (uint64_t i = 0; i < 100; i++) {
        CHECK_EQUAL(cf_queue_length(m->queue), i);
        CHECK_EQUAL(put_value(m, i, i % 3), CF_OK);
    }
    for (uint64_t i = 0; i < 100; i++) {
        CHECK_EQUAL(cf_queue_length(m->queue), 100 - i);
        CHECK_EQUAL(take_value(m, &value), CF_OK);
        CHECK_EQUAL(value, i);
    }
    CHECK(!cf_queue_ready(m->queue, CF_QUEUE_ITEM));
    CHECK_EQUAL(member_live(m), 0);
    member_leave(m);
}

static void
the_bound_is_exact(void)
{
    for (uint64_t bound = 1; bound < 9; bound++) {
        member *m = member_new(bound, 3);
        uint64_t value = 0, in = 0, out = 0;
        for (int round = 0; round < 50; round++) {
            while (cf_queue_ready(m->queue, CF_QUEUE_ROOM)) {
                CHECK_EQUAL(put_value(m, in++, 0), CF_OK);
            }
            CHECK_EQUAL(in - out, bound);
            CHECK_EQUAL(put_value(m, 99, 2), CF_AGAIN);
            for (uint64_t i = 0; i <= (uint64_t)round % bound; i++) {
                CHECK_EQUAL(take_value(m, &value), CF_OK);
                CHECK_EQUAL(value, out++);
            }
        }
        while (take_value(m, &value) == CF_OK) {
            CHECK_EQUAL(value, out++);
        }
        CHECK_EQUAL(in, out);
        CHECK_EQUAL(member_live(m), 0);
        member_leave(m);
    }
}

static void
rings_grow_until_the_last_is_full(void)
{
    member *m = member_new(0, 2);       /* 4, 8, 16 and 32 entries */
    uint64_t value = 0, count = 0, out = 0;
    while (put_value(m, count, 0) == CF_OK) {
        count++;
    }
    /* All but a link each in the first three. */
    CHECK_EQUAL(count, 3 + 7 + 15 + 32);
    CHECK_EQUAL(cf_queue_length(m->queue), count);
    for (int i = 0; i < 300; i++) {
        CHECK_EQUAL(take_value(m, &value), CF_OK);
        CHECK_EQUAL(value, out++);
        CHECK_EQUAL(put_value(m, count, 0), cf_queue_length(m->queue) < 32 ? CF_OK
                                                                           : CF_AGAIN);
        count = out + cf_queue_length(m->queue);
    }
    while (take_value(m, &value) == CF_OK) {
        CHECK_EQUAL(value, out++);
    }
    CHECK_EQUAL(out, count);
    CHECK_EQUAL(member_live(m), 0);
    member_leave(m);
}

static void
an_entry_that_is_being_taken_is_waited_for(void)
{
    /* Two entries to spare: the bound is 2, so there are 4. */
    member *m = member_new(2, 1);
    cf_queue_head *shared = m->queue->shared;
    uint64_t value = 0;
    CHECK_EQUAL(put_value(m, 1, 0), CF_OK);
    cf_entry64 *entry = cf_queue_ring(m->queue, 0);
    /* As if somebody was slow. */
    uint64_t item = cf_load_seq(entry);
    cf_store_seq(entry, cf_entry_taken(item, 9));
    for (uint64_t i = 2; i < 5; i++) {
        CHECK_EQUAL(put_value(m, i, 0), CF_OK);
        CHECK_EQUAL(take_value(m, &value), CF_OK);
        CHECK_EQUAL(value, i);
    }
    CHECK_EQUAL(put_value(m, 5, 0), CF_AGAIN);
    CHECK(!cf_queue_ready(m->queue, CF_QUEUE_ROOM));
    CHECK(!cf_queue_ready(m->queue, CF_QUEUE_ITEM));
    CHECK_EQUAL(take_value(m, &value), CF_AGAIN);
    CHECK_EQUAL(cf_queue_length(m->queue), 0);
    cf_store_seq(entry, cf_entry_taken(item, m->queue->number));
    cf_taken taken;
    CHECK_EQUAL(cf_queue_receive(m->queue, entry, 0, &taken, false), CF_OK);
    CHECK_EQUAL(item_read(m, &taken), 1);
    CHECK_EQUAL(put_value(m, 5, 0), CF_OK);
    CHECK_EQUAL(take_value(m, &value), CF_OK);
    CHECK_EQUAL(value, 5);
    CHECK_EQUAL(shared->head, shared->tail);
    CHECK_EQUAL(member_live(m), 0);
    member_leave(m);
}

static void
waiting_ends_at_the_deadline(void)
{
    member *m = member_new(1, 2);
    cf_deadline until = cf_now() + 20000000;
    CHECK(!wait_for(m, CF_QUEUE_ITEM, true, until));
    CHECK(cf_now() >= until);
    CHECK(!wait_for(m, CF_QUEUE_ITEM, false, CF_NO_WAIT));
    CHECK_EQUAL(put_value(m, 1, 0), CF_OK);
    CHECK(wait_for(m, CF_QUEUE_ITEM, false, CF_NO_WAIT));
    CHECK(!wait_for(m, CF_QUEUE_ROOM, false, cf_now() + 1000000));
    member_leave(m);
}

/* ---- threads of one member ---- */

enum { PRODUCERS = 3, CONSUMERS = 3 };

typedef struct {
    member *m;
    uint64_t who, count;
    uint64_t taken[PRODUCERS];          /* by a consumer: the last number of each, and 1 */
    uint64_t items;
} worker;

static void *
produce(void *arg)
{
    worker *w = arg;
    prng r = prng_new();
    for (uint64_t i = 1; i <= w->count; i++) {
        put_waiting(w->m, w->who << 32 | i, prng_below(&r, 20) == 0, prng_below(&r, 2));
        if (prng_below(&r, 50) == 0) {
            prng_dawdle(&r);
        }
    }
    return NULL;
}

static void *
consume(void *arg)
{
    worker *w = arg;
    prng r = prng_new();
    for (;;) {
        uint64_t value = take_waiting(w->m, prng_below(&r, 2));
        uint64_t who = value >> 32, number = value & 0xffffffff;
        if (number == 0) {
            return NULL;
        }
        CHECK(who < PRODUCERS && number > w->taken[who]);
        w->taken[who] = number;
        w->items++;
        if (prng_below(&r, 50) == 0) {
            prng_dawdle(&r);
        }
    }
}

static void
run_threads(uint64_t bound, unsigned first, uint64_t count)
{
    member *m = member_new(bound, first);
    worker workers[PRODUCERS + CONSUMERS] = {0};
    pthread_t threads[PRODUCERS + CONSUMERS];
    for (int i = 0; i < PRODUCERS + CONSUMERS; i++) {
        workers[i] = (worker){.m = m, .who = (uint64_t)i, .count = count};
        threads[i] = start(i < PRODUCERS ? produce : consume, &workers[i]);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        join(threads[i]);
    }
    for (int i = 0; i < CONSUMERS; i++) {
        put_waiting(m, 0, 0, false);
    }
    uint64_t items = 0;
    for (int i = PRODUCERS; i < PRODUCERS + CONSUMERS; i++) {
        join(threads[i]);
        items += workers[i].items;
    }
    CHECK_EQUAL(items, PRODUCERS * count);
    CHECK_EQUAL(member_live(m), 0);
    member_leave(m);
}

static void
threads_get_each_item_once_and_in_order(void)
{
    run_threads(1, 1, (uint64_t)rounds(2000));
    run_threads(2, 1, (uint64_t)rounds(5000));
    run_threads(100, 1, (uint64_t)rounds(20000));
    run_threads(0, 6, (uint64_t)rounds(150));
}

/* ---- members ---- */

static void
a_member_that_leaves_gives_its_number_back(void)
{
    member *m = member_new(0, 4);
    for (int i = 0; i < 100; i++) {
        member *other = member_attach(m->queue->seg->fd);
        CHECK_EQUAL(other->queue->number, 2);
        CHECK_EQUAL(put_value(other, 7, 1), CF_OK);
        uint64_t value = 0;
        CHECK_EQUAL(take_value(m, &value), CF_OK);
        CHECK_EQUAL(value, 7);
        member_leave(other);
    }
    member_leave(m);
}

static void
items_stay_when_their_producer_leaves(void)
{
    member *m = member_new(0, 4);
    member *other = member_attach(m->queue->seg->fd);
    for (uint64_t i = 0; i < 10; i++) {
        CHECK_EQUAL(put_value(other, i, i % 2), CF_OK);
    }
    member_leave(other);
    CHECK_EQUAL(CF_MEMBER_STATE(m->queue->members[2].who), CF_MEMBER_DEAD);
    for (uint64_t i = 0; i < 10; i++) {
        uint64_t value = 0;
        cf_queue_tend(m->queue);
        CHECK_EQUAL(CF_MEMBER_STATE(m->queue->members[2].who), CF_MEMBER_DEAD);
        CHECK_EQUAL(take_value(m, &value), CF_OK);
        CHECK_EQUAL(value, i);
    }
    cf_queue_tend(m->queue);
    CHECK_EQUAL(m->queue->members[2].who, CF_MEMBER_FREE);
    member_leave(m);
}

static void
a_view_keeps_the_arena_of_its_producer(void)
{
    member *m = member_new(0, 4);
    member *other = member_attach(m->queue->seg->fd);
    cf_taken taken;
    CHECK_EQUAL(put_value(other, 5, 1), CF_OK);
    CHECK_EQUAL(cf_queue_take(m->queue, &taken), CF_OK);
    member_leave(other);
    cf_queue_tend(m->queue);
    CHECK_EQUAL(CF_MEMBER_STATE(m->queue->members[2].who), CF_MEMBER_DEAD);
    CHECK_EQUAL(item_read(m, &taken), 5);
    cf_queue_tend(m->queue);
    CHECK_EQUAL(m->queue->members[2].who, CF_MEMBER_FREE);
    member_leave(m);
}

static void
numbers_run_out_and_come_back(void)
{
    member *m = member_new(0, 11);
    int count = 0;
    /* Each leaves an item: its number stays in use. */
    for (; count < (int)CF_QUEUE_MEMBERS - 2; count++) {
        member *other = member_attach(m->queue->seg->fd);
        put_value(other, (uint64_t)count, 0);
        member_leave(other);
    }
    cf_queue *last;
    cf_arena *arena;
    CHECK_EQUAL(cf_queue_attach(m->queue->seg->fd, &last), CF_OK);
    CHECK_EQUAL(cf_queue_join(last, &arena), CF_SYSTEM);
    CHECK_EQUAL(errno, EUSERS);
    uint64_t value = 0;
    CHECK_EQUAL(take_value(m, &value), CF_OK);
    CHECK_EQUAL(cf_queue_join(last, &arena), CF_OK);
    cf_arena_close(arena);
    cf_queue_leave(last);
    cf_queue_free(last);
    member_leave(m);
}

static void
what_is_no_queue_is_not_attached(void)
{
    cf_queue *queue;
    cf_segment *seg;
    cf_geometry geometry = {.slots = 64, .workers = 3, .arenas = 2,
                            .arena_bytes = (uint64_t)1 << 20};
    CHECK_EQUAL(cf_segment_create(&geometry, &seg), CF_OK);
    CHECK_EQUAL(cf_queue_attach(seg->fd, &queue), CF_CORRUPT);
    cf_segment_decref(seg);
    CHECK_EQUAL(cf_queue_attach(-1, &queue), CF_SYSTEM);
}

static void
a_damaged_item_is_told_and_passed(void)
{
    member *m = member_new(0, 3);
    uint64_t value = 0;
    uint32_t block = item_new(m, 1, 0);
    CHECK_EQUAL(cf_queue_put(m->queue, block), CF_OK);
    CHECK_EQUAL(put_value(m, 2, 0), CF_OK);
    cf_entry64 *entry = cf_queue_ring(m->queue, 0);
    cf_store_seq(entry, cf_entry_item(0, 1000, 77));
    CHECK_EQUAL(take_value(m, &value), CF_CORRUPT);
    CHECK_EQUAL(take_value(m, &value), CF_OK);
    CHECK_EQUAL(value, 2);
    block = item_new(m, 3, 0);
    const cf_block *b = cf_arena_table(m->queue->seg, m->queue->number) + block;
    cf_item *item = cf_segment_at(m->queue->seg,
                                  cf_arena_offset(m->queue->seg, m->queue->number)
                                  + (uint64_t)b->at * CF_BLOCK_UNIT);
    item->size = 1 << 30;
    CHECK_EQUAL(cf_queue_put(m->queue, block), CF_OK);
    CHECK_EQUAL(take_value(m, &value), CF_CORRUPT);
    block = item_new(m, 4, 0);
    item->table = 1;
    CHECK_EQUAL(cf_queue_put(m->queue, block), CF_OK);
    CHECK_EQUAL(take_value(m, &value), CF_CORRUPT);
    CHECK_EQUAL(take_value(m, &value), CF_AGAIN);
    member_leave(m);
}

int
main(void)
{
    RUN(items_come_out_in_order);
    RUN(the_bound_is_exact);
    RUN(rings_grow_until_the_last_is_full);
    RUN(an_entry_that_is_being_taken_is_waited_for);
    RUN(waiting_ends_at_the_deadline);
    RUN(threads_get_each_item_once_and_in_order);
    RUN(a_member_that_leaves_gives_its_number_back);
    RUN(items_stay_when_their_producer_leaves);
    RUN(a_view_keeps_the_arena_of_its_producer);
    RUN(numbers_run_out_and_come_back);
    RUN(what_is_no_queue_is_not_attached);
    RUN(a_damaged_item_is_told_and_passed);
    return finish_tests();
}
