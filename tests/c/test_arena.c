/* ipc/arena.h: the owner's side, in one thread.  (Receivers in other threads and
   processes: test_block.c.) */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "ipc/arena.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

/* The world of a test: a segment, and as another process would see it. */
static cf_segment *seg, *view;
static cf_arena *arena;
static uint32_t number;

/* A worker's arena, or CF_ARENA_PARENT. */
static void
set_up_arena(uint64_t arena_bytes, uint32_t which)
{
    number = which;
    cf_geometry geometry = {.slots = 64, .workers = 3, .arenas = 4, .arena_bytes = arena_bytes};
    if (cf_segment_create(&geometry, &seg) != CF_OK
        || cf_segment_attach(seg->fd, &view) != CF_OK
        || cf_arena_open(seg, number, &arena) != CF_OK) {
        perror("set_up");
        abort();
    }
}

static void
set_up(uint64_t arena_bytes)
{
    set_up_arena(arena_bytes, 1);
}

static void
tear_down(void)
{
    cf_arena_close(arena);
    cf_segment_decref(view);
    cf_segment_decref(seg);
}

static cf_place
alloc(uint64_t size)
{
    cf_place place = {.where = CF_WHERE_INLINE};
    bool warm;
    CHECK_EQUAL(cf_arena_alloc(arena, size, &place, &warm), CF_OK);
    return place;
}

static uint64_t
live(void)
{
    uint64_t in_use, idle;
    cf_arena_usage(arena, &in_use, &idle);
    return in_use;
}

static uint64_t
idle(void)
{
    uint64_t in_use, kept;
    cf_arena_usage(arena, &in_use, &kept);
    return kept;
}

static cf_block *
block_at(uint32_t index)
{
    return cf_arena_table(view, number) + index;
}

static uint32_t
state_of(uint32_t index)
{
    return cf_load_acquire(&block_at(index)->word) & CF_BLOCK_STATE;
}

static void
set_state(uint32_t index, uint32_t state)
{
    cf_word *word = &block_at(index)->word;
    cf_store_relaxed(word, (cf_load_relaxed(word) & ~CF_BLOCK_STATE) | state);
}

static cf_word *
returned(void)
{
    return &cf_arena_head_at(view, number)->returned;
}

static uint64_t
memory(void)
{
    struct stat st;
    CHECK_EQUAL(fstat(seg->fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* The owner's look at the stack, which it has otherwise only when it needs to. */
static void
collect(void)
{
    cf_arena_trim(arena, UINT64_MAX);
}

/* ---- blocks ---- */

static void
blocks_are_large_enough_and_aligned(void)
{
    set_up(256 * MIB);
    uint64_t page = cf_shm_page(), data = cf_arena_offset(seg, 1) + seg->arena_data;
    for (uint64_t size = 0; size < 20 * MIB; size = size < 600 ? size + 1 : size * 9 / 8 + 1) {
        cf_place place = alloc(size);
        uint64_t room = cf_arena_room(arena, place.block);
        CHECK_EQUAL(place.size, size);
        CHECK_EQUAL(place.where, 2);
        CHECK_EQUAL(place.offset % 64, 0);
        CHECK(place.offset >= data && place.offset + room <= data + 256 * MIB);
        CHECK(room >= size && room >= 128);
        /* A quarter of the next smaller power of two, and the alignment of small ones. */
        CHECK(room <= 128 || room < size + size / 4 + 64);
        CHECK(size <= 16 * KIB || place.offset % page == 0);
        CHECK(cf_place_valid(view, &place));
        CHECK_EQUAL(live(), room);
        cf_arena_free(arena, place.block);
        CHECK_EQUAL(live(), 0);
    }
    tear_down();
}

static void
the_last_one_freed_is_the_first_one_used(void)
{
    set_up(16 * MIB);
    for (int k = 0; k < 2; k++) {
        uint64_t size = k == 0 ? 1000 : 100000;
        cf_place a = alloc(size), b = alloc(size), c = alloc(size);
        cf_arena_free(arena, b.block);
        cf_arena_free(arena, a.block);
        CHECK_EQUAL(alloc(size).block, a.block);
        CHECK_EQUAL(alloc(size).offset, b.offset);
        CHECK(alloc(size).block != c.block);
    }
    tear_down();
}

static void
rooms_of_blocks_that_are_none(void)
{
    set_up(16 * MIB);
    cf_place place = alloc(1);
    CHECK_EQUAL(cf_arena_room(arena, place.block), 128);
    CHECK_EQUAL(cf_arena_room(arena, place.block + 1), 0);
    CHECK_EQUAL(cf_arena_room(arena, UINT32_MAX), 0);
    cf_arena_free(arena, place.block + 1);
    cf_arena_free(arena, UINT32_MAX);
    cf_arena_release(arena, UINT32_MAX);
    CHECK_EQUAL(live(), 128);
    tear_down();
}

/* ---- the ends of a use ---- */

static void
each_way_to_end_a_use_works_once(void)
{
    set_up(16 * MIB);
    for (int way = 0; way < 3; way++) {
        cf_place place = alloc(500), bystander = alloc(500);
        uint64_t room = cf_arena_room(arena, place.block);
        for (int again = 0; again < 3; again++) {
            if (way == 0) {
                cf_arena_free(arena, place.block);
            }
            else if (way == 1) {
                cf_arena_release(arena, place.block);
            }
            else {
                cf_block_return(view, &place);
            }
            /* And in any other way after it. */
            cf_arena_free(arena, place.block);
            cf_arena_release(arena, place.block);
            cf_block_return(view, &place);
            CHECK(!cf_block_adopt(view, &place, 1));
            CHECK(!cf_place_valid(view, &place));
        }
        collect();
        CHECK_EQUAL(live(), room);
        /* It is on the list once. */
        cf_place p = alloc(500), q = alloc(500);
        CHECK_EQUAL(p.block, place.block);
        CHECK(q.block != p.block && q.block != bystander.block);
        cf_arena_free(arena, p.block);
        cf_arena_free(arena, q.block);
        cf_arena_free(arena, bystander.block);
        CHECK_EQUAL(live(), 0);
    }
    tear_down();
}

static void
an_adopted_block_stays_until_it_is_returned(void)
{
    set_up(16 * MIB);
    cf_place place = alloc(500);
    CHECK(cf_block_adopt(view, &place, 7));
    CHECK_EQUAL(state_of(place.block), CF_BLOCK_HELD);
    CHECK_EQUAL(CF_BLOCK_HOLDER(cf_load_relaxed(&block_at(place.block)->word)), 7);
    CHECK(!cf_block_adopt(view, &place, 8));
    CHECK(cf_place_valid(view, &place));
    cf_arena_release(arena, place.block);
    CHECK_EQUAL(state_of(place.block), CF_BLOCK_HELD);
    CHECK(live() > 0);
    cf_block_return(view, &place);
    CHECK_EQUAL(state_of(place.block), CF_BLOCK_RETURNED);
    collect();
    CHECK_EQUAL(state_of(place.block), CF_BLOCK_FREE);
    CHECK_EQUAL(live(), 0);
    /* And cf_arena_free() asks nobody. */
    place = alloc(500);
    CHECK(cf_block_adopt(view, &place, 7));
    cf_arena_free(arena, place.block);
    CHECK_EQUAL(live(), 0);
    tear_down();
}

static void
what_cannot_be_adopted(void)
{
    set_up(16 * MIB);
    cf_place place = alloc(500), wrong = place;
    CHECK(!cf_block_adopt(view, &place, CF_BLOCK_HOLDERS));
    CHECK(!cf_block_adopt(view, &place, UINT32_MAX));
    wrong.block++;
    CHECK(!cf_block_adopt(view, &wrong, 1));
    wrong = place;
    wrong.size = 513;
    CHECK(!cf_block_adopt(view, &wrong, 1));
    wrong = place;
    wrong.where = CF_WHERE_SPILL;
    CHECK(!cf_block_adopt(view, &wrong, 1));
    cf_block_return(view, &wrong);
    wrong.where = CF_WHERE_INLINE;
    cf_block_return(view, &wrong);
    wrong.where = 5;
    cf_block_return(view, &wrong);
    wrong.where = 2;
    wrong.block = UINT32_MAX;
    cf_block_return(view, &wrong);
    CHECK_EQUAL(state_of(place.block), CF_BLOCK_LIVE);
    CHECK_EQUAL(cf_load_relaxed(returned()), 0);
    CHECK(cf_block_adopt(view, &place, CF_BLOCK_HOLDERS - 1));
    tear_down();
}

/* The parent ends its messages itself, at some time: before that a block is not used
   again, however long ago it was returned. */
static void
the_parents_blocks_wait_for_the_end_of_their_message(void)
{
    /* In which order: the receiver returns, the owner looks, the message ends. */
    enum { RETURN, LOOK, END, DIE };
    const int orders[][4] = {
        {RETURN, LOOK, END, LOOK}, {RETURN, END, LOOK, LOOK}, {END, RETURN, LOOK, LOOK},
        {END, LOOK, RETURN, LOOK}, {DIE, END, LOOK, LOOK}, {END, DIE, LOOK, LOOK},
        {RETURN, DIE, END, LOOK}, {RETURN, LOOK, DIE, END}};
    for (size_t k = 0; k < 2 * sizeof orders / sizeof *orders; k++) {
        set_up_arena(16 * MIB, CF_ARENA_PARENT);
        cf_place place = alloc(1000), next = place;
        CHECK(cf_block_adopt(view, &place, 3));
        bool ended = false, back = false;
        for (int i = 0; i < 4; i++) {
            switch (orders[k / 2][i]) {
            case RETURN:
                cf_block_return(view, &place);
                break;
            case LOOK:
                collect();
                break;
            case DIE:
                cf_arena_reclaim(arena, 3);
                break;
            case END:
                if (k % 2) {
                    cf_arena_release(arena, place.block);
                }
                else {
                    cf_arena_free(arena, place.block);
                }
                ended = true;
            }
            back |= orders[k / 2][i] == RETURN || orders[k / 2][i] == DIE
                || (ended && k % 2 == 0);
            if (!ended || !back) {
                next = alloc(1000);
                CHECK(next.block != place.block);
                CHECK(live() >= 2048);
                cf_arena_free(arena, next.block);
            }
        }
        CHECK_EQUAL(live(), 0);
        /* Ended once more, and it is on the list once. */
        cf_arena_release(arena, place.block);
        cf_arena_free(arena, place.block);
        CHECK(alloc(1000).block != alloc(1000).block);
        tear_down();
    }
}

static void
who_disowned_a_segment_changes_nothing(void)
{
    set_up(16 * MIB);
    cf_place a = alloc(500), b = alloc(500);
    CHECK(cf_block_adopt(view, &a, 1));
    cf_segment_disown(view);
    cf_block_return(view, &a);
    cf_block_return(view, &b);
    CHECK(!cf_block_adopt(view, &b, 1));
    CHECK_EQUAL(state_of(a.block), CF_BLOCK_HELD);
    CHECK_EQUAL(state_of(b.block), CF_BLOCK_LIVE);
    cf_block_return(seg, &a);
    CHECK_EQUAL(state_of(a.block), CF_BLOCK_RETURNED);
    tear_down();
}

static void
reclaiming_takes_what_the_dead_one_had(void)
{
    set_up(16 * MIB);
    cf_place live_one = alloc(100), others = alloc(200), held = alloc(300);
    cf_place pushed = alloc(400), unpushed = alloc(500), freed = alloc(600);
    CHECK(cf_block_adopt(view, &others, 4) && cf_block_adopt(view, &held, 5)
          && cf_block_adopt(view, &pushed, 5) && cf_block_adopt(view, &unpushed, 5)
          && cf_block_adopt(view, &freed, 5));
    cf_block_return(view, &pushed);
    cf_arena_free(arena, freed.block);
    /* It died between the two steps of cf_block_return(). */
    set_state(unpushed.block, CF_BLOCK_RETURNED);
    cf_arena_reclaim(arena, 5);
    CHECK_EQUAL(live(), cf_arena_room(arena, live_one.block)
                        + cf_arena_room(arena, others.block));
    CHECK_EQUAL(state_of(live_one.block), CF_BLOCK_LIVE);
    CHECK_EQUAL(state_of(others.block), CF_BLOCK_HELD);
    cf_arena_reclaim(arena, 5);
    cf_arena_reclaim(arena, 0);
    cf_arena_reclaim(arena, CF_BLOCK_NOBODY);
    CHECK_EQUAL(state_of(live_one.block), CF_BLOCK_LIVE);
    cf_arena_reclaim(arena, 4);
    cf_arena_release(arena, live_one.block);
    CHECK_EQUAL(live(), 0);
    tear_down();
}

static void
the_owner_is_told_that_something_was_returned(void)
{
    set_up(16 * MIB);
    cf_place a = alloc(1000), b = alloc(MIB);
    CHECK(!cf_arena_has_returned(view, 1));
    cf_block_return(view, &a);
    cf_block_return(view, &b);
    CHECK(cf_arena_has_returned(view, 1));
    CHECK(!cf_arena_has_returned(view, 2));
    CHECK(!cf_arena_has_returned(view, 4));
    CHECK(!cf_arena_has_returned(view, UINT32_MAX));
    CHECK_EQUAL(live(), 0);             /* it looks */
    CHECK(idle() >= MIB + 1000);
    CHECK(!cf_arena_has_returned(view, 1));
    tear_down();
}

static void
turns_wrap_round(void)
{
    set_up(16 * MIB);
    cf_place first = alloc(100);
    uint32_t word = cf_load_relaxed(&block_at(first.block)->word);
    cf_arena_free(arena, first.block);
    for (int i = 1; i < 1 << 16; i++) {
        cf_place place = alloc(100);
        if (place.block != first.block
            || cf_load_relaxed(&block_at(first.block)->word) == word) {
            CHECK_EQUAL(i, -1);
            break;
        }
        cf_block_return(view, &place);
    }
    alloc(100);
    CHECK_EQUAL(cf_load_relaxed(&block_at(first.block)->word), word);
    tear_down();
}

/* ---- a full arena ---- */

static uint32_t
fill_up(uint64_t size, cf_place *places, uint32_t room)
{
    uint32_t count = 0;
    bool warm;
    while (count < room && cf_arena_alloc(arena, size, &places[count], &warm) == CF_OK) {
        memset(cf_segment_at(seg, places[count].offset), (int)count, size);
        count++;
    }
    CHECK(count < room);
    return count;
}

static void
a_full_arena_says_so(void)
{
    enum { MOST = 9000 };
    static cf_place places[MOST];
    set_up(MIB);
    const uint64_t sizes[] = {1, 128, 192, 1000, 5000, 16 * KIB, 17 * KIB, 100000, 300000};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        uint32_t count = fill_up(sizes[k], places, MOST);
        uint64_t bytes = count * cf_arena_room(arena, places[0].block);
        CHECK(bytes <= MIB - seg->arena_data);
        CHECK(bytes >= (MIB - seg->arena_data) / 2);
        CHECK_EQUAL(live(), bytes);
        for (uint32_t i = 0; i < count; i++) {
            unsigned char *at = cf_segment_at(seg, places[i].offset);
            if (at[0] != (i & 255) || at[sizes[k] - 1] != (i & 255)) {
                CHECK_EQUAL(i, -1);
                break;
            }
        }
        /* One that comes back can be used at once. */
        cf_block_return(view, &places[count / 2]);
        CHECK_EQUAL(alloc(sizes[k]).block, places[count / 2].block);
        /* When all have come back, the space can be used for other sizes. */
        for (uint32_t i = 0; i < count; i++) {
            cf_block_return(view, &places[i]);
        }
    }
    cf_place place;
    bool warm;
    const uint64_t never[] = {MIB, MIB - seg->arena_data + 1, 64 * GIB, UINT64_MAX};
    for (size_t k = 0; k < sizeof never / sizeof *never; k++) {
        CHECK_EQUAL(cf_arena_alloc(arena, never[k], &place, &warm), CF_AGAIN);
    }
    tear_down();
}

static void
a_full_arena_gives_a_larger_block(void)
{
    enum { MOST = 9000 };
    static cf_place places[MOST];
    set_up(MIB);
    uint32_t count = fill_up(8 * KIB, places, MOST);
    cf_place place;
    bool warm;
    CHECK_EQUAL(cf_arena_alloc(arena, 3000, &place, &warm), CF_AGAIN);
    cf_arena_free(arena, places[count - 1].block);
    CHECK_EQUAL(cf_arena_alloc(arena, 9000, &place, &warm), CF_AGAIN);      /* none larger */
    CHECK_EQUAL(cf_arena_alloc(arena, 100, &place, &warm), CF_AGAIN);       /* a waste */
    CHECK_EQUAL(cf_arena_alloc(arena, 3000, &place, &warm), CF_OK);
    CHECK_EQUAL(place.block, places[count - 1].block);
    CHECK_EQUAL(place.size, 3000);
    CHECK_EQUAL(cf_arena_room(arena, place.block), 8 * KIB);
    cf_arena_free(arena, place.block);
    CHECK_EQUAL(alloc(8 * KIB).block, place.block);
    tear_down();
}

/* ---- cold and warm ---- */

static void
fill(const cf_place *place, bool warm, int seed, uint64_t parts)
{
    char *data = malloc(place->size);
    for (uint64_t i = 0; i < place->size; i++) {
        data[i] = (char)(i * 7 + i / 4093 + (uint64_t)seed);
    }
    for (uint64_t i = 0, at = 0; i < parts; i++) {
        uint64_t end = i + 1 == parts ? place->size : place->size * (i + 1) / parts - i % 3;
        CHECK_EQUAL(cf_arena_fill(arena, place, warm, at, data + at, end - at), CF_OK);
        at = end;
    }
    CHECK_EQUAL(memcmp(cf_segment_at(view, place->offset), data, place->size), 0);
    free(data);
}

static void
a_block_becomes_warm_and_is_filled_right_each_time(void)
{
    set_up(256 * MIB);
    const uint64_t sizes[] = {100, 16 * KIB, 17 * KIB, 64 * KIB + 1, 3 * MIB + 77};
    int seed = 0;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        bool small = sizes[k] <= 16 * KIB;
        for (uint64_t parts = 1; parts <= 9; parts += 4) {
            cf_place place;
            bool warm[3], kept[3];
            for (int use = 0; use < 3; use++) {
                CHECK_EQUAL(cf_arena_alloc(arena, sizes[k], &place, &warm[use]), CF_OK);
                kept[use] = cf_block_kept(view, &place);
                fill(&place, warm[use], seed++, parts);
                cf_arena_free(arena, place.block);
            }
            CHECK_EQUAL(warm[0], small);
            CHECK(!kept[0]);
            CHECK(warm[1] == small && kept[1] == !small);
            CHECK(warm[2] && !kept[2]);
            cf_arena_trim(arena, 0);            /* cold again */
        }
    }
    tear_down();
}

static void
only_what_was_written_is_warm(void)
{
    set_up(256 * MIB);
    cf_place place;
    bool warm;
    uint64_t sizes[] = {900 * KIB, 900 * KIB, 1024 * KIB, 900 * KIB, 1024 * KIB};
    bool expected[] = {false, false, false, true, true};
    for (int i = 0; i < 5; i++) {
        CHECK_EQUAL(cf_arena_alloc(arena, sizes[i], &place, &warm), CF_OK);
        CHECK_EQUAL(place.block, 0);
        CHECK_EQUAL(warm, expected[i]);
        fill(&place, warm, i, 1);
        cf_arena_free(arena, place.block);
    }
    tear_down();
}

/* What a task may do to its process. */
static int
fill_without(int what)
{
    set_up(256 * MIB);
    char *data = malloc(MIB);
    memset(data, 'x', MIB);
    if (what == 0) {
        close(seg->fd);
    }
    else if (what == 1) {
        close(seg->fd);
        if (open("/dev/null", O_RDWR) != seg->fd) {
            return 2;
        }
    }
    else {
        struct rlimit l = {4096, RLIM_INFINITY};
        getrlimit(RLIMIT_FSIZE, &l);
        l.rlim_cur = 4096;
        setrlimit(RLIMIT_FSIZE, &l);
        signal(SIGXFSZ, SIG_IGN);       /* as Python does */
    }
    cf_place place;
    bool warm;
    if (cf_arena_alloc(arena, MIB, &place, &warm) != CF_OK || warm
        || cf_arena_fill(arena, &place, warm, 0, data, MIB) != CF_OK
        || memcmp(cf_segment_at(view, place.offset), data, MIB) != 0) {
        return 3;
    }
    cf_arena_free(arena, place.block);
    if (what != 2 && (cf_arena_trim(arena, 0) != 0 || idle() < MIB)) {
        return 4;                       /* what cannot be given back is not forgotten */
    }
    return 0;
}

static void
blocks_are_filled_without_the_file_too(void)
{
    for (int what = 0; what < 3; what++) {
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            _exit(fill_without(what));
        }
        int status = -1;
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        CHECK_EQUAL(status, 0);
    }
}

/* ---- memory goes back ---- */

static void
a_burst_of_small_blocks_goes_back(void)
{
    enum { MANY = 20000 };
    static cf_place places[MANY];
    set_up(256 * MIB);
    for (int i = 0; i < MANY; i++) {
        places[i] = alloc(1000);
        memset(cf_segment_at(seg, places[i].offset), 'x', 1000);
    }
    uint64_t full = memory();
    CHECK(full >= MANY * 1000);
    for (int i = 0; i < MANY; i++) {
        if (i % 2) {
            cf_block_return(view, &places[i]);
        }
        else {
            cf_arena_free(arena, places[i].block);
        }
    }
    collect();
    CHECK(idle() >= MANY * 1000);
    uint64_t expected = idle();
    CHECK_EQUAL(cf_arena_trim(arena, 0), expected);
    CHECK_EQUAL(idle(), 0);
    /* All but the table of blocks. */
    CHECK(memory() <= full - MANY * 1000);
    CHECK(memory() <= MANY * sizeof(cf_block) + 8 * cf_shm_page());
    CHECK_EQUAL(cf_arena_trim(arena, 0), 0);
    /* And can be used again. */
    for (int i = 0; i < MANY; i++) {
        cf_place place = alloc(1000);
        memset(cf_segment_at(seg, place.offset), 'y', 1000);
    }
    CHECK(memory() <= full + cf_shm_page());
    tear_down();
}

static void
large_blocks_go_back_the_oldest_first(void)
{
    set_up(256 * MIB);
    cf_place places[8], used = alloc(3 * MIB);
    memset(cf_segment_at(seg, used.offset), 'u', used.size);
    uint64_t before = memory();
    for (int i = 0; i < 8; i++) {
        places[i] = alloc(MIB);
        memset(cf_segment_at(seg, places[i].offset), 'a' + i, MIB);
    }
    CHECK_EQUAL(memory(), before + 8 * MIB);
    const int order[] = {3, 1, 4, 0, 5, 2, 6, 7};
    for (int i = 0; i < 8; i++) {
        cf_arena_free(arena, places[order[i]].block);
    }
    CHECK_EQUAL(idle(), 8 * MIB);
    CHECK_EQUAL(cf_arena_trim(arena, 8 * MIB), 0);
    CHECK_EQUAL(cf_arena_trim(arena, 5 * MIB), 3 * MIB);
    CHECK_EQUAL(memory(), before + 5 * MIB);
    for (int i = 0; i < 8; i++) {
        char byte = 1;
        CHECK_EQUAL(cf_segment_read(seg, places[order[i]].offset, &byte, 1), CF_OK);
        CHECK_EQUAL(byte, i < 3 ? 0 : 'a' + order[i]);
    }
    /* Not a whole block more than needed. */
    CHECK_EQUAL(cf_arena_trim(arena, 4 * MIB + 1), MIB);
    CHECK_EQUAL(cf_arena_trim(arena, 4 * MIB), 0);
    /* One in use in between is none of them. */
    cf_place newest = alloc(MIB);
    CHECK_EQUAL(newest.block, places[7].block);
    CHECK_EQUAL(idle(), 3 * MIB);
    CHECK_EQUAL(cf_arena_trim(arena, 0), 3 * MIB);
    CHECK_EQUAL(memory(), before + MIB);
    CHECK_EQUAL(*(char *)cf_segment_at(seg, newest.offset), 'a' + 7);
    CHECK_EQUAL(*(char *)cf_segment_at(seg, used.offset + used.size - 1), 'u');
    tear_down();
}

static void
memory_from_before_it_started_over_goes_back(void)
{
    enum { MOST = 100 };
    static cf_place places[MOST];
    set_up(4 * MIB);
    uint64_t before = memory();
    uint32_t count = fill_up(128 * KIB, places, MOST);
    for (uint32_t i = 0; i < count; i++) {
        cf_arena_free(arena, places[i].block);
    }
    uint64_t full = memory();
    cf_place place = alloc(MIB);                /* full: all of it begins anew */
    CHECK_EQUAL(place.block, 0);
    memset(cf_segment_at(seg, place.offset), 'x', MIB);
    CHECK_EQUAL(memory(), full);
    CHECK_EQUAL(idle(), count * 128 * KIB - MIB);
    CHECK_EQUAL(cf_arena_trim(arena, UINT64_MAX), 0);
    CHECK_EQUAL(memory(), full);
    CHECK_EQUAL(cf_arena_trim(arena, 0), count * 128 * KIB - MIB);
    CHECK(memory() <= before + MIB + 2 * cf_shm_page());
    CHECK_EQUAL(*(char *)cf_segment_at(seg, place.offset), 'x');
    CHECK_EQUAL(idle(), 0);
    tear_down();
}

/* ---- a scribbled stack ---- */

static void
a_stack_that_is_nonsense_frees_nothing_in_use(void)
{
    enum { COUNT = 10 };
    for (int kind = 0; kind < 9; kind++) {
        set_up(16 * MIB);
        cf_place places[COUNT];
        for (int i = 0; i < COUNT; i++) {
            places[i] = alloc(300);
        }
        uint64_t room = cf_arena_room(arena, 0);
        uint64_t expected = COUNT * room;
        cf_block *first = block_at(0), *second = block_at(1);
        cf_word *word = &block_at(5)->word;
        switch (kind) {
        case 0:                         /* out of range */
            cf_store_relaxed(returned(), UINT32_MAX);
            break;
        case 1:                         /* just out of range */
            cf_store_relaxed(returned(), COUNT + 1);
            break;
        case 2:                         /* LIVE, freed, HELD */
            cf_store_relaxed(returned(), 1);
            break;
        case 3:
            CHECK(cf_block_adopt(view, &places[0], 1));
            cf_store_relaxed(returned(), 1);
            break;
        case 4:
            cf_arena_free(arena, 0);
            expected -= room;
            set_state(0, CF_BLOCK_RETURNED);
            cf_store_relaxed(returned(), 1);
            break;
        case 5:                         /* a block that is below itself */
            cf_block_return(view, &places[0]);
            cf_store_relaxed(&first->next, 1);
            expected -= room;
            break;
        case 6:                         /* two that are below each other */
            cf_block_return(view, &places[0]);
            cf_block_return(view, &places[1]);
            cf_store_relaxed(&first->next, 2);
            cf_store_relaxed(&second->next, 1);
            expected -= 2 * room;
            break;
        case 7:                         /* below a good one a wild one */
            cf_block_return(view, &places[0]);
            cf_store_relaxed(&first->next, 0x12345678);
            expected -= room;
            break;
        default:                        /* another turn */
            cf_block_return(view, &places[5]);
            cf_store_relaxed(word, cf_load_relaxed(word) + (1u << CF_BLOCK_TURN_SHIFT));
            break;
        }
        collect();
        CHECK_EQUAL(live(), expected);
        CHECK_EQUAL(cf_load_relaxed(returned()), 0);
        /* The next returns work. */
        cf_block_return(view, &places[8]);
        cf_block_return(view, &places[9]);
        collect();
        CHECK_EQUAL(live(), expected - 2 * room);
        tear_down();
    }
}

static void
a_scribble_does_not_end_a_message(void)
{
    set_up_arena(16 * MIB, CF_ARENA_PARENT);
    cf_place place = alloc(1000);
    cf_block_return(view, &place);
    collect();
    for (int i = 0; i < 3; i++) {
        set_state(place.block, CF_BLOCK_RETURNED);
        cf_store_relaxed(&block_at(place.block)->next, 0);
        cf_store_relaxed(returned(), place.block + 1);
        collect();
        cf_arena_reclaim(arena, CF_BLOCK_HOLDER(cf_load_relaxed(&block_at(0)->word)));
        CHECK_EQUAL(live(), 1024);
        CHECK(alloc(1000).block != place.block);
        cf_arena_free(arena, place.block + 1);
    }
    cf_arena_release(arena, place.block);
    CHECK_EQUAL(live(), 0);
    tear_down();
}

/* ---- everything at random, against a model ---- */

typedef struct {
    cf_place place;
    uint64_t room;
    uint32_t tag;
    bool used, adopted;
} model_block;

enum { MODEL = 400 };

static uint64_t
random_size(prng *r)
{
    uint32_t bits = prng_below(r, 21);
    return prng_below(r, 1u << bits) + (bits == 20 ? prng_below(r, 1u << 20) : 0);
}

/* Its tag at both ends, and at some places in between. */
static bool
tagged(const model_block *m, bool write)
{
    char *at = cf_segment_at(write ? seg : view, m->place.offset);
    for (uint64_t i = 0; i + 4 <= m->place.size; i += m->place.size > 64 ? 4999 : 4) {
        if (write) {
            memcpy(at + i, &m->tag, 4);
        }
        else if (memcmp(at + i, &m->tag, 4) != 0) {
            return false;
        }
    }
    return true;
}

static bool
overlaps(const model_block *blocks, const model_block *m)
{
    for (const model_block *o = blocks; o < blocks + MODEL; o++) {
        if (o->used && o != m && o->place.offset < m->place.offset + m->room
            && m->place.offset < o->place.offset + o->room) {
            return true;
        }
    }
    return false;
}

static void
allocate_one(model_block *blocks, model_block *m, prng *r)
{
    bool warm;
    uint64_t size = random_size(r);
    if (cf_arena_alloc(arena, size, &m->place, &warm) != CF_OK) {
        return;
    }
    m->room = cf_arena_room(arena, m->place.block);
    m->tag = prng_below(r, UINT32_MAX);
    m->adopted = false;
    m->used = true;
    CHECK(m->room >= size && m->place.size == size);
    CHECK(m->place.offset + m->room <= cf_arena_offset(seg, 2));
    CHECK(!overlaps(blocks, m));
    uint64_t first = size < 4 ? size : 4;
    CHECK_EQUAL(cf_arena_fill(arena, &m->place, warm, 0, &m->tag, first), CF_OK);
    tagged(m, true);
}

static void
end_one(model_block *m, prng *r)
{
    CHECK(tagged(m, false));
    switch (prng_below(r, 4)) {
    case 0:
        cf_arena_free(arena, m->place.block);
        m->used = false;
        break;
    case 1:
        cf_arena_release(arena, m->place.block);
        m->used = m->adopted;
        break;
    case 2:
        m->adopted |= cf_block_adopt(view, &m->place, 1 + prng_below(r, 3));
        break;
    default:
        cf_block_return(view, &m->place);
        m->used = false;
    }
}

static void
random_uses_agree_with_a_model(void)
{
    static model_block blocks[MODEL];
    prng r = prng_new();
    for (int k = 0; k < 2; k++) {
        memset(blocks, 0, sizeof blocks);
        set_up(k == 0 ? MIB : 256 * MIB);
        for (int i = rounds(60000); i > 0; i--) {
            model_block *m = &blocks[prng_below(&r, MODEL)];
            if (!m->used) {
                allocate_one(blocks, m, &r);
            }
            else {
                end_one(m, &r);
            }
            if (prng_below(&r, 500) == 0) {
                cf_arena_trim(arena, prng_below(&r, 2) * MIB);
            }
            if (prng_below(&r, 500) == 0) {
                uint64_t expected = 0;
                collect();
                for (m = blocks; m < blocks + MODEL; m++) {
                    expected += m->used ? m->room : 0;
                }
                CHECK_EQUAL(live(), expected);
            }
        }
        for (uint32_t holder = 1; holder < 4; holder++) {
            cf_arena_reclaim(arena, holder);
        }
        for (model_block *m = blocks; m < blocks + MODEL; m++) {
            if (m->used) {
                cf_arena_release(arena, m->place.block);
            }
        }
        CHECK_EQUAL(live(), 0);
        cf_arena_trim(arena, 0);
        CHECK_EQUAL(idle(), 0);
        CHECK(memory() <= seg->arena_data + 16 * cf_shm_page());
        tear_down();
    }
}

static void
scribble(prng *r)
{
    cf_block *block = block_at(prng_below(r, MODEL));
    uint32_t value = prng_below(r, 2) ? prng_below(r, UINT32_MAX) : prng_below(r, MODEL);
    switch (prng_below(r, 5)) {
    case 0:
        cf_store_relaxed(&block->word, value);
        break;
    case 1:
        set_state((uint32_t)(block - block_at(0)), prng_below(r, 4));
        break;
    case 2:
        cf_store_relaxed(&block->next, value);
        break;
    case 3:
        cf_store_relaxed(returned(), value);
        break;
    default:
        cf_store_relaxed(prng_below(r, 2) ? &block->at : &block->room, value);
    }
}

static int
by_offset(const void *a, const void *b)
{
    const cf_place *p = a, *q = b;
    return p->offset < q->offset ? -1 : p->offset > q->offset;
}

/* The same while somebody writes nonsense into the table and the head.  Blocks may be lost
   or freed too early; but the owner's books stay right: it gives out no block twice, none
   outside, and nothing loops or crashes. */
static void
random_uses_of_a_scribbled_arena_do_no_harm(void)
{
    enum { MOST = 10000 };
    static cf_place places[MOST];
    prng r = prng_new();
    for (int k = rounds(40); k > 0; k--) {
        set_up(MIB);
        memset(places, 0, sizeof places);
        bool warm;
        for (int i = rounds(20000); i > 0; i--) {
            cf_place *place = &places[prng_below(&r, MODEL)];
            switch (prng_below(&r, 12)) {
            case 0:
                scribble(&r);
                break;
            case 1:
                cf_block_adopt(view, place, 1 + prng_below(&r, 3));
                break;
            case 2:
                cf_arena_reclaim(arena, prng_below(&r, 5));
                break;
            case 3:
                prng_below(&r, 20) == 0 ? cf_arena_trim(arena, 0) : 0;
                break;
            case 4:
            case 5:
                cf_block_return(view, place);
                break;
            case 6:
                cf_arena_free(arena, place->block);
                break;
            case 7:
                cf_arena_release(arena, place->block);
                break;
            default:
                if (cf_arena_alloc(arena, random_size(&r) / 16, place, &warm) == CF_OK) {
                    memset(cf_segment_at(seg, place->offset), 'x', place->size);
                }
            }
            CHECK(live() <= MIB && idle() <= MIB);
        }
        /* What it still has is given out once. */
        uint32_t count = 0;
        for (uint64_t size = 128; size < MIB; size = size * 5 / 4) {
            while (count < MOST
                   && cf_arena_alloc(arena, size, &places[count], &warm) == CF_OK) {
                count++;
            }
        }
        CHECK(count < MOST);
        qsort(places, count, sizeof *places, by_offset);
        uint64_t end = cf_arena_offset(seg, 1) + seg->arena_data;
        for (uint32_t i = 0; i < count; i++) {
            CHECK(places[i].offset >= end);
            end = places[i].offset + cf_arena_room(arena, places[i].block);
        }
        CHECK(end <= cf_arena_offset(seg, 2));
        tear_down();
    }
}

/* ---- opening ---- */

static void
opening_forgets_what_was_there(void)
{
    set_up(16 * MIB);
    uint64_t before = memory();
    cf_place live_one = alloc(MIB), pushed = alloc(500);
    memset(cf_segment_at(seg, live_one.offset), 'x', MIB);
    cf_block_return(view, &pushed);
    cf_arena_close(arena);
    CHECK_EQUAL(cf_arena_open(seg, 1, &arena), CF_OK);
    CHECK(memory() <= before);
    CHECK(!cf_place_valid(view, &live_one));
    cf_block_return(view, &live_one);           /* too late: nothing */
    CHECK_EQUAL(cf_load_relaxed(returned()), 0);
    CHECK_EQUAL(live() + idle(), 0);
    cf_place again = alloc(MIB);
    CHECK_EQUAL(*(char *)cf_segment_at(seg, again.offset), 0);
    cf_arena_close(arena);
    CHECK_EQUAL(cf_arena_clear(view, 1), CF_OK);
    CHECK(memory() <= before);
    errno = 0;
    cf_arena *none = NULL;
    CHECK_EQUAL(cf_arena_open(seg, 4, &none), CF_SYSTEM);
    CHECK_EQUAL(errno, EINVAL);
    CHECK_EQUAL(cf_arena_clear(seg, UINT32_MAX), CF_SYSTEM);
    CHECK(none == NULL);
    CHECK_EQUAL(cf_arena_open(seg, 1, &arena), CF_OK);
    tear_down();
}

static void
arenas_are_apart(void)
{
    set_up(MIB);
    cf_arena *other = NULL;
    CHECK_EQUAL(cf_arena_open(seg, 2, &other), CF_OK);
    static cf_place mine[9000], its[9000];
    uint32_t count = fill_up(100, mine, 9000);
    cf_arena *swap = arena;
    arena = other;
    CHECK_EQUAL(fill_up(100, its, 9000), count);
    CHECK_EQUAL(its[0].where, 3);
    arena = swap;
    for (uint32_t i = 0; i < count; i++) {
        cf_block_return(view, &its[i]);
    }
    collect();
    CHECK_EQUAL(live(), count * 128);
    cf_arena_trim(other, 0);
    uint64_t in_use, kept;
    cf_arena_usage(other, &in_use, &kept);
    CHECK_EQUAL(in_use + kept, 0);
    for (uint32_t i = 0; i < count; i++) {
        if (*(char *)cf_segment_at(seg, mine[i].offset) != (char)i) {
            CHECK_EQUAL(i, -1);
            break;
        }
    }
    cf_arena_close(other);
    cf_arena_close(NULL);
    tear_down();
}

int
main(void)
{
    RUN(blocks_are_large_enough_and_aligned);
    RUN(the_last_one_freed_is_the_first_one_used);
    RUN(rooms_of_blocks_that_are_none);
    RUN(each_way_to_end_a_use_works_once);
    RUN(an_adopted_block_stays_until_it_is_returned);
    RUN(what_cannot_be_adopted);
    RUN(the_parents_blocks_wait_for_the_end_of_their_message);
    RUN(who_disowned_a_segment_changes_nothing);
    RUN(reclaiming_takes_what_the_dead_one_had);
    RUN(the_owner_is_told_that_something_was_returned);
    RUN(turns_wrap_round);
    RUN(a_full_arena_says_so);
    RUN(a_full_arena_gives_a_larger_block);
    RUN(a_block_becomes_warm_and_is_filled_right_each_time);
    RUN(only_what_was_written_is_warm);
    RUN(blocks_are_filled_without_the_file_too);
    RUN(a_burst_of_small_blocks_goes_back);
    RUN(large_blocks_go_back_the_oldest_first);
    RUN(memory_from_before_it_started_over_goes_back);
    RUN(a_stack_that_is_nonsense_frees_nothing_in_use);
    RUN(a_scribble_does_not_end_a_message);
    RUN(random_uses_agree_with_a_model);
    RUN(random_uses_of_a_scribbled_arena_do_no_harm);
    RUN(opening_forgets_what_was_there);
    RUN(arenas_are_apart);
    return finish_tests();
}
