/* ipc/block.h: blocks that other threads and other processes have, and return. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "ipc/arena.h"
#include "plat/wait.h"

#define MIB ((uint64_t)1 << 20)

enum { BOXES = 64, RECEIVERS = 4 };

/* A letter box: EMPTY --owner puts a place--> FULL --a receiver takes it--> EMPTY. */
enum { EMPTY, FULL, TAKEN };

typedef struct {
    cf_word state;
    cf_place place;             /* who moved the state to EMPTY (owner) or TAKEN */
} box;

/* What the processes of a test share beside the segment. */
typedef struct {
    box boxes[BOXES];
    cf_word wrong;              /* blocks whose bytes were not as sent */
    cf_word closed;             /* no more will come, and the boxes are empty */
    cf_word progress;           /* blocks that a victim has done with */
} post;

static cf_segment *seg;
static cf_arena *arena;
static post *shared;

/* A worker's arena, or CF_ARENA_PARENT. */
static void
set_up(uint64_t arena_bytes, uint32_t number)
{
    cf_geometry geometry = {.slots = 64, .workers = 3, .arenas = 2, .arena_bytes = arena_bytes};
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                  -1, 0);
    if (shared == MAP_FAILED || cf_segment_create(&geometry, &seg) != CF_OK
        || cf_arena_open(seg, number, &arena) != CF_OK) {
        perror("set_up");
        abort();
    }
}

static void
tear_down(void)
{
    cf_arena_close(arena);
    cf_segment_decref(seg);
    munmap(shared, sizeof *shared);
}

static uint64_t
live(void)
{
    uint64_t in_use, idle;
    cf_arena_trim(arena, UINT64_MAX);           /* only to look at the stack */
    cf_arena_usage(arena, &in_use, &idle);
    return in_use;
}

/* ---- receivers ---- */

static bool
bytes_are(const cf_segment *view, const cf_place *place)
{
    /* The first and the last say which block and how large. */
    const uint32_t *words = cf_segment_at(view, place->offset);
    uint64_t count = place->size / 4;
    return words[0] == place->block && words[count - 1] == (uint32_t)place->size;
}

/* Take one out of a box; false: closed. */
static bool
take(cf_place *place, prng *r)
{
    while (!cf_load_acquire(&shared->closed)) {
        box *b = &shared->boxes[prng_below(r, BOXES)];
        uint32_t state = FULL;
        if (atomic_compare_exchange_strong_explicit(
            &b->state, &state, TAKEN, memory_order_acquire, memory_order_relaxed)) {
            *place = b->place;
            cf_store_release(&b->state, EMPTY);
            return true;
        }
        sched_yield();
    }
    return false;
}

/* Receive, keep some for a while, return. */
static void
receive(cf_segment *view, uint32_t holder, prng *r)
{
    enum { KEPT = 6 };
    cf_place kept[KEPT], place;
    uint32_t count = 0;
    bool open = true;
    while (open || count > 0) {
        open = open && take(&place, r);
        if (count > 0 && (!open || count == KEPT || prng_below(r, 2))) {
            uint32_t i = prng_below(r, count);
            cf_place old = kept[i];
            kept[i] = kept[--count];
            bool ok = cf_place_valid(view, &old) && bytes_are(view, &old);
            atomic_fetch_add(&shared->wrong, !ok);
            cf_block_return(view, &old);
        }
        if (open) {
            bool ok = cf_place_valid(view, &place) && bytes_are(view, &place);
            if (prng_below(r, 2)) {
                ok &= cf_block_adopt(view, &place, holder);
                kept[count++] = place;
            }
            else {
                cf_block_return(view, &place);
            }
            atomic_fetch_add(&shared->wrong, !ok);
        }
    }
}

/* ---- the owner ---- */

static bool
post_one(const cf_place *place, prng *r)
{
    box *b = &shared->boxes[prng_below(r, BOXES)];
    if (cf_load_acquire(&b->state) != EMPTY) {
        return false;
    }
    b->place = *place;
    cf_store_release(&b->state, FULL);
    return true;
}

/* Send `count` blocks; some are not sent but freed by the owner. */
static void
send_many(int count, prng *r)
{
    while (count > 0) {
        cf_place place;
        bool warm;
        uint64_t size = 8 + 4 * prng_below(r, prng_below(r, 8) ? 100 : 20000);
        if (cf_arena_alloc(arena, size, &place, &warm) != CF_OK) {
            sched_yield();                      /* full of what is not returned yet */
            continue;
        }
        uint32_t first = place.block, last = (uint32_t)size;
        CHECK_EQUAL(cf_arena_fill(arena, &place, warm, 0, &first, 4), CF_OK);
        CHECK_EQUAL(cf_arena_fill(arena, &place, warm, size - 4, &last, 4), CF_OK);
        if (prng_below(r, 8) == 0 || !post_one(&place, r)) {
            cf_arena_free(arena, place.block);
            sched_yield();
            continue;
        }
        count--;
    }
    for (int i = 0; i < BOXES; i++) {
        while (cf_load_acquire(&shared->boxes[i].state) != EMPTY) {
            sched_yield();
        }
    }
    cf_store_release(&shared->closed, 1);
}

static void *
receiver_thread(void *arg)
{
    prng r = prng_new();
    receive(seg, (uint32_t)(uintptr_t)arg, &r);
    return NULL;
}

static void
threads_return_what_one_allocates(void)
{
    /* The small arena is full most of the time. */
    for (int k = 0; k < 2; k++) {
        set_up(k == 0 ? MIB : 64 * MIB, 1);
        prng r = prng_new();
        pthread_t threads[RECEIVERS];
        for (uintptr_t i = 0; i < RECEIVERS; i++) {
            threads[i] = start(receiver_thread, (void *)i);
        }
        send_many(rounds(20000), &r);
        for (int i = 0; i < RECEIVERS; i++) {
            join(threads[i]);
        }
        CHECK_EQUAL(cf_load_relaxed(&shared->wrong), 0);
        CHECK_EQUAL(live(), 0);
        tear_down();
    }
}

/* A process that has its own mapping of the segment. */
static pid_t
start_child(void (*body)(cf_segment *view, uint32_t number), uint32_t number)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        cf_segment *view;
        if (cf_segment_attach(seg->fd, &view) != CF_OK) {
            _exit(2);
        }
        body(view, number);
        cf_segment_decref(view);
        _exit(0);
    }
    return child;
}

static void
wait_for(pid_t child, int expected)
{
    int status = -1;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, expected);
}

static void
receiver_process(cf_segment *view, uint32_t number)
{
    /* Not prng_new(): the children's copies of its counter are all the same. */
    prng r = {number * 0x9e3779b97f4a7c15u + 1};
    receive(view, number, &r);
}

static void
processes_return_what_one_allocates(void)
{
    for (int k = 0; k < 2; k++) {
        set_up(k == 0 ? MIB : 64 * MIB, 1);
        prng r = prng_new();
        pid_t children[3];
        for (uint32_t i = 0; i < 3; i++) {
            children[i] = start_child(receiver_process, i);
        }
        send_many(rounds(20000), &r);
        for (int i = 0; i < 3; i++) {
            wait_for(children[i], 0);
        }
        CHECK_EQUAL(cf_load_relaxed(&shared->wrong), 0);
        CHECK_EQUAL(live(), 0);
        tear_down();
    }
}

/* ---- only one of two ---- */

typedef struct {
    cf_place *places;
    int count;
    bool adopt;
    uint32_t won;
    cf_word *gate;
} rival;

static void *
compete(void *arg)
{
    rival *v = arg;
    prng r = prng_new();
    for (int i = 0; i < v->count; i++) {
        /* Both are at the same block, nearly. */
        atomic_fetch_add(v->gate, 1);
        while (cf_load_acquire(v->gate) < 2 * (uint32_t)(i + 1)) {
            sched_yield();
        }
        prng_dawdle(&r);
        if (v->adopt) {
            v->won += cf_block_adopt(seg, &v->places[i], 1);
        }
        else {
            cf_block_return(seg, &v->places[i]);
        }
    }
    return NULL;
}

static void
of_two_that_do_the_same_one_does(void)
{
    for (int adopt = 0; adopt < 2; adopt++) {
        set_up(64 * MIB, 1);
        int count = rounds(5000);
        cf_place *places = calloc((size_t)count, sizeof *places);
        bool warm;
        for (int i = 0; i < count; i++) {
            CHECK_EQUAL(cf_arena_alloc(arena, 100, &places[i], &warm), CF_OK);
        }
        cf_word gate = 0;
        rival rivals[2];
        pthread_t threads[2];
        for (int i = 0; i < 2; i++) {
            rivals[i] = (rival){places, count, adopt, 0, &gate};
            threads[i] = start(compete, &rivals[i]);
        }
        join(threads[0]);
        join(threads[1]);
        if (adopt) {
            CHECK_EQUAL(rivals[0].won + rivals[1].won, count);
            cf_arena_reclaim(arena, 1);
        }
        CHECK_EQUAL(live(), 0);
        /* Each is on the list once: all are given out again before a new one is. */
        bool *seen = calloc((size_t)count, sizeof *seen);
        for (int i = 0; i < count; i++) {
            cf_place place;
            CHECK_EQUAL(cf_arena_alloc(arena, 100, &place, &warm), CF_OK);
            if (!CHECK(place.block < (uint32_t)count && !seen[place.block])) {
                break;
            }
            seen[place.block] = true;
        }
        free(seen);
        free(places);
        tear_down();
    }
}

/* ---- deaths ---- */

enum { AT_STAKE = 3000, VICTIM = 7, OTHER = 8 };

static cf_place *at_stake;              /* mapped in all */

/* Adopt all, return two of three, and never end by itself. */
static void
victim(cf_segment *view, uint32_t number)
{
    for (uint32_t i = 0; i < AT_STAKE; i++) {
        if (cf_block_adopt(view, &at_stake[i], number) && i % 3) {
            cf_block_return(view, &at_stake[i]);
        }
        atomic_fetch_add(&shared->progress, 1);
    }
    for (;;) {
        pause();
    }
}

static void
bystander(cf_segment *view, uint32_t number)
{
    for (uint32_t i = AT_STAKE; i-- > 0;) {
        if (cf_block_adopt(view, &at_stake[i], number)) {
            cf_block_return(view, &at_stake[i]);
        }
    }
}

static void
a_process_that_is_killed_while_it_returns_breaks_nothing(void)
{
    prng r = prng_new();
    at_stake = mmap(NULL, AT_STAKE * sizeof *at_stake, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int round = rounds(60); round > 0; round--) {
        bool claims = round % 4 < 2;
        set_up(16 * MIB, claims ? CF_ARENA_PARENT : 1);
        bool warm;
        for (int i = 0; i < AT_STAKE; i++) {
            CHECK_EQUAL(cf_arena_alloc(arena, 1000, &at_stake[i], &warm), CF_OK);
        }
        uint64_t room = cf_arena_room(arena, 0);
        pid_t child = start_child(victim, VICTIM);
        pid_t other = round % 2 ? start_child(bystander, OTHER) : 0;
        uint32_t when = prng_below(&r, AT_STAKE + 1);
        while (cf_load_acquire(&shared->progress) < when) {
            sched_yield();
        }
        prng_dawdle(&r);
        kill(child, SIGKILL);
        wait_for(child, SIGKILL);
        if (other != 0) {
            wait_for(other, 0);
        }
        cf_arena_reclaim(arena, VICTIM);
        /* What is left nobody had: the owner frees it. */
        uint32_t left = 0;
        for (int i = 0; i < AT_STAKE; i++) {
            left += cf_place_valid(seg, &at_stake[i]);
        }
        CHECK_EQUAL(live(), (claims ? AT_STAKE : left) * room);
        for (int i = 0; i < AT_STAKE; i++) {
            cf_arena_release(arena, at_stake[i].block);
        }
        CHECK_EQUAL(live(), 0);
        for (int i = 0; i < AT_STAKE; i++) {
            cf_place place;
            CHECK_EQUAL(cf_arena_alloc(arena, 1000, &place, &warm), CF_OK);
            CHECK(place.block < AT_STAKE);
        }
        tear_down();
    }
    munmap(at_stake, AT_STAKE * sizeof *at_stake);
}

static void
a_forked_child_gives_nothing_back(void)
{
    set_up(16 * MIB, 1);
    cf_place held, live_one;
    bool warm;
    CHECK_EQUAL(cf_arena_alloc(arena, 1000, &held, &warm), CF_OK);
    CHECK_EQUAL(cf_arena_alloc(arena, 1000, &live_one, &warm), CF_OK);
    CHECK(cf_block_adopt(seg, &held, 1));
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        cf_block_return(seg, &held);
        cf_block_return(seg, &live_one);
        cf_segment_decref(seg);
        _exit(0);
    }
    wait_for(child, 0);
    CHECK(cf_place_valid(seg, &held) && cf_place_valid(seg, &live_one));
    CHECK_EQUAL(live(), 2 * cf_arena_room(arena, held.block));
    cf_block_return(seg, &held);
    cf_block_return(seg, &live_one);
    CHECK_EQUAL(live(), 0);
    tear_down();
}

static void
a_view_outlives_the_owner(void)
{
    set_up(16 * MIB, CF_ARENA_PARENT);
    cf_place place;
    bool warm;
    char text[] = "still here";
    CHECK_EQUAL(cf_arena_alloc(arena, sizeof text, &place, &warm), CF_OK);
    CHECK_EQUAL(cf_arena_fill(arena, &place, warm, 0, text, sizeof text), CF_OK);
    cf_segment *view;
    CHECK_EQUAL(cf_segment_attach(seg->fd, &view), CF_OK);
    CHECK(cf_block_adopt(view, &place, 1));
    tear_down();
    CHECK_EQUAL(strcmp(cf_segment_at(view, place.offset), text), 0);
    cf_block_return(view, &place);
    cf_segment_decref(view);
}

int
main(void)
{
    RUN(threads_return_what_one_allocates);
    RUN(processes_return_what_one_allocates);
    RUN(of_two_that_do_the_same_one_does);
    RUN(a_process_that_is_killed_while_it_returns_breaks_nothing);
    RUN(a_forked_child_gives_nothing_back);
    RUN(a_view_outlives_the_owner);
    return finish_tests();
}
