/* sync/lot.h with sync/taskq.h: a thread pool without Python.

   The workers do what csrc/threads/worker.c does, submit() and close_pool() what
   pool_type.c and pool.c do, and nothing else is asked but that every task is run by
   somebody, soon, once. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "check.h"
#include "plat/clock.h"
#include "plat/wait.h"
#include "sync/cell.h"
#include "sync/lot.h"
#include "sync/taskq.h"

#define MOST_WORKERS 6

typedef struct pool pool;

typedef struct {
    cf_link link;
    cf_word cell;                   /* as a future's */
    cf_word refs;                   /* the queue's and the submitter's */
    void (*run)(pool *p);           /* NULL: nothing to do */
    cf_word *finished;              /* a submitter's count of its tasks, or NULL */
} task;

typedef struct {
    cf_berth berth;
    _Atomic bool busy;
    uint32_t number;
    pool *pool;
} worker;

struct pool {
    cf_taskq queue;
    cf_lot lot;
    cf_word state;                  /* not 0: closed */
    cf_word done;                   /* tasks that were run */
    cf_word inside;                 /* tasks that are running, of those that meet */
    uint32_t workers;
    pthread_t threads[MOST_WORKERS];
    worker *berths[MOST_WORKERS];   /* to explain a hang; NULL once it left */
};

static void
drop(task *t)
{
    if (atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) == 1) {
        free(t);
    }
}

/* ---- what the workers do ---- */

static bool
claim(task *t)
{
    uint32_t word = CF_STATE_PENDING;
    if (atomic_compare_exchange_strong_explicit(&t->cell, &word, CF_STATE_RUNNING,
                                                memory_order_acquire,
                                                memory_order_relaxed)) {
        return true;
    }
    CHECK_EQUAL(word, CF_STATE_CANCELLED);      /* its submitter took it back */
    return false;
}

static void
count(cf_word *word)
{
    atomic_fetch_add_explicit(word, 1, memory_order_acq_rel);
    cf_wake32(word, INT_MAX, CF_PRIVATE);
}

static void
run_task(pool *p, task *t)
{
    cf_word *finished = t->finished;
    if (t->run != NULL) {
        t->run(p);
    }
    drop(t);
    count(&p->done);
    if (finished != NULL) {
        count(finished);
    }
}

static void *
work(void *arg)
{
    worker *w = arg;
    pool *p = w->pool;
    turn_take();
    for (;;) {
        cf_link *link = cf_taskq_pop(&p->queue, &w->busy);
        if (link != NULL) {
            cf_lot_found(&p->lot, &w->berth);
            task *t = cf_container_of(link, task, link);
            bool mine = claim(t);
            turn_give();
            if (mine) {
                run_task(p, t);
            }
            else {
                drop(t);
            }
            turn_take();
            continue;
        }
        cf_store_relaxed(&w->busy, false);
        if (cf_taskq_ended(&p->queue)) {
            break;
        }
        turn_give();
        cf_lot_wait(&p->lot, &w->berth);
        turn_take();
    }
    cf_lot_found(&p->lot, &w->berth);
    turn_give();
    p->berths[w->number] = NULL;
    /* At once: whoever called this worker may still be about to wake it. */
    free(w);
    return NULL;
}

/* ---- what its users do ---- */

static pool *the_pool;

static void
explain_pool(void)
{
    pool *p = the_pool;
    fprintf(stderr, "length %u, closed %u, state %u, done %u, token %u, parked %u, "
            "lot lock %u, spin %d\n", cf_taskq_length(&p->queue),
            cf_load_relaxed(&p->queue.closed), cf_load_relaxed(&p->state),
            cf_load_relaxed(&p->done), cf_load_relaxed(&p->lot.token),
            cf_load_relaxed(&p->lot.parked_count), cf_load_relaxed(&p->lot.lock.word),
            cf_load_relaxed(&p->lot.spin.limit));
    for (uint32_t i = 0; i < p->workers; i++) {
        worker *w = p->berths[i];
        if (w == NULL) {
            fprintf(stderr, "worker %u left\n", i);
        }
        else {
            fprintf(stderr, "worker %u: berth %u, searching %d, busy %d\n", i,
                    cf_load_relaxed(&w->berth.word), w->berth.searching,
                    cf_load_relaxed(&w->busy));
        }
    }
}

static pool *
open_pool(uint32_t workers)
{
    pool *p = calloc(1, sizeof *p);
    cf_taskq_init(&p->queue);
    cf_lot_init(&p->lot, cf_taskq_calls, &p->queue);
    p->workers = workers;
    the_pool = p;
    explain_hangs(explain_pool);
    for (uint32_t i = 0; i < workers; i++) {
        worker *w = p->berths[i] = calloc(1, sizeof *w);
        w->pool = p;
        w->number = i;
        cf_berth_init(&w->berth);
    }
    for (uint32_t i = 0; i < workers; i++) {
        p->threads[i] = start(work, p->berths[i]);
    }
    return p;
}

/* False if the pool is closed: then the task is not run. */
static bool
submit(pool *p, void (*run)(pool *), cf_word *finished)
{
    turn_take();
    if (cf_load_seq(&p->state) != 0) {
        turn_give();
        return false;
    }
    task *t = calloc(1, sizeof *t);
    t->run = run;
    t->finished = finished;
    cf_store_relaxed(&t->refs, 2);
    cf_taskq_push(&p->queue, &t->link);
    cf_lot_notify(&p->lot);
    uint32_t word = CF_STATE_PENDING;
    bool refused = cf_load_seq(&p->state) != 0
        && atomic_compare_exchange_strong_explicit(&t->cell, &word, CF_STATE_CANCELLED,
                                                   memory_order_relaxed,
                                                   memory_order_relaxed);
    turn_give();
    drop(t);
    return !refused;
}

static void
wait_for_count(cf_word *word, uint32_t count)
{
    uint32_t now;
    while ((now = cf_load_acquire(word)) < count) {
        cf_wait32(word, now, CF_FOREVER, CF_PRIVATE);
    }
}

static void
close_pool(pool *p)
{
    turn_take();
    atomic_fetch_or_explicit(&p->state, 1, memory_order_seq_cst);
    cf_taskq_close(&p->queue);
    cf_lot_dismiss(&p->lot);
    turn_give();
}

static void
join_workers(pool *p)
{
    for (uint32_t i = 0; i < p->workers; i++) {
        join(p->threads[i]);
    }
}

static void
free_pool(pool *p)
{
    CHECK_EQUAL(p->lot.token, 0);
    CHECK_EQUAL(p->lot.parked_count, 0);
    CHECK(p->lot.parked == NULL);
    cf_link *link;
    while ((link = cf_taskq_pop(&p->queue, NULL)) != NULL) {
        /* Only what its submitter took back can be left. */
        CHECK_EQUAL(cf_container_of(link, task, link)->cell, CF_STATE_CANCELLED);
        drop(cf_container_of(link, task, link));
    }
    free(p);
}

static const int32_t limits[] = {0, 1000, 5000, 50000};

/* ---- bursts ---- */

typedef struct {
    pool *pool;
    int32_t limit;
    int bursts;
    cf_word *submitted;         /* by all producers of the pool */
} producer;

static void *
produce_bursts(void *arg)
{
    producer *x = arg;
    prng r = prng_new();
    cf_word finished = 0;
    uint32_t mine = 0;
    for (int i = 0; i < x->bursts; i++) {
        /* The spin adapts; begin each burst with the limit that is tested. */
        cf_store_relaxed(&x->pool->lot.spin.limit, x->limit);
        uint32_t size = 1 + prng_below(&r, prng_below(&r, 4) ? 3 : 20);
        for (uint32_t k = 0; k < size; k++) {
            CHECK(submit(x->pool, NULL, &finished));
            if (prng_below(&r, 4) == 0) {
                prng_dawdle(&r);
            }
        }
        mine += size;
        switch (prng_below(&r, 4)) {
        case 0:
            break;
        case 1:
            /* If this is the only producer nobody pushes now: whoever was told must do
               it all. */
            wait_for_count(&finished, mine);
            for (uint32_t k = prng_below(&r, 16); k > 0; k--) {
                prng_dawdle(&r);
            }
            break;
        default:
            /* The next burst comes just when the workers give up, or a little later. */
            for (int looks = 1; cf_load_relaxed(&finished) < mine; looks++) {
                cf_relax();
                if (looks % 1024 == 0) {
                    cf_yield();
                }
            }
            for (uint32_t k = prng_below(&r, 20u << prng_below(&r, 5)); k > 0; k--) {
                cf_relax();
            }
        }
    }
    wait_for_count(&finished, mine);
    atomic_fetch_add(x->submitted, mine);
    return NULL;
}

static void
run_bursts(uint32_t workers, int producers, int32_t limit, int bursts)
{
    pool *p = open_pool(workers);
    cf_word submitted = 0;
    producer x = {p, limit, bursts / producers + 1, &submitted};
    pthread_t threads[8];
    for (int i = 0; i < producers; i++) {
        threads[i] = start(produce_bursts, &x);
    }
    for (int i = 0; i < producers; i++) {
        join(threads[i]);
    }
    CHECK_EQUAL(cf_taskq_length(&p->queue), 0);
    close_pool(p);
    join_workers(p);
    CHECK_EQUAL(p->done, submitted);
    free_pool(p);
}

static void
every_task_of_every_burst_is_run(void)
{
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        for (uint32_t workers = 1; workers <= MOST_WORKERS; workers += workers < 3 ? 1 : 3) {
            run_bursts(workers, 1, limits[i], rounds(6000));
            run_bursts(workers, 3, limits[i], rounds(6000));
        }
    }
}

static void
every_task_is_run_on_one_processor(void)
{
    cpu_set_t all, one;
    if (!CHECK(sched_getaffinity(0, sizeof all, &all) == 0)) {
        return;
    }
    int first = 0;
    while (!CPU_ISSET(first, &all)) {
        first++;
    }
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    CHECK_EQUAL(sched_setaffinity(0, sizeof one, &one), 0);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        run_bursts(3, 2, limits[i], rounds(4000));
    }
    CHECK_EQUAL(sched_setaffinity(0, sizeof all, &all), 0);
}

/* ---- every worker is called when there is work for all ---- */

static void
meet(pool *p)
{
    uint32_t target = (cf_load_acquire(&p->inside) / p->workers + 1) * p->workers, now;
    atomic_fetch_add_explicit(&p->inside, 1, memory_order_acq_rel);
    cf_wake32(&p->inside, INT_MAX, CF_PRIVATE);
    while ((now = cf_load_acquire(&p->inside)) < target) {
        cf_wait32(&p->inside, now, CF_FOREVER, CF_PRIVATE);
    }
}

static void
tasks_that_need_each_other_all_get_a_worker(void)
{
    prng r = prng_new();
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        pool *p = open_pool(MOST_WORKERS);
        uint32_t submitted = 0;
        for (int k = rounds(600); k > 0; k--) {
            cf_store_relaxed(&p->lot.spin.limit, limits[i]);
            for (uint32_t n = 0; n < p->workers; n++) {
                CHECK(submit(p, meet, NULL));
                prng_dawdle(&r);
            }
            submitted += p->workers;
            wait_for_count(&p->done, submitted);
        }
        close_pool(p);
        join_workers(p);
        free_pool(p);
    }
}

/* ---- closing ---- */

typedef struct {
    pool *pool;
    cf_word *accepted;
} late;

static void *
submit_until_refused(void *arg)
{
    late *x = arg;
    prng r = prng_new();
    while (submit(x->pool, NULL, NULL)) {
        atomic_fetch_add(x->accepted, 1);
        prng_dawdle(&r);
        if (prng_below(&r, 32) == 0) {
            cf_yield();
        }
    }
    return NULL;
}

static void *
close_now(void *arg)
{
    close_pool(arg);
    return NULL;
}

/* The moment of closing is anywhere; workers leave while others are called, producers
   come too late, and two threads may close at once.  A task that was accepted is run. */
static void
closing_at_any_moment_loses_no_accepted_task(void)
{
    prng r = prng_new();
    for (int i = rounds(1000); i > 0; i--) {
        pool *p = open_pool(1 + prng_below(&r, 4));
        cf_store_relaxed(&p->lot.spin.limit, limits[prng_below(&r, 4)]);
        cf_word accepted = 0;
        late x = {p, &accepted};
        pthread_t producers[2] = {start(submit_until_refused, &x),
                                  start(submit_until_refused, &x)};
        for (uint32_t k = prng_below(&r, 200); k > 0; k--) {
            prng_dawdle(&r);
        }
        bool twice = prng_below(&r, 2);
        pthread_t other = twice ? start(close_now, p) : producers[0];
        close_pool(p);
        join(producers[0]);
        join(producers[1]);
        if (twice) {
            join(other);
        }
        join_workers(p);
        CHECK_EQUAL(p->done, accepted);
        free_pool(p);
    }
}

static void
closing_a_pool_at_rest_dismisses_everybody(void)
{
    prng r = prng_new();
    for (int i = rounds(500); i > 0; i--) {
        pool *p = open_pool(1 + prng_below(&r, MOST_WORKERS));
        cf_store_relaxed(&p->lot.spin.limit, 0);
        if (prng_below(&r, 2)) {
            while (cf_load_relaxed(&p->lot.parked_count) < p->workers) {
                cf_yield();
            }
        }
        close_pool(p);
        join_workers(p);
        free_pool(p);
    }
}

/* ---- at rest ---- */

static int64_t
cpu_time(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return ((int64_t)u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000
        + ((int64_t)u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

static void
at_rest_all_are_parked_and_use_no_processor(void)
{
    pool *p = open_pool(4);
    for (int i = 0; i < 100; i++) {
        CHECK(submit(p, NULL, NULL));
    }
    wait_for_count(&p->done, 100);
    /* The last one is counted just before it gives the token back. */
    while (cf_load_relaxed(&p->lot.parked_count) < 4 || cf_load_relaxed(&p->lot.token)) {
        cf_yield();
    }
    int64_t before = cpu_time(), begin = cf_now();
    cf_word never = 0;
    while (cf_now() - begin < 400000000) {
        cf_wait32(&never, 0, begin + 400000000, CF_PRIVATE);
    }
    /* One spinning thread would have used all of it. */
    int64_t used = cpu_time() - before;
    printf("    %.1f ms in 400 ms\n", (double)used / 1e6);
    CHECK(used < 100000000);
    close_pool(p);
    join_workers(p);
    free_pool(p);
}

static void
a_call_for_nothing_does_no_harm(void)
{
    pool *p = open_pool(2);
    for (int i = 0; i < 20; i++) {
        /* Told for nothing: a worker wakes, finds nothing, and parks again. */
        cf_lot_notify(&p->lot);
        cf_yield();
    }
    CHECK(submit(p, NULL, NULL));
    wait_for_count(&p->done, 1);
    close_pool(p);
    join_workers(p);
    free_pool(p);
}

/* ---- fork ---- */

static bool
always(const void *nothing)
{
    return nothing == NULL;
}

static void
after_fork_nobody_waits_and_the_token_is_free(void)
{
    cf_lot lot;
    cf_berth gone, mine;
    cf_lot_init(&lot, always, NULL);
    cf_berth_init(&gone);
    cf_berth_init(&mine);
    lot.parked = &gone;
    cf_store_relaxed(&lot.parked_count, 1);
    cf_store_relaxed(&lot.token, 1);
    cf_store_relaxed(&lot.lock.word, 1);
    cf_lot_after_fork(&lot);
    cf_lot_notify(&lot);
    cf_lot_wait(&lot, &mine);       /* there is a reason: it comes back */
    CHECK_EQUAL(lot.token, mine.searching ? 1 : 0);
    cf_lot_found(&lot, &mine);
    CHECK_EQUAL(lot.token, 0);
    cf_lot_dismiss(&lot);
}

int
main(void)
{
    RUN(every_task_of_every_burst_is_run);
    RUN(every_task_is_run_on_one_processor);
    RUN(tasks_that_need_each_other_all_get_a_worker);
    RUN(closing_at_any_moment_loses_no_accepted_task);
    RUN(closing_a_pool_at_rest_dismisses_everybody);
    RUN(at_rest_all_are_parked_and_use_no_processor);
    RUN(a_call_for_nothing_does_no_harm);
    RUN(after_fork_nobody_waits_and_the_token_is_free);
    return finish_tests();
}
