#include "check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"

static int passed, failed;
static _Atomic int failures;            /* of the running test */

static uint64_t seed;
static _Atomic uint64_t generators;     /* made so far in this test */
static double round_factor = 1;

/* ---- checks ---- */

#define MANY_FAILURES 20

bool
check_that(bool ok, const char *what, const char *file, int line)
{
    if (!ok && atomic_fetch_add(&failures, 1) < MANY_FAILURES) {
        fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    }
    return ok;
}

bool
check_equal(long long a, long long b, const char *what, const char *file, int line)
{
    if (a != b && atomic_fetch_add(&failures, 1) < MANY_FAILURES) {
        fprintf(stderr, "%s:%d: failed: %s: %lld, %lld\n", file, line, what, a, b);
    }
    return a == b;
}

/* ---- watchdog ---- */

static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t watch_changed = PTHREAD_COND_INITIALIZER;
static const char *watched;             /* the running test; guarded by watch_lock */
static void (*explanation)(void);       /* guarded by watch_lock */
static unsigned watch_generation;       /* guarded by watch_lock */
static int limit_seconds = 120;

static void *
watchdog(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&watch_lock);
    for (;;) {
        unsigned generation = watch_generation;
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += limit_seconds;
        int r = 0;
        while (generation == watch_generation && r != ETIMEDOUT) {
            r = pthread_cond_timedwait(&watch_changed, &watch_lock, &until);
        }
        if (generation == watch_generation && watched != NULL) {
            fprintf(stderr, "HANGS: %s (seed %llu, limit %d s)\n", watched,
                    (unsigned long long)seed, limit_seconds);
            if (explanation != NULL) {
                explanation();
            }
            abort();
        }
    }
    return NULL;
}

static void
watch(const char *name)
{
    pthread_mutex_lock(&watch_lock);
    watched = name;
    explanation = NULL;
    watch_generation++;
    pthread_cond_signal(&watch_changed);
    pthread_mutex_unlock(&watch_lock);
}

void
explain_hangs(void (*explain)(void))
{
    pthread_mutex_lock(&watch_lock);
    explanation = explain;
    pthread_mutex_unlock(&watch_lock);
}

void
made_progress(void)
{
    pthread_mutex_lock(&watch_lock);
    watch_generation++;
    pthread_cond_signal(&watch_changed);
    pthread_mutex_unlock(&watch_lock);
}

/* ---- running ---- */

static void
begin(void)
{
    static bool begun;
    if (begun) {
        return;
    }
    begun = true;
    const char *text = getenv("CF_TEST_SEED");
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    seed = text != NULL ? strtoull(text, NULL, 10)
                        : (uint64_t)now.tv_nsec ^ ((uint64_t)getpid() << 20);
    text = getenv("CF_TEST_ROUNDS");
    round_factor = text != NULL ? atof(text) : 1;
    text = getenv("CF_TEST_LIMIT");
    limit_seconds = text != NULL ? atoi(text) : limit_seconds;
    printf("seed %llu\n", (unsigned long long)seed);
#ifdef CF_PERTURB
    perturb_seed(seed);
#endif
    pthread_detach(start(watchdog, NULL));
}

void
run_test(void (*test)(void), const char *name)
{
    begin();
    atomic_store(&failures, 0);
    atomic_store(&generators, 0);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    watch(name);
    test();
    watch(NULL);
    clock_gettime(CLOCK_MONOTONIC, &to);
    bool ok = atomic_load(&failures) == 0;
    passed += ok;
    failed += !ok;
    printf("  %-64s %6.2f s  %s\n", name,
           (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9,
           ok ? "ok" : "FAILED");
    fflush(stdout);
}

int
finish_tests(void)
{
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0 || passed == 0;
}

int
rounds(int usual)
{
    double n = usual * round_factor;
    return n < 1 ? 1 : (int)n;
}

/* ---- random numbers: splitmix64, public domain (S. Vigna, prng.di.unimi.it) ---- */

static uint64_t
next(prng *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

prng
prng_new(void)
{
    prng r = {seed + atomic_fetch_add(&generators, 1) * 0x632be59bd9b4e019u};
    next(&r);
    return r;
}

uint32_t
prng_below(prng *r, uint32_t end)
{
    return (uint32_t)((next(r) >> 32) * end >> 32);
}

void
prng_dawdle(prng *r)
{
    uint32_t how = prng_below(r, 16);
    if (how < 8) {
        return;
    }
    if (how == 15) {
        sched_yield();
        return;
    }
    for (uint32_t i = prng_below(r, 1u << (how - 4)); i > 0; i--) {
        cf_relax();
    }
}

/* ---- threads ---- */

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

void
turn_take(void)
{
    if (CF_SERIALIZED) {
        pthread_mutex_lock(&turn);
    }
}

void
turn_give(void)
{
    if (CF_SERIALIZED) {
        pthread_mutex_unlock(&turn);
    }
}

pthread_t
start(void *(*body)(void *), void *arg)
{
    pthread_t thread;
    int r = pthread_create(&thread, NULL, body, arg);
    if (r != 0) {
        fprintf(stderr, "pthread_create: %s\n", strerror(r));
        abort();
    }
    return thread;
}

void
join(pthread_t thread)
{
    pthread_join(thread, NULL);
}
