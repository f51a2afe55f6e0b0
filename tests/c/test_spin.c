/* plat/spin.h: how the spin adapts, and the lock. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include "check.h"
#include "plat/clock.h"
#include "plat/wait.h"
#include "plat/spin.h"

#define MS 1000000

static cf_spin
spin_of(int32_t limit)
{
    cf_spin spin = CF_SPIN_INIT;
    cf_store_relaxed(&spin.limit, limit);
    return spin;
}

static void
a_word_that_is_set_ends_the_spin_at_once(void)
{
    cf_spin spin = spin_of(INT32_MAX);
    cf_word word = 4;
    CHECK(cf_spin_until(&spin, &word, 4));
    CHECK(cf_spin_until(&spin, &word, UINT32_MAX));
}

static void
other_bits_do_not_end_it(void)
{
    cf_spin spin = spin_of(1000);
    cf_word word = 4;
    CHECK(!cf_spin_until(&spin, &word, 3));
}

static void
it_spins_as_long_as_the_limit_says(void)
{
    cf_spin spin = spin_of(5 * MS);
    cf_word word = 0;
    int64_t start_time = cf_now();
    CHECK(!cf_spin_until(&spin, &word, 1));
    CHECK(cf_now() - start_time >= 5 * MS);
    cf_store_relaxed(&spin.limit, 0);
    CHECK(!cf_spin_until(&spin, &word, 1));
}

static void *
set_later(void *arg)
{
    cf_word *word = arg;
    cf_yield();
    cf_store_release(word, 1);
    return NULL;
}

static void
a_change_ends_the_spin(void)
{
    for (int i = rounds(200); i > 0; i--) {
        cf_spin spin = spin_of(INT32_MAX);     /* two seconds */
        cf_word word = 0;
        pthread_t thread = start(set_later, &word);
        CHECK(cf_spin_until(&spin, &word, 1));
        join(thread);
    }
}

static void
nobody_spins_while_yields_are_too_dear(void)
{
    cf_spin spin = spin_of(INT32_MAX);
    cf_word word = 0;
    int64_t begun = cf_now();
    cf_store_relaxed(&spin.resume, begun + 3600ll * 1000 * MS);
    CHECK(!cf_spin_until(&spin, &word, 1));
    CHECK(cf_now() - begun < 1000 * MS);    /* the limit says two seconds */
    word = 1;
    CHECK(cf_spin_until(&spin, &word, 1));
    word = 0;
    spin = spin_of(5 * MS);
    cf_store_relaxed(&spin.resume, begun);
    CHECK(!cf_spin_until(&spin, &word, 1));
    CHECK(cf_now() - begun >= 5 * MS);
}

static cf_word hog_ends;

static void
stay_on_one_cpu(void)
{
    cpu_set_t set;
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &set)) {
        cpu++;
    }
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    CHECK(sched_setaffinity(0, sizeof set, &set) == 0);
}

static void *
compute_on_one_cpu(void *arg)
{
    (void)arg;
    stay_on_one_cpu();
    while (cf_load_relaxed(&hog_ends) == 0) {
    }
    return NULL;
}

static void *
spin_beside_it(void *arg)
{
    cf_spin *spin = arg;
    cf_word word = 0;
    stay_on_one_cpu();
    while (cf_load_relaxed(&spin->resume) == 0) {
        CHECK(!cf_spin_until(spin, &word, 1));
    }
    return NULL;
}

/* Hangs if the spin never finds out. */
static void
a_yield_to_somebody_who_computes_is_too_dear(void)
{
    cf_spin spin = spin_of(CF_SPIN_MAX);
    cf_store_relaxed(&hog_ends, 0);
    pthread_t hog = start(compute_on_one_cpu, NULL);
    join(start(spin_beside_it, &spin));
    cf_store_relaxed(&hog_ends, 1);
    join(hog);
    CHECK(cf_load_relaxed(&spin.resume) > cf_now() - 60000ll * MS);
}

/* Learn from a wait of that length, and some microseconds more: if this thread lost its
   processor meanwhile the clock went too far, and it is done again. */
static int32_t
learned(int32_t limit, int64_t waited)
{
    for (;;) {
        cf_spin spin = spin_of(limit);
        int64_t now = cf_now();
        cf_spin_learn(&spin, now - waited);
        if (cf_now() - now < 20000) {
            return cf_load_relaxed(&spin.limit);
        }
    }
}

static void
long_waits_end_spinning_and_short_ones_bring_it_back(void)
{
    CHECK_EQUAL(learned(50000, 1000 * MS), 25000);
    CHECK_EQUAL(learned(1, 1000 * MS), 0);
    CHECK_EQUAL(learned(0, 1000 * MS), 0);
    int32_t limit = CF_SPIN_MAX;
    for (int i = 0; i < 20; i++) {
        limit = learned(limit, 1000 * MS);
    }
    CHECK_EQUAL(limit, 0);
    limit = learned(0, 100);
    CHECK(limit > 0 && limit <= CF_SPIN_MAX);
}

static void
the_limit_is_twice_the_wait_and_never_above_the_maximum(void)
{
    int32_t limit = learned(0, 20000);
    CHECK(limit >= 40000 && limit <= 80000);
    CHECK_EQUAL(learned(0, 100000), CF_SPIN_MAX);
    /* A shorter wait than before does not lower it: the spin ends with the wait. */
    CHECK_EQUAL(learned(CF_SPIN_MAX, 10), CF_SPIN_MAX);
}

/* ---- the lock ---- */

#define LOCKERS 6

typedef struct {
    cf_spinlock lock;
    int plain[8];           /* guarded by lock */
    int times;
} guarded;

static void *
count_under_lock(void *arg)
{
    guarded *g = arg;
    prng r = prng_new();
    for (int i = 0; i < g->times; i++) {
        cf_spinlock_lock(&g->lock);
        int first = g->plain[0];
        for (size_t k = 0; k < sizeof g->plain / sizeof *g->plain; k++) {
            CHECK_EQUAL(g->plain[k], first);
            g->plain[k]++;
        }
        if (prng_below(&r, 64) == 0) {
            cf_yield();
        }
        cf_spinlock_unlock(&g->lock);
        prng_dawdle(&r);
    }
    return NULL;
}

static void
the_lock_excludes(void)
{
    guarded g = {.times = rounds(60000)};
    pthread_t threads[LOCKERS];
    for (int i = 0; i < LOCKERS; i++) {
        threads[i] = start(count_under_lock, &g);
    }
    for (int i = 0; i < LOCKERS; i++) {
        join(threads[i]);
    }
    CHECK_EQUAL(g.plain[0], g.times * LOCKERS);
}

int
main(void)
{
    RUN(a_word_that_is_set_ends_the_spin_at_once);
    RUN(other_bits_do_not_end_it);
    RUN(it_spins_as_long_as_the_limit_says);
    RUN(a_change_ends_the_spin);
    RUN(nobody_spins_while_yields_are_too_dear);
    RUN(a_yield_to_somebody_who_computes_is_too_dear);
    RUN(long_waits_end_spinning_and_short_ones_bring_it_back);
    RUN(the_limit_is_twice_the_wait_and_never_above_the_maximum);
    RUN(the_lock_excludes);
    return finish_tests();
}
