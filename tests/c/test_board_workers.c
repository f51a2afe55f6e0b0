/* ipc/board.h with threads for workers: every task is run by somebody, soon, once.  (Each
   function alone: test_board.c; workers that die: test_board_processes.c.) */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "board_memory.h"
#include "check.h"
#include "ipc/board.h"
#include "plat/peer.h"
#include "plat/wait.h"

#define MOST_WORKERS 6

/* ---- a pool of threads ---- */

#define SLOTS 64u

enum { NOTHING, MEET, CHECKED };

typedef struct {
    cf_segment segment;
    cf_board board;
    pthread_mutex_t lock;       /* the pool's: spare slots, push */
    uint32_t spare[SLOTS];
    uint32_t spares;
    uint32_t workers;
    pthread_t threads[MOST_WORKERS];
    cf_word thread_ids[MOST_WORKERS];   /* the kernel's; each thread stores its own */
    cf_word done;               /* tasks that were run */
    cf_word inside;             /* of those that meet */
    cf_word interrupted;        /* waits that a signal ended */
    cf_word away;               /* workers in be_elsewhere() */
    cf_word plain;              /* all workers simply wait, see wait_for_task() */
    int bell;
    uint32_t in_order;          /* what one worker took last; its own */
    bool only_one;
} pool;

typedef struct {
    pool *pool;
    uint32_t number;
} worker;

static pool *the_pool;

static void
explain_pool(void)
{
    pool *p = the_pool;
    cf_board_head *s = p->board.shared;
    fprintf(stderr, "head %llu, tail %llu, token %u, closed %u, parked %#llx, "
            "announced %u, manager asleep %u, spares %u, done %u, spin %d\n",
            (unsigned long long)s->head, (unsigned long long)s->tail, s->token, s->closed,
            (unsigned long long)s->parked[0], s->announced, s->manager_asleep, p->spares,
            p->done, p->board.spin.limit);
    for (uint32_t i = 0; i < p->workers; i++) {
        cf_record *r = &p->board.records[i];
        fprintf(stderr, "worker %u: berth %u, dismissed %u, busy %u\n", i, r->berth,
                r->dismissed, r->busy);
    }
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (cf_board_slot(&p->board, i)->word & CF_SLOT_STATE) {
            fprintf(stderr, "slot %u: %#x\n", i, cf_board_slot(&p->board, i)->word);
        }
    }
}

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

/* The fields of the slot are plain: ThreadSanitizer sees whether its word orders them. */
static void
run(pool *p, uint32_t slot)
{
    cf_slot *s = cf_board_slot(&p->board, slot);
    s->place.block++;                       /* runs of this task */
    s->place.size = 3 * s->definition_at + 1;
    if (p->only_one) {
        CHECK_EQUAL((uint32_t)s->definition_at, p->in_order++);
    }
    if (s->definition == MEET) {
        meet(p);
    }
    atomic_fetch_add_explicit(&p->done, 1, memory_order_acq_rel);
}

/* The worker does something else, for as long as there is something to take: it is the
   others' to take it, so one of them has to be there. */
static void
be_elsewhere(pool *p)
{
    if (atomic_fetch_add(&p->away, 1) + 1 < p->workers) {
        while (cf_board_length(&p->board) != 0 && !cf_load_relaxed(&p->plain)) {
            cf_yield();
        }
    }
    atomic_fetch_sub(&p->away, 1);
}

/* Worker 0 simply waits; 1 does something else before it sleeps, 2 wakes now and then. */
static cf_status
wait_for_task(pool *p, uint32_t number, prng *r)
{
    cf_board *b = &p->board;
    if (number == 0 || number > 2) {
        return cf_board_wait(b, number);
    }
    cf_status status = cf_board_spin(b, number);
    if (status != CF_AGAIN) {
        CHECK(status == CF_OK || status == CF_TIMEDOUT);
        return status;
    }
    if (number == 1) {
        be_elsewhere(p);
        return cf_board_sleep(b, number, CF_FOREVER);
    }
    do {
        status = cf_board_sleep(b, number, cf_now() + prng_below(r, 300000));
        if (status == CF_AGAIN) {
            be_elsewhere(p);
            if (cf_load_relaxed(&p->plain)) {
                status = cf_board_sleep(b, number, CF_FOREVER);
            }
        }
    } while (status == CF_AGAIN);
    return status;
}

static void *
work(void *arg)
{
    worker w = *(worker *)arg;
    pool *p = w.pool;
    cf_board *b = &p->board;
    prng r = prng_new();
    free(arg);
    cf_store_release(&p->thread_ids[w.number], (uint32_t)syscall(SYS_gettid));
    cf_board_begin(b, w.number);
    for (;;) {
        uint32_t slot = cf_board_take(b, w.number);
        if (slot != CF_NO_SLOT) {
            run(p, slot);
            cf_board_busy(b, w.number, false);
            cf_board_finish(b, slot, false, p->bell);
            continue;
        }
        cf_status status = wait_for_task(p, w.number, &r);
        if (status == CF_TIMEDOUT) {
            return NULL;
        }
        if (status == CF_INTR) {
            atomic_fetch_add(&p->interrupted, 1);
            be_elsewhere(p);            /* its handler takes its time */
        }
        else {
            CHECK_EQUAL(status, CF_OK);
        }
    }
}

static void
begin_worker(pool *p, uint32_t number)
{
    worker *w = malloc(sizeof *w);
    *w = (worker){p, number};
    cf_board_enlist(&p->board, number);
    p->threads[number] = start(work, w);
}

static pool *
open_pool(uint32_t workers)
{
    pool *p = calloc(1, sizeof *p);
    segment_make(&p->segment, SLOTS, MOST_WORKERS);
    cf_board_init(&p->board, &p->segment);
    pthread_mutex_init(&p->lock, NULL);
    while (p->spares < SLOTS) {
        p->spare[p->spares] = p->spares;
        p->spares++;
    }
    p->workers = workers;
    p->bell = cf_bell_open();
    the_pool = p;
    explain_hangs(explain_pool);
    for (uint32_t i = 0; i < workers; i++) {
        begin_worker(p, i);
    }
    return p;
}

/* CF_NO_SLOT: no room now. */
static uint32_t
try_submit(pool *p, uint64_t kind, uint64_t id)
{
    uint32_t slot = CF_NO_SLOT;
    pthread_mutex_lock(&p->lock);
    if (p->spares > 0) {
        slot = p->spare[p->spares - 1];
        cf_slot *s = cf_board_slot(&p->board, slot);
        s->definition = kind;
        s->definition_at = id;
        s->place.block = 0;
        s->place.size = 0;
        cf_status status = cf_board_push(&p->board, slot);
        if (status == CF_OK) {
            p->spares--;
        }
        else {
            CHECK_EQUAL(status, CF_AGAIN);
            cf_board_advance(&p->board);
            slot = CF_NO_SLOT;
        }
    }
    pthread_mutex_unlock(&p->lock);
    if (slot != CF_NO_SLOT) {
        cf_board_notify(&p->board);
    }
    return slot;
}

static uint32_t
submit(pool *p, uint64_t kind, uint64_t id)
{
    uint32_t slot;
    while ((slot = try_submit(p, kind, id)) == CF_NO_SLOT) {
        cf_yield();
    }
    return slot;
}

/* The task in the slot has ended: look whether it ended well, and free the slot. */
static void
collect(pool *p, uint32_t slot, uint64_t id, bool cancelled)
{
    cf_slot *s = cf_board_slot(&p->board, slot);
    CHECK_EQUAL(state_of(&p->board, slot), cancelled ? CF_SLOT_CANCELLED : CF_SLOT_DONE);
    CHECK_EQUAL(s->definition_at, id);
    CHECK_EQUAL(s->place.block, cancelled ? 0 : 1);
    CHECK_EQUAL(s->place.size, cancelled ? 0 : 3 * id + 1);
    cf_board_free(&p->board, slot);
    pthread_mutex_lock(&p->lock);
    p->spare[p->spares++] = slot;
    pthread_mutex_unlock(&p->lock);
}

static void
await(pool *p, uint32_t slot, cf_spin *spin)
{
    cf_status status;
    do {
        status = cf_board_await(&p->board, slot, spin, CF_FOREVER);
    } while (status == CF_INTR);
    CHECK_EQUAL(status, CF_OK);
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
    cf_board_head *s = p->board.shared;
    CHECK_EQUAL(s->token, 0);
    CHECK_EQUAL(s->parked[0], 0);
    CHECK_EQUAL(cf_board_advance(&p->board), 0);
    CHECK_EQUAL(p->spares, SLOTS);
    explain_hangs(NULL);
    close(p->bell);
    segment_drop(&p->segment);
    free(p);
}

static const int32_t limits[] = {0, 1000, 5000, 50000};

/* ---- bursts ---- */

typedef struct {
    pool *pool;
    int32_t limit;
    int bursts;
    bool cancels;
    cf_word *count;             /* tasks that must be run */
} producer;

#define LONGEST_BURST 20u

static void
end_burst(producer *x, prng *r, const uint32_t *slots, uint64_t first, uint32_t size)
{
    pool *p = x->pool;
    cf_spin spin = {prng_below(r, 2) ? 50000 : 0, CF_LOOKS_MIN, 0};
    if (prng_below(r, 4) != 0) {
        /* The next burst comes just when the workers give up, or a little later. */
        uint32_t last = slots[size - 1];
        for (int looks = 1; !(state_of(&p->board, last)
                              & (CF_SLOT_DONE | CF_SLOT_CANCELLED)); looks++) {
            cf_relax();
            if (looks % 1024 == 0) {
                cf_yield();
            }
        }
        for (uint32_t k = prng_below(r, 20u << prng_below(r, 5)); k > 0; k--) {
            cf_relax();
        }
    }
    for (uint32_t k = 0; k < size; k++) {
        bool cancelled = x->cancels && prng_below(r, 3) == 0
            && cf_board_cancel(&p->board, slots[k]);
        if (!cancelled) {
            await(p, slots[k], &spin);
            atomic_fetch_add(x->count, 1);
        }
        collect(p, slots[k], first + k, cancelled);
    }
}

static void *
produce_bursts(void *arg)
{
    producer *x = arg;
    prng r = prng_new();
    uint64_t id = 0;
    for (int i = 0; i < x->bursts; i++) {
        /* The spin adapts; begin each burst with the limit that is tested. */
        cf_store_relaxed(&x->pool->board.spin.limit, x->limit);
        uint32_t slots[LONGEST_BURST];
        uint32_t size = 1 + prng_below(&r, prng_below(&r, 4) ? 3 : LONGEST_BURST);
        for (uint32_t k = 0; k < size; k++) {
            slots[k] = submit(x->pool, NOTHING, id + k);
            if (prng_below(&r, 4) == 0) {
                prng_dawdle(&r);
            }
        }
        end_burst(x, &r, slots, id, size);
        id += size;
    }
    return NULL;
}

static void
run_bursts(uint32_t workers, int producers, int32_t limit, bool cancels, int bursts)
{
    pool *p = open_pool(workers);
    p->only_one = workers == 1 && producers == 1 && !cancels;
    cf_word count = 0;
    producer x = {p, limit, bursts / producers + 1, cancels, &count};
    pthread_t threads[8];
    for (int i = 0; i < producers; i++) {
        threads[i] = start(produce_bursts, &x);
    }
    for (int i = 0; i < producers; i++) {
        join(threads[i]);
    }
    cf_board_close(&p->board);
    join_workers(p);
    CHECK_EQUAL(p->done, count);
    free_pool(p);
}

static void
every_task_of_every_burst_is_run_and_one_worker_runs_them_in_order(void)
{
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        for (uint32_t workers = 1; workers <= MOST_WORKERS;
             workers += workers < 3 ? 1 : 3) {
            run_bursts(workers, 1, limits[i], false, rounds(3000));
            run_bursts(workers, 3, limits[i], false, rounds(3000));
        }
    }
}

static void
a_task_is_either_cancelled_or_run(void)
{
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        run_bursts(1, 1, limits[i], true, rounds(3000));
        run_bursts(3, 2, limits[i], true, rounds(3000));
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
        run_bursts(3, 2, limits[i], i % 2, rounds(3000));
    }
    CHECK_EQUAL(sched_setaffinity(0, sizeof all, &all), 0);
}

/* ---- every worker is called when there is work for all ---- */

static void
tasks_that_need_each_other_all_get_a_worker(void)
{
    prng r = prng_new();
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        pool *p = open_pool(MOST_WORKERS);
        cf_store_relaxed(&p->plain, 1);
        for (int k = rounds(500); k > 0; k--) {
            cf_store_relaxed(&p->board.spin.limit, limits[i]);
            uint32_t slots[MOST_WORKERS];
            for (uint32_t n = 0; n < p->workers; n++) {
                slots[n] = submit(p, MEET, n);
                prng_dawdle(&r);
            }
            for (uint32_t n = 0; n < p->workers; n++) {
                await(p, slots[n], NULL);
                collect(p, slots[n], n, false);
            }
        }
        cf_board_close(&p->board);
        join_workers(p);
        free_pool(p);
    }
}

/* ---- leaving ---- */

static void
closing_at_any_moment_leaves_no_task_and_no_worker_behind(void)
{
    prng r = prng_new();
    for (int i = rounds(1500); i > 0; i--) {
        pool *p = open_pool(1 + prng_below(&r, 4));
        uint32_t slots[SLOTS], count = prng_below(&r, prng_below(&r, 2) ? 4 : SLOTS + 1);
        for (uint32_t k = 0; k < count; k++) {
            cf_store_relaxed(&p->board.spin.limit, limits[prng_below(&r, 4)]);
            slots[k] = submit(p, NOTHING, k);
            prng_dawdle(&r);
        }
        for (uint32_t k = prng_below(&r, 100); k > 0; k--) {
            prng_dawdle(&r);
        }
        cf_board_close(&p->board);
        join_workers(p);
        for (uint32_t k = 0; k < count; k++) {
            collect(p, slots[k], k, false);
        }
        free_pool(p);
    }
}

static void
dismissing_workers_at_any_moment_leaves_the_tasks_to_the_others(void)
{
    prng r = prng_new();
    pool *p = open_pool(4);
    for (int i = rounds(3000); i > 0; i--) {
        cf_store_relaxed(&p->board.spin.limit, limits[prng_below(&r, 4)]);
        uint32_t slots[16], count = 1 + prng_below(&r, 16);
        /* One always stays. */
        uint32_t number = 1 + prng_below(&r, 3);
        uint32_t when = prng_below(&r, count);
        for (uint32_t k = 0; k < count; k++) {
            slots[k] = submit(p, NOTHING, k);
            prng_dawdle(&r);
            if (k == when) {
                cf_board_dismiss(&p->board, number);
            }
        }
        for (uint32_t k = 0; k < count; k++) {
            await(p, slots[k], NULL);
            collect(p, slots[k], k, false);
        }
        join(p->threads[number]);
        cf_board_bury(&p->board, number);
        begin_worker(p, number);
    }
    cf_board_close(&p->board);
    join_workers(p);
    free_pool(p);
}

static void
on_signal(int signal)
{
    (void)signal;
}

typedef struct {
    pool *pool;
    cf_word stop;
} pest;

static void *
send_signals(void *arg)
{
    pest *x = arg;
    prng r = prng_new();
    while (!cf_load_acquire(&x->stop)) {
        pthread_kill(x->pool->threads[0], SIGUSR1);
        for (uint32_t k = prng_below(&r, 50); k > 0; k--) {
            prng_dawdle(&r);
        }
    }
    return NULL;
}

static void
signals_end_waits_and_lose_no_task(void)
{
    struct sigaction action = {.sa_handler = on_signal}, before;
    sigaction(SIGUSR1, &action, &before);
    pool *p = open_pool(3);
    pest x = {p, 0};
    pthread_t thread = start(send_signals, &x);
    cf_word count = 0;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        producer y = {p, limits[i], rounds(1500), true, &count};
        produce_bursts(&y);
    }
    while (cf_load_relaxed(&p->interrupted) == 0) {
        cf_yield();
    }
    cf_store_release(&x.stop, 1);
    join(thread);
    cf_board_close(&p->board);
    join_workers(p);
    printf("    %u waits interrupted\n", p->interrupted);
    CHECK_EQUAL(p->done, count);
    free_pool(p);
    sigaction(SIGUSR1, &before, NULL);
}

/* ---- watched slots, and somebody who waits for the bell ---- */

typedef struct {
    pool *pool;
    cf_word told[SLOTS];        /* announced and not yet collected */
    cf_word tells;
    cf_word stop;
} manager;

static void *
manage(void *arg)
{
    manager *m = arg;
    cf_board *b = &m->pool->board;
    prng r = prng_new();
    uint32_t rest = 0, numbers[5];
    bool corrupt = false;
    while (!cf_load_acquire(&m->stop)) {
        size_t count;
        while ((count = cf_board_announced(b, &rest, numbers, 1 + prng_below(&r, 5),
                                           &corrupt)) > 0) {
            for (size_t i = 0; i < count; i++) {
                CHECK_EQUAL(state_of(b, numbers[i]), CF_SLOT_DONE);
                CHECK_EQUAL(atomic_fetch_add(&m->told[numbers[i]], 1), 0);
                cf_wake32(&m->told[numbers[i]], INT_MAX, CF_PRIVATE);
                atomic_fetch_add(&m->tells, 1);
            }
        }
        CHECK(!corrupt);
        prng_dawdle(&r);
        if (cf_board_manager_sleeps(b)) {
            bool ready;
            CHECK_EQUAL(cf_poll(&m->pool->bell, &ready, 1, CF_FOREVER), CF_OK);
            cf_bell_silence(m->pool->bell);
            cf_board_manager_wakes(b);
        }
    }
    return NULL;
}

static void
what_is_watched_in_time_is_announced_once_and_the_bell_is_heard(void)
{
    pool *p = open_pool(3);
    manager m = {.pool = p};
    pthread_t thread = start(manage, &m);
    prng r = prng_new();
    uint32_t in_time = 0;
    for (int i = rounds(12000); i > 0; i--) {
        cf_store_relaxed(&p->board.spin.limit, limits[i % 4]);
        uint32_t slots[8], count = 1 + prng_below(&r, prng_below(&r, 2) ? 2 : 8);
        bool watched[8];
        for (uint32_t k = 0; k < count; k++) {
            slots[k] = submit(p, NOTHING, k);
        }
        for (uint32_t k = 0; k < count; k++) {
            prng_dawdle(&r);
            watched[k] = prng_below(&r, 4) != 0
                && (cf_board_watch(&p->board, slots[k]) & CF_SLOT_STATE) != CF_SLOT_DONE;
            in_time += watched[k];
        }
        for (uint32_t k = 0; k < count; k++) {
            cf_word *told = &m.told[slots[k]];
            while (watched[k] && cf_load_acquire(told) == 0) {
                cf_wait32(told, 0, CF_FOREVER, CF_PRIVATE);
            }
            await(p, slots[k], NULL);
            CHECK_EQUAL(atomic_exchange(told, 0), watched[k]);
            collect(p, slots[k], k, false);
        }
    }
    cf_store_release(&m.stop, 1);
    cf_bell_ring(p->bell);
    join(thread);
    CHECK_EQUAL(m.tells, in_time);
    printf("    %u announced\n", in_time);
    CHECK(in_time > 0);
    cf_board_close(&p->board);
    join_workers(p);
    free_pool(p);
}

typedef struct {
    pool *pool;
    pthread_barrier_t *barrier;
    cf_word *slot;
    int count;
} sleeper;

static void *
await_each(void *arg)
{
    sleeper *x = arg;
    prng r = prng_new();
    for (int i = 0; i < x->count; i++) {
        pthread_barrier_wait(x->barrier);
        cf_spin spin = {limits[prng_below(&r, 4)], CF_LOOKS_MIN, 0};
        prng_dawdle(&r);
        await(x->pool, cf_load_relaxed(x->slot), prng_below(&r, 2) ? &spin : NULL);
        pthread_barrier_wait(x->barrier);
    }
    return NULL;
}

static void
all_who_sleep_on_a_slot_are_woken(void)
{
    pool *p = open_pool(2);
    prng r = prng_new();
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 4);
    cf_word slot = 0;
    sleeper x = {p, &barrier, &slot, rounds(2000)};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        threads[i] = start(await_each, &x);
    }
    for (int i = 0; i < x.count; i++) {
        cf_store_relaxed(&slot, submit(p, NOTHING, 5));
        bool cancel = prng_below(&r, 2);
        pthread_barrier_wait(&barrier);
        prng_dawdle(&r);
        bool cancelled = cancel && cf_board_cancel(&p->board, slot);
        pthread_barrier_wait(&barrier);
        collect(p, slot, 5, cancelled);
    }
    for (int i = 0; i < 3; i++) {
        join(threads[i]);
    }
    pthread_barrier_destroy(&barrier);
    cf_board_close(&p->board);
    join_workers(p);
    free_pool(p);
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

static uint32_t
parked_count(pool *p)
{
    return (uint32_t)__builtin_popcountll(cf_load_seq(&p->board.shared->parked[0]));
}

/* Does the kernel say that the thread of this worker sleeps? */
static bool
is_asleep(pool *p, uint32_t number)
{
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/self/task/%u/stat",
             cf_load_acquire(&p->thread_ids[number]));
    FILE *file = fopen(path, "r");
    /* The name of the program, in brackets, has no blank in it. */
    bool read = file != NULL && fscanf(file, "%*d %*s %c", &state) == 1;
    if (file != NULL) {
        fclose(file);
    }
    return read && state == 'S';
}

static void
wait_until_all_sleep(pool *p)
{
    while (parked_count(p) < p->workers || cf_load_seq(&p->board.shared->token) != 0) {
        cf_yield();
    }
    /* A worker that has set its bit has its last look still before it, and takes what is
       pushed until then.  After that it sleeps, and nowhere else between the two. */
    for (uint32_t i = 0; i < p->workers; i++) {
        while (!is_asleep(p, i)) {
            cf_yield();
        }
    }
}

static void
at_rest_all_are_parked_and_use_no_processor(void)
{
    pool *p = open_pool(4);
    cf_store_relaxed(&p->plain, 1);
    for (uint64_t i = 0; i < 100; i++) {
        uint32_t slot = submit(p, NOTHING, i);
        await(p, slot, NULL);
        collect(p, slot, i, false);
    }
    wait_until_all_sleep(p);
    int64_t before = cpu_time(), begin = cf_now();
    cf_word never = 0;
    while (cf_now() - begin < 400000000) {
        cf_wait32(&never, 0, begin + 400000000, CF_PRIVATE);
    }
    /* One spinning thread would have used all of it. */
    int64_t used = cpu_time() - before;
    printf("    %.1f ms in 400 ms\n", (double)used / 1e6);
    CHECK(used < 100000000);
    cf_board_close(&p->board);
    join_workers(p);
    free_pool(p);
}

/* ---- what the dead leave behind ----

   Workers 0 and 1 are threads, worker 5 is the dead one: its last steps are written here
   by hand, one case for each place where it can have stopped. */

#define DEAD 5u

typedef struct {
    const char *name;
    uint32_t token;
    bool dead_is_parked, zero_is_called;
    bool takes;                 /* it had taken the first task... */
    bool passes;                /* ...and moved the head */
    bool finishes;              /* ...and finished */
} death;

static const death deaths[] = {
    {"searching", .token = DEAD + 1},
    {"called", .token = DEAD + 1, .dead_is_parked = true},
    {"asleep", .dead_is_parked = true},
    {"asleep, with a token for one that sleeps", .token = 1, .dead_is_parked = true},
    {"before it calls", .token = DEAD + 1, .takes = true, .passes = true},
    {"the token passed on, the call not made", .token = 1, .takes = true, .passes = true},
    {"the call made, nobody woken", .token = 1, .zero_is_called = true, .takes = true},
    {"the call made for a token that was lost", .zero_is_called = true},
    {"the token passed on to one that does not know", .token = 4 + 1},
    {"the token passed on to one that is dead, too", .token = 3 + 1},
    {"between taking and moving the head", .takes = true},
    {"between finishing and telling", .takes = true, .passes = true, .finishes = true},
};

static void
run_death(const death *d)
{
    pool *p = open_pool(2);
    cf_board *b = &p->board;
    cf_store_relaxed(&p->plain, 1);
    wait_until_all_sleep(p);
    cf_board_enlist(b, 3);
    cf_board_enlist(b, 4);
    cf_board_enlist(b, DEAD);
    uint32_t slots[3];
    pthread_mutex_lock(&p->lock);
    for (uint32_t i = 0; i < 3; i++) {
        slots[i] = p->spare[--p->spares];
        cf_slot *s = cf_board_slot(b, slots[i]);
        s->definition = NOTHING;
        s->definition_at = i;
        s->place.block = 0;
        s->place.size = 0;
        CHECK_EQUAL(cf_board_push(b, slots[i]), CF_OK);
    }
    pthread_mutex_unlock(&p->lock);
    cf_store_seq(&b->shared->token, d->token);
    if (d->takes) {
        uint64_t head = cf_load_relaxed(&b->shared->head);
        CHECK(cf_board_watch(b, slots[0]) & CF_SLOT_QUEUED);
        if (d->token == DEAD + 1) {
            /* Not to let cf_board_take call somebody. */
            cf_store_seq(&b->shared->token, 0);
            uint64_t bits = atomic_exchange(&b->shared->parked[0], 0);
            CHECK_EQUAL(cf_board_take(b, DEAD), slots[0]);
            cf_store_seq(&b->shared->parked[0], bits);
            cf_store_seq(&b->shared->token, d->token);
        }
        else {
            CHECK_EQUAL(cf_board_take(b, DEAD), slots[0]);
        }
        if (!d->passes) {
            cf_store_relaxed(&b->shared->head, head);
        }
        if (d->finishes) {
            atomic_fetch_add(&cf_board_slot(b, slots[0])->word,
                             CF_SLOT_DONE - CF_SLOT_TAKEN);
        }
    }
    if (d->dead_is_parked) {
        cf_store_seq(&b->records[DEAD].berth, d->token == DEAD + 1 ? CALLED : PARKED);
        atomic_fetch_or(&b->shared->parked[0], 1u << DEAD);
    }
    if (d->zero_is_called) {
        uint32_t parked = PARKED;
        CHECK(atomic_compare_exchange_strong(&b->records[0].berth, &parked, CALLED));
    }
    cf_board_notify(b);
    cf_board_bury(b, DEAD);
    cf_board_bury(b, 3);
    for (uint32_t i = 0; i < 3; i++) {
        bool lost = i == 0 && d->takes;
        if (lost) {
            CHECK_EQUAL(cf_board_fail(b, slots[i], DEAD), !d->finishes);
            uint32_t rest = 0, number = CF_NO_SLOT;
            bool corrupt = false;
            CHECK_EQUAL(cf_board_announced(b, &rest, &number, 1, &corrupt), !d->finishes);
            CHECK(d->finishes || number == slots[i]);
        }
        await(p, slots[i], NULL);
        CHECK_EQUAL(cf_board_slot(b, slots[i])->place.block, !lost);
        cf_board_free(b, slots[i]);
        p->spare[p->spares++] = slots[i];
    }
    CHECK_EQUAL(p->done, d->takes ? 2 : 3);
    /* Nobody is lost: two tasks that meet get two workers. */
    wait_until_all_sleep(p);
    for (uint32_t i = 0; i < 2; i++) {
        slots[i] = submit(p, MEET, i);
    }
    for (uint32_t i = 0; i < 2; i++) {
        await(p, slots[i], NULL);
        collect(p, slots[i], i, false);
    }
    cf_board_close(b);
    join_workers(p);
    free_pool(p);
}

static const death *the_death;

static void
explain_death(void)
{
    fprintf(stderr, "died: %s\n", the_death->name);
    explain_pool();
}

static void
wherever_a_worker_died_the_others_go_on(void)
{
    for (size_t i = 0; i < sizeof deaths / sizeof *deaths; i++) {
        the_death = &deaths[i];
        explain_hangs(explain_death);
        run_death(&deaths[i]);
    }
}

int
main(void)
{
    RUN(every_task_of_every_burst_is_run_and_one_worker_runs_them_in_order);
    RUN(a_task_is_either_cancelled_or_run);
    RUN(every_task_is_run_on_one_processor);
    RUN(tasks_that_need_each_other_all_get_a_worker);
    RUN(closing_at_any_moment_leaves_no_task_and_no_worker_behind);
    RUN(dismissing_workers_at_any_moment_leaves_the_tasks_to_the_others);
    RUN(signals_end_waits_and_lose_no_task);
    RUN(what_is_watched_in_time_is_announced_once_and_the_bell_is_heard);
    RUN(all_who_sleep_on_a_slot_are_woken);
    RUN(at_rest_all_are_parked_and_use_no_processor);
    RUN(wherever_a_worker_died_the_others_go_on);
    return finish_tests();
}
