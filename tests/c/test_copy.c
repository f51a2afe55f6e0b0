/* plat/copy.h: copies by two threads.

   What it asks of plat/cpu.h and plat/thread.h is answered here, so that each test says whether a
   processor is free and what becomes of the helper. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "check.h"
#include "plat/copy.h"
#include "plat/cpu.h"
#include "plat/thread.h"

#define MIB ((size_t)1 << 20)
#define GUARD 64        /* bytes before and behind, which nobody may touch */

/* ---- the helper ---- */

static enum { BEGINS, WAITS, FAILS } helper;    /* the last two: for one copy at a time */
static atomic_int busy_looks;       /* answers left that say that no processor is free */
static atomic_int asked, helpers;   /* how often for a free processor; threads started */

static void *(*waiting)(void *);    /* the helper that waits, and its argument */
static void *waiting_arg;

bool
cf_cpu_may_be_free(void)
{
    atomic_fetch_add(&asked, 1);
    return atomic_fetch_sub(&busy_looks, 1) <= 0;
}

int
cf_thread_start_elsewhere(void *(*body)(void *), void *arg)
{
    if (helper == FAILS) {
        return EAGAIN;
    }
    atomic_fetch_add(&helpers, 1);
    if (helper == WAITS) {
        waiting = body;
        waiting_arg = arg;
        return 0;
    }
    pthread_detach(start(body, arg));
    return 0;
}

static void
the_helper(int what, int looks_in_vain)
{
    helper = what;
    atomic_store(&busy_looks, looks_in_vain);
    atomic_store(&asked, 0);
    atomic_store(&helpers, 0);
    waiting = NULL;
}

/* ---- memory ---- */

/* Different at each place, and for each seed. */
static void
fill(char *p, size_t size, uint32_t seed)
{
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < size; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (char)(x >> 24);
    }
}

static char *
memory(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        abort();
    }
    return p;
}

static bool
only(const char *p, size_t size, char what)
{
    for (size_t i = 0; i < size; i++) {
        if (p[i] != what) {
            return false;
        }
    }
    return true;
}

/* One copy between memory that is gone when it has returned: whoever touched it after that
   would crash. */
static void
copy_once(size_t size, size_t to_offset, size_t from_offset, uint32_t seed)
{
    size_t room = size + 2 * GUARD + 4096;
    char *from = memory(room), *to = memory(room);
    fill(from + from_offset, size, seed);
    memset(to, 'g', room);
    cf_copy_large(to + GUARD + to_offset, from + from_offset, size);
    CHECK(memcmp(to + GUARD + to_offset, from + from_offset, size) == 0);
    CHECK(only(to, GUARD + to_offset, 'g'));
    CHECK(only(to + GUARD + to_offset + size, room - GUARD - to_offset - size, 'g'));
    munmap(from, room);
    munmap(to, room);
}

/* ---- tests ---- */

static void
any_size_is_copied_and_nothing_else(void)
{
    static const size_t sizes[] = {0, 1, 4095, MIB, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1,
                                   5 * MIB + 12345, 32 * MIB - 1, 32 * MIB, 33 * MIB + 77};
    the_helper(BEGINS, 0);
    prng r = prng_new();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int turn = 0; turn < rounds(3); turn++) {
            copy_once(sizes[i], prng_below(&r, 4096 - GUARD), prng_below(&r, 4096),
                      (uint32_t)i + 1);
        }
        made_progress();
    }
}

static void
copies_that_two_threads_just_share(void)
{
    prng r = prng_new();
    the_helper(BEGINS, 0);
    for (int turn = 0; turn < rounds(60); turn++) {
        copy_once(4 * MIB + prng_below(&r, 2 * MIB), prng_below(&r, 4096 - GUARD),
                  prng_below(&r, 4096), (uint32_t)turn);
        made_progress();
    }
    CHECK_EQUAL(helpers, rounds(60));
}

static void *
copy_some(void *arg)
{
    (void)arg;
    for (int turn = 0; turn < rounds(8); turn++) {
        copy_once(4 * MIB + 4096 * (size_t)turn + 1, 3, 5, (uint32_t)turn);
        made_progress();
    }
    return NULL;
}

static void
many_threads_copy_at_once(void)
{
    pthread_t threads[6];
    the_helper(BEGINS, 0);
    for (int i = 0; i < 6; i++) {
        threads[i] = start(copy_some, NULL);
    }
    for (int i = 0; i < 6; i++) {
        join(threads[i]);
    }
}

static void
small_copies_have_no_helper(void)
{
    the_helper(BEGINS, 0);
    copy_once(4 * MIB - 1, 0, 0, 1);
    CHECK_EQUAL(asked, 0);
    CHECK_EQUAL(helpers, 0);
}

static void
helper_that_begins_too_late_finds_nothing_to_do(void)
{
    static const size_t sizes[] = {4 * MIB, 40 * MIB};
    for (int i = 0; i < 2; i++) {
        the_helper(WAITS, 0);
        copy_once(sizes[i], 3, 5, 7);       /* the caller alone, and the memory is gone */
        CHECK_EQUAL(helpers, 1);
        CHECK(waiting(waiting_arg) == NULL);
    }
}

static void
without_threads_the_caller_copies_alone(void)
{
    the_helper(FAILS, 0);
    copy_once(8 * MIB, 3, 5, 9);
    CHECK_EQUAL(asked, 1);
}

static void
free_processor_is_looked_for_at_the_first_chunks(void)
{
    the_helper(BEGINS, 3);
    copy_once(16 * MIB, 0, 0, 4);
    CHECK_EQUAL(asked, 4);
    CHECK_EQUAL(helpers, 1);

    the_helper(BEGINS, 1000);
    copy_once(16 * MIB, 0, 0, 4);
    CHECK_EQUAL(asked, 4);
    CHECK_EQUAL(helpers, 0);
}

int
main(void)
{
    RUN(any_size_is_copied_and_nothing_else);
    RUN(copies_that_two_threads_just_share);
    RUN(many_threads_copy_at_once);
    RUN(small_copies_have_no_helper);
    RUN(helper_that_begins_too_late_finds_nothing_to_do);
    RUN(without_threads_the_caller_copies_alone);
    RUN(free_processor_is_looked_for_at_the_first_chunks);
    return finish_tests();
}
