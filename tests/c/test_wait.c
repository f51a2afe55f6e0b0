/* plat/wait.h and plat/clock.h: sleeping on a word, in one process and across two. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "plat/wait.h"

#define MS 1000000

static void
clocks_agree_and_go_forwards(void)
{
    int64_t last = cf_now();
    for (int i = 0; i < 10000; i++) {
        int64_t coarse = cf_now_coarse(), now = cf_now();
        CHECK(now >= last);
        CHECK(coarse <= now);
        last = now;
    }
}

static void
a_word_with_another_value_is_not_slept_on(void)
{
    cf_word word = 1;
    CHECK_EQUAL(cf_wait32(&word, 0, CF_FOREVER, CF_PRIVATE), CF_AGAIN);
    CHECK_EQUAL(cf_wait32(&word, 2, CF_FOREVER, CF_SHARED), CF_AGAIN);
}

static void
deadlines_are_absolute_and_not_early(void)
{
    cf_word word = 0;
    int64_t until = cf_now() + 20 * MS;
    cf_status st;
    do {
        st = cf_wait32(&word, 0, until, CF_PRIVATE);
    } while (st == CF_OK || st == CF_INTR);
    CHECK_EQUAL(st, CF_TIMEDOUT);
    CHECK(cf_now() >= until);
    /* The same deadline again has passed. */
    CHECK_EQUAL(cf_wait32(&word, 0, until, CF_PRIVATE), CF_TIMEDOUT);
}

static void
a_deadline_long_ago_only_looks(void)
{
    cf_word word = 0;
    CHECK_EQUAL(cf_wait32(&word, 0, CF_NO_WAIT, CF_PRIVATE), CF_TIMEDOUT);
    CHECK_EQUAL(cf_wait32(&word, 0, -1, CF_PRIVATE), CF_TIMEDOUT);
    CHECK_EQUAL(cf_wait32(&word, 0, INT64_MIN, CF_PRIVATE), CF_TIMEDOUT);
}

/* Two sides count a word up in turn: even is mine, odd is yours. */
static void
count_in_turn(cf_word *word, uint32_t mine, uint32_t end, cf_scope scope)
{
    for (;;) {
        uint32_t now = cf_load_acquire(word);
        if (now >= end) {
            return;
        }
        if (now % 2 == mine) {
            cf_store_release(word, now + 1);
            cf_wake32(word, 1, scope);
        }
        else {
            cf_wait32(word, now, CF_FOREVER, scope);
        }
    }
}

typedef struct {
    cf_word word;
    uint32_t end;
} turns;

static void *
odd_side(void *arg)
{
    turns *t = arg;
    count_in_turn(&t->word, 1, t->end, CF_PRIVATE);
    return NULL;
}

static void
two_threads_wake_each_other(void)
{
    turns t = {0, 2 * (uint32_t)rounds(20000)};
    pthread_t other = start(odd_side, &t);
    count_in_turn(&t.word, 0, t.end, CF_PRIVATE);
    join(other);
    CHECK_EQUAL(t.word, t.end);
}

static void
two_processes_wake_each_other(void)
{
    turns *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                    -1, 0);
    if (!CHECK(t != MAP_FAILED)) {
        return;
    }
    t->end = 2 * (uint32_t)rounds(20000);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        count_in_turn(&t->word, 1, t->end, CF_SHARED);
        _exit(0);
    }
    count_in_turn(&t->word, 0, t->end, CF_SHARED);
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(t->word, t->end);
    munmap(t, sizeof *t);
}

#define CROWD 8

typedef struct {
    cf_word word;
    cf_word near;           /* that are about to sleep, or asleep */
    cf_word returned;
} crowd;

static void *
one_of_a_crowd(void *arg)
{
    crowd *c = arg;
    atomic_fetch_add(&c->near, 1);
    while (cf_load_acquire(&c->word) == 0) {
        cf_wait32(&c->word, 0, CF_FOREVER, CF_PRIVATE);
    }
    atomic_fetch_add(&c->returned, 1);
    return NULL;
}

static void
all_sleepers_are_woken_at_once(void)
{
    for (int i = rounds(200); i > 0; i--) {
        crowd c = {0, 0, 0};
        pthread_t threads[CROWD];
        for (int k = 0; k < CROWD; k++) {
            threads[k] = start(one_of_a_crowd, &c);
        }
        while (cf_load_acquire(&c.near) < CROWD) {
            cf_yield();
        }
        CHECK_EQUAL(cf_load_acquire(&c.returned), 0);
        cf_store_release(&c.word, 1);
        cf_wake32(&c.word, INT_MAX, CF_PRIVATE);
        for (int k = 0; k < CROWD; k++) {
            join(threads[k]);
        }
        CHECK_EQUAL(c.returned, CROWD);
    }
}

/* ---- signals ---- */

static void
nothing(int number)
{
    (void)number;
}

typedef struct {
    cf_word word, left;
    cf_status status;
} sleeper;

static void *
sleep_once(void *arg)
{
    sleeper *s = arg;
    do {
        s->status = cf_wait32(&s->word, 0, CF_FOREVER, CF_PRIVATE);
    } while (s->status == CF_OK);
    cf_store_release(&s->left, 1);
    return NULL;
}

static void
a_signal_handler_ends_a_wait(void)
{
    struct sigaction act, old;
    memset(&act, 0, sizeof act);
    act.sa_handler = nothing;
    sigaction(SIGUSR1, &act, &old);
    sleeper s = {0, 0, CF_OK};
    pthread_t thread = start(sleep_once, &s);
    while (!cf_load_acquire(&s.left)) {
        /* The first may come before it sleeps, so they go on. */
        pthread_kill(thread, SIGUSR1);
        cf_wait32(&s.left, 0, cf_now() + MS, CF_PRIVATE);
    }
    join(thread);
    CHECK_EQUAL(s.status, CF_INTR);
    sigaction(SIGUSR1, &old, NULL);
}

/* ---- stale and wrong addresses ---- */

static void
waking_memory_that_is_gone_does_no_harm(void)
{
    long page = sysconf(_SC_PAGESIZE);
    cf_word *word = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (CHECK(word != MAP_FAILED)) {
        munmap(word, (size_t)page);
        cf_wake32(word, 1, CF_PRIVATE);
        cf_wake32(word, 1, CF_SHARED);
    }
}

static void
waiting_on_memory_that_is_gone_is_an_error(void)
{
    long page = sysconf(_SC_PAGESIZE);
    cf_word *word = mmap(NULL, (size_t)page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (CHECK(word != MAP_FAILED)) {
        errno = 0;
        CHECK_EQUAL(cf_wait32(word, 0, CF_FOREVER, CF_PRIVATE), CF_SYSTEM);
        CHECK_EQUAL(errno, EFAULT);
        munmap(word, (size_t)page);
    }
}

static void *
first_here(void *answer)
{
    *(bool *)answer = cf_is_first_thread();
    return NULL;
}

static void
only_the_first_thread_is_the_first(void)
{
    bool other = true;
    join(start(first_here, &other));
    CHECK(cf_is_first_thread());
    CHECK(!other);
}

int
main(void)
{
    RUN(clocks_agree_and_go_forwards);
    RUN(a_word_with_another_value_is_not_slept_on);
    RUN(deadlines_are_absolute_and_not_early);
    RUN(a_deadline_long_ago_only_looks);
    RUN(two_threads_wake_each_other);
    RUN(two_processes_wake_each_other);
    RUN(all_sleepers_are_woken_at_once);
    RUN(a_signal_handler_ends_a_wait);
    RUN(waking_memory_that_is_gone_does_no_harm);
    RUN(waiting_on_memory_that_is_gone_is_an_error);
    RUN(only_the_first_thread_is_the_first);
    return finish_tests();
}
