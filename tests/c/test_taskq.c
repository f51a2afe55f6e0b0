/* sync/taskq.h: order, nothing lost or doubled, and the corners around the stub. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "plat/wait.h"
#include "sync/taskq.h"

typedef struct {
    cf_link link;
    uint32_t producer, number;
} task;

static task *
task_of(cf_link *link)
{
    return cf_container_of(link, task, link);
}

static cf_link *
pop_busy(cf_taskq *q, _Atomic bool *busy)
{
    turn_take();
    cf_link *link = cf_taskq_pop(q, busy);
    turn_give();
    return link;
}

static cf_link *
pop(cf_taskq *q)
{
    return pop_busy(q, NULL);
}

static void
push(cf_taskq *q, cf_link *link)
{
    turn_take();
    cf_taskq_push(q, link);
    turn_give();
}

/* ---- one thread ---- */

static void
an_empty_queue_gives_nothing(void)
{
    cf_taskq q;
    cf_taskq_init(&q);
    CHECK(pop(&q) == NULL);
    CHECK_EQUAL(cf_taskq_length(&q), 0);
    CHECK(pop(&q) == NULL);
}

static bool
is_odd(const cf_link *link)
{
    return cf_container_of(link, task, link)->number % 2;
}

static void
those_that_wait_can_be_counted(void)
{
    cf_taskq q;
    cf_taskq_init(&q);
    CHECK_EQUAL(cf_taskq_count(&q, is_odd, 99), 0);
    task tasks[6];
    for (uint32_t i = 0; i < 6; i++) {
        tasks[i].number = i;
        push(&q, &tasks[i].link);
    }
    CHECK_EQUAL(cf_taskq_count(&q, is_odd, 99), 3);
    CHECK_EQUAL(cf_taskq_count(&q, is_odd, 2), 1);
    pop(&q);
    pop(&q);
    CHECK_EQUAL(cf_taskq_count(&q, is_odd, 99), 2);
    CHECK_EQUAL(cf_taskq_length(&q), 4);
    while (pop(&q) != NULL) {
    }
    CHECK_EQUAL(cf_taskq_count(&q, is_odd, 99), 0);
}

static void
the_oldest_comes_first(void)
{
    cf_taskq q;
    task tasks[100];
    cf_taskq_init(&q);
    for (uint32_t i = 0; i < 100; i++) {
        tasks[i].number = i;
        push(&q, &tasks[i].link);
        CHECK_EQUAL(cf_taskq_length(&q), i + 1);
    }
    for (uint32_t i = 0; i < 100; i++) {
        CHECK(pop(&q) == &tasks[i].link);
        CHECK_EQUAL(cf_taskq_length(&q), 99 - i);
    }
    CHECK(pop(&q) == NULL);
}

/* Random pushes and pops against a counter, mostly near empty, where the stub goes in
   and out; each node is freed when it comes out, so that a later touch is found. */
static void
pushes_and_pops_in_any_order_keep_the_order(void)
{
    cf_taskq q;
    prng r = prng_new();
    cf_taskq_init(&q);
    uint32_t in = 0, out = 0;
    for (int i = rounds(300000); i > 0; i--) {
        uint32_t most = prng_below(&r, 64) == 0 ? 20 : 3;
        if (in - out < most && prng_below(&r, 2)) {
            task *t = malloc(sizeof *t);
            t->number = in++;
            push(&q, &t->link);
        }
        else {
            cf_link *link = pop(&q);
            if (CHECK_EQUAL(link == NULL, in == out) && link != NULL) {
                CHECK_EQUAL(task_of(link)->number, out);
                out++;
                free(task_of(link));
            }
        }
        CHECK_EQUAL(cf_taskq_length(&q), in - out);
    }
    cf_link *link;
    while ((link = pop(&q)) != NULL) {
        CHECK_EQUAL(task_of(link)->number, out);
        out++;
        free(task_of(link));
    }
    CHECK_EQUAL(in, out);
}

static void
a_node_can_be_pushed_again_at_once(void)
{
    cf_taskq q;
    task only;
    cf_taskq_init(&q);
    for (int i = 0; i < 1000; i++) {
        push(&q, &only.link);
        CHECK(pop(&q) == &only.link);
        CHECK(pop(&q) == NULL);
    }
}

static void
pop_says_busy_only_with_a_task(void)
{
    cf_taskq q;
    task a;
    _Atomic bool busy = false;
    cf_taskq_init(&q);
    CHECK(pop_busy(&q, &busy) == NULL);
    CHECK(!busy);
    push(&q, &a.link);
    CHECK(pop_busy(&q, &busy) == &a.link);
    CHECK(busy);
    CHECK(pop_busy(&q, &busy) == NULL);
    CHECK(busy);
}

static void
a_closed_queue_is_drained_as_before(void)
{
    cf_taskq q;
    task a, b;
    cf_taskq_init(&q);
    push(&q, &a.link);
    cf_taskq_close(&q);
    CHECK_EQUAL(cf_taskq_length(&q), 1);
    CHECK(!cf_taskq_ended(&q));
    push(&q, &b.link);
    cf_taskq_close(&q);
    CHECK(pop(&q) == &a.link);
    CHECK(pop(&q) == &b.link);
    CHECK(pop(&q) == NULL);
    CHECK(cf_taskq_ended(&q));
    CHECK(cf_taskq_calls(&q));
}

/* ---- many producers, many consumers ---- */

#define MOST_THREADS 4

typedef struct {
    cf_taskq q;
    uint32_t producers, consumers, each;    /* tasks for each producer */
    cf_word next_producer, taken, outstanding;
    uint32_t window;            /* tasks outstanding at most; 0: no limit */
    cf_word *seen[MOST_THREADS];    /* [producer][number]: times taken */
} traffic;

static traffic *hanging_traffic;

static void
explain_traffic(void)
{
    traffic *t = hanging_traffic;
    fprintf(stderr, "length %u, taken %u, outstanding %u, lock %u, head %p, tail %p, stub %p\n",
            cf_taskq_length(&t->q), cf_load_relaxed(&t->taken),
            cf_load_relaxed(&t->outstanding), cf_load_relaxed(&t->q.lock.word),
            (void *)t->q.head, (void *)cf_load_relaxed(&t->q.tail), (void *)&t->q.stub);
}

static void *
produce(void *arg)
{
    traffic *t = arg;
    prng r = prng_new();
    uint32_t me = atomic_fetch_add(&t->next_producer, 1);
    for (uint32_t i = 0; i < t->each; i++) {
        while (t->window != 0 && cf_load_relaxed(&t->outstanding) >= t->window) {
            cf_yield();
        }
        task *new = malloc(sizeof *new);
        new->producer = me;
        new->number = i;
        atomic_fetch_add_explicit(&t->outstanding, 1, memory_order_relaxed);
        push(&t->q, &new->link);
        prng_dawdle(&r);
    }
    return NULL;
}

static void *
consume(void *arg)
{
    traffic *t = arg;
    prng r = prng_new();
    /* One consumer sees each producer's tasks in order: what it misses went to others. */
    uint32_t least[MOST_THREADS] = {0};
    uint32_t all = t->producers * t->each;
    while (cf_load_relaxed(&t->taken) < all) {
        cf_link *link = pop(&t->q);
        if (link == NULL) {
            cf_yield();
            continue;
        }
        task *got = task_of(link);
        CHECK(got->number >= least[got->producer]);
        least[got->producer] = got->number + 1;
        CHECK_EQUAL(atomic_fetch_add(&t->seen[got->producer][got->number], 1), 0);
        free(got);
        atomic_fetch_sub_explicit(&t->outstanding, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&t->taken, 1, memory_order_relaxed);
        prng_dawdle(&r);
    }
    return NULL;
}

static void
run_traffic(uint32_t producers, uint32_t consumers, uint32_t window, int tasks)
{
    static traffic t;
    t = (traffic){.producers = producers, .consumers = consumers, .window = window,
                  .each = (uint32_t)tasks / producers + 1};
    cf_taskq_init(&t.q);
    hanging_traffic = &t;
    explain_hangs(explain_traffic);
    pthread_t threads[2 * MOST_THREADS];
    uint32_t n = 0;
    for (uint32_t i = 0; i < producers; i++) {
        t.seen[i] = calloc(t.each, sizeof *t.seen[i]);
    }
    for (uint32_t i = 0; i < consumers; i++) {
        threads[n++] = start(consume, &t);
    }
    for (uint32_t i = 0; i < producers; i++) {
        threads[n++] = start(produce, &t);
    }
    while (n > 0) {
        join(threads[--n]);
    }
    CHECK_EQUAL(t.taken, producers * t.each);
    CHECK_EQUAL(cf_taskq_length(&t.q), 0);
    CHECK(pop(&t.q) == NULL);
    for (uint32_t i = 0; i < producers; i++) {
        for (uint32_t k = 0; k < t.each; k++) {
            CHECK_EQUAL(t.seen[i][k], 1);
        }
        free(t.seen[i]);
    }
}

static void
one_producer_one_consumer(void)
{
    run_traffic(1, 1, 0, rounds(200000));
}

static void
many_producers_one_consumer(void)
{
    run_traffic(4, 1, 0, rounds(200000));
}

static void
many_producers_many_consumers(void)
{
    run_traffic(4, 4, 0, rounds(200000));
}

/* With few tasks about, nearly every pop is the last one and moves the stub. */
static void
a_queue_that_is_nearly_empty(void)
{
    run_traffic(2, 2, 1, rounds(40000));
    run_traffic(3, 3, 2, rounds(40000));
}

/* ---- who is idle ----

   A consumer is busy from before its task leaves the length until it is done with it.
   So whoever reads the length first and then the flag finds an unfinished task in one
   or the other. */

typedef struct {
    cf_taskq q;
    _Atomic bool busy;
    cf_word finished;
    uint32_t tasks;
} accounts;

static void *
work_one_by_one(void *arg)
{
    accounts *a = arg;
    for (uint32_t done = 0; done < a->tasks;) {
        if (pop_busy(&a->q, &a->busy) == NULL) {
            cf_yield();
            continue;
        }
        cf_store_relaxed(&a->finished, ++done);
        cf_store_release(&a->busy, false);
    }
    return NULL;
}

static void
an_unfinished_task_is_in_the_length_or_its_worker_is_busy(void)
{
    static accounts a;
    a = (accounts){.tasks = (uint32_t)rounds(50000)};
    cf_taskq_init(&a.q);
    task only;
    pthread_t worker = start(work_one_by_one, &a);
    for (uint32_t i = 1; i <= a.tasks; i++) {
        push(&a.q, &only.link);
        for (int looks = 1; cf_taskq_length(&a.q) != 0 || cf_load_acquire(&a.busy); looks++) {
            if (looks % 16 == 0) {
                cf_yield();
            }
        }
        CHECK_EQUAL(cf_load_relaxed(&a.finished), i);
    }
    join(worker);
}

/* ---- fork ---- */

static void
after_fork_forgets_a_lost_holder_of_the_lock(void)
{
    cf_taskq q;
    task a, b;
    cf_taskq_init(&q);
    push(&q, &a.link);
    push(&q, &b.link);
    cf_store_relaxed(&q.lock.word, 1);
    cf_taskq_after_fork(&q);
    CHECK(pop(&q) == &a.link);
    CHECK(pop(&q) == &b.link);
    CHECK(pop(&q) == NULL);
    push(&q, &a.link);
    CHECK(pop(&q) == &a.link);
}

static void
after_fork_counts_again_what_is_linked(void)
{
    cf_taskq q;
    task a, b;
    cf_taskq_init(&q);
    push(&q, &a.link);
    push(&q, &b.link);
    cf_taskq_close(&q);
    atomic_fetch_add(&q.pushed, 1);     /* a push that had not come to its link */
    cf_taskq_after_fork(&q);
    CHECK_EQUAL(cf_taskq_length(&q), 2);
    CHECK_EQUAL(q.closed, 1);
}

/* A producer was between its two steps, and others have pushed behind it. */
static void
after_fork_a_cut_queue_gives_what_is_linked(void)
{
    cf_taskq q;
    task a, cut, lost, later;
    cf_taskq_init(&q);
    push(&q, &a.link);
    cf_store_relaxed(&cut.link.next, NULL);
    (void)atomic_exchange(&q.tail, &cut.link);
    push(&q, &lost.link);
    cf_taskq_after_fork(&q);
    CHECK(pop(&q) == &a.link);
    CHECK(pop(&q) == NULL);
    push(&q, &later.link);
    CHECK(pop(&q) == &later.link);
    CHECK(pop(&q) == NULL);
}

#if !CF_SERIALIZED
/* A consumer was putting the stub behind the last task. */
static void
after_fork_a_queue_without_its_stub_gives_what_is_linked(void)
{
    cf_taskq q;
    task a, later;
    cf_taskq_init(&q);
    push(&q, &a.link);
    q.head = &a.link;
    cf_store_relaxed(&q.stub.next, NULL);
    (void)atomic_exchange(&q.tail, &q.stub);
    cf_store_relaxed(&q.lock.word, 1);
    cf_taskq_after_fork(&q);
    CHECK(pop(&q) == &a.link);
    CHECK(pop(&q) == NULL);
    push(&q, &later.link);
    CHECK(pop(&q) == &later.link);
}
#endif

/* Fork in the middle of traffic: what the child finds, it can take, and no more.  The
   memory of the parent's tasks is whatever it was, so the child only counts. */
static void
a_child_can_drain_what_it_finds(void)
{
    static traffic t;
    t = (traffic){.producers = 2, .consumers = 2, .window = 8,
                  .each = (uint32_t)rounds(60000)};
    cf_taskq_init(&t.q);
    for (uint32_t i = 0; i < 2; i++) {
        t.seen[i] = calloc(t.each, sizeof *t.seen[i]);
    }
    pthread_t threads[] = {start(consume, &t), start(consume, &t), start(produce, &t),
                           start(produce, &t)};
    prng r = prng_new();
    int children = 0;
    while (cf_load_relaxed(&t.taken) < 2 * t.each && children < 200) {
        turn_take();
        pid_t child = fork();
        turn_give();
        if (child == 0) {
            alarm(20);
            cf_taskq_after_fork(&t.q);
            uint32_t count = cf_taskq_length(&t.q), taken = 0;
            while (pop(&t.q) != NULL) {
                taken++;
            }
            task mine;
            push(&t.q, &mine.link);
            bool usable = pop(&t.q) == &mine.link;
            _exit(taken == count && usable ? 0 : 1);
        }
        int status;
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        if (!CHECK_EQUAL(status, 0)) {
            break;
        }
        children++;
        prng_dawdle(&r);
    }
    for (int i = 0; i < 4; i++) {
        join(threads[i]);
    }
    free(t.seen[0]);
    free(t.seen[1]);
    printf("    %d children\n", children);
}

int
main(void)
{
    RUN(an_empty_queue_gives_nothing);
    RUN(those_that_wait_can_be_counted);
    RUN(the_oldest_comes_first);
    RUN(pushes_and_pops_in_any_order_keep_the_order);
    RUN(a_node_can_be_pushed_again_at_once);
    RUN(pop_says_busy_only_with_a_task);
    RUN(a_closed_queue_is_drained_as_before);
    RUN(one_producer_one_consumer);
    RUN(many_producers_one_consumer);
    RUN(many_producers_many_consumers);
    RUN(a_queue_that_is_nearly_empty);
    RUN(an_unfinished_task_is_in_the_length_or_its_worker_is_busy);
    RUN(after_fork_forgets_a_lost_holder_of_the_lock);
    RUN(after_fork_counts_again_what_is_linked);
    RUN(after_fork_a_cut_queue_gives_what_is_linked);
#if !CF_SERIALIZED
    RUN(after_fork_a_queue_without_its_stub_gives_what_is_linked);
#endif
    RUN(a_child_can_drain_what_it_finds);
    return finish_tests();
}
