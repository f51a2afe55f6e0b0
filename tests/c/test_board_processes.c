/* ipc/board.h with processes for workers, which are killed.

   Killed at random moments while tasks are submitted, cancelled, watched and waited for;
   and killed after each single instruction of a worker's round (with ptrace): it is
   called, takes a task, calls the next one, finishes, announces, rings, finds nothing,
   parks and sleeps.  Whatever the moment: every task ends once, and nobody who lives is
   forgotten. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "ipc/board.h"
#include "plat/peer.h"
#include "plat/wait.h"

#define SLOTS 64u
#define MOST_WORKERS 4u

enum { AWAKE, PARKED };                 /* of a berth; see board_idle.c */
enum { NOTHING, MEET };                 /* what a task does */

typedef struct {
    cf_segment segment;
    cf_board board;
    int bell;
    pthread_mutex_t lock;               /* the pool's */
    uint32_t spare[SLOTS];              /* guarded by lock */
    uint32_t spares;
    /* Watched in time: the manager will hear of it.  Guarded by lock. */
    bool expected[SLOTS];
    cf_word told[SLOTS];                /* the manager has heard of it */
    bool corrupt;                       /* the manager's */
    uint32_t rest;
    /* Processes, guarded by lock; 0: none. */
    pid_t pids[MOST_WORKERS];
    int peers[MOST_WORKERS];
    uint32_t workers;
    cf_word stopping;                   /* no new processes */
    cf_word inside;                     /* tasks that meet */
    uint32_t deaths, dismissed;
} pool;

static pool *the_pool;

static void
explain_pool(void)
{
    pool *p = the_pool;
    cf_board_head *s = p->board.shared;
    fprintf(stderr, "head %llu, tail %llu, token %u, closed %u, parked %#llx, "
            "announced %u, asleep %u, deaths %u\n",
            (unsigned long long)s->head, (unsigned long long)s->tail, s->token, s->closed,
            (unsigned long long)s->parked[0], s->announced, s->manager_asleep, p->deaths);
    for (uint32_t i = 0; i < MOST_WORKERS; i++) {
        cf_record *r = &p->board.records[i];
        fprintf(stderr, "worker %u: pid %d, enlisted %u, berth %u, dismissed %u, busy %u\n",
                i, (int)p->pids[i], r->enlisted, r->berth, r->dismissed, r->busy);
    }
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (cf_board_slot(&p->board, i)->word & CF_SLOT_STATE) {
            fprintf(stderr, "slot %u: %#x, expected %d, told %u\n", i,
                    cf_board_slot(&p->board, i)->word, p->expected[i], p->told[i]);
        }
    }
}

static pool *
open_pool(uint32_t workers)
{
    pool *p = calloc(1, sizeof *p);
    cf_segment *seg = &p->segment;
    seg->fd = -1;
    seg->geometry.slots = SLOTS;
    seg->geometry.workers = MOST_WORKERS;
    seg->board = 0;
    seg->records = CF_BOARD_BYTES;
    seg->order = seg->records + MOST_WORKERS * CF_RECORD_BYTES;
    seg->slots = seg->order + SLOTS * 8;
    seg->bytes = seg->slots + SLOTS * CF_SLOT_BYTES;
    seg->base = mmap(NULL, seg->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                     -1, 0);
    CHECK(seg->base != MAP_FAILED);
    cf_board_init(&p->board, seg);
    pthread_mutex_init(&p->lock, NULL);
    for (; p->spares < SLOTS; p->spares++) {
        p->spare[p->spares] = p->spares;
    }
    p->bell = cf_bell_open();
    p->workers = workers;
    the_pool = p;
    explain_hangs(explain_pool);
    return p;
}

static void
free_pool(pool *p)
{
    CHECK(!p->corrupt);
    CHECK_EQUAL(p->board.shared->token, 0);
    CHECK_EQUAL(p->board.shared->parked[0], 0);
    CHECK_EQUAL(cf_board_advance(&p->board), 0);
    CHECK_EQUAL(p->spares, SLOTS);
    explain_hangs(NULL);
    close(p->bell);
    munmap(p->segment.base, p->segment.bytes);
    free(p);
}

/* ---- a worker, as a process or a thread ---- */

static void
meet(pool *p)
{
    uint32_t now;
    atomic_fetch_add_explicit(&p->inside, 1, memory_order_acq_rel);
    cf_wake32(&p->inside, INT_MAX, CF_PRIVATE);
    while ((now = cf_load_acquire(&p->inside)) < 2) {
        cf_wait32(&p->inside, now, CF_FOREVER, CF_PRIVATE);
    }
}

static void
work(pool *p, uint32_t number)
{
    cf_board *b = &p->board;
    cf_board_begin(b, number);
    for (;;) {
        uint32_t slot = cf_board_take(b, number);
        if (slot != CF_NO_SLOT) {
            cf_slot *s = cf_board_slot(b, slot);
            s->place.block++;               /* runs of this task */
            if (s->definition == MEET) {
                meet(p);
            }
            cf_board_busy(b, number, false);
            cf_board_finish(b, slot, false, p->bell);
        }
        else if (cf_board_wait(b, number) == CF_TIMEDOUT) {
            return;
        }
    }
}

/* The child never returns.  Called with the lock held, or without other threads. */
static void
begin_process(pool *p, uint32_t number, int32_t limit, bool traced)
{
    cf_board_enlist(&p->board, number);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(3);
        }
        p->board.spin = (cf_spin){limit, CF_LOOKS_MIN, 0};
        if (traced) {
            if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
                _exit(2);
            }
            raise(SIGSTOP);
        }
        work(p, number);
        _exit(0);
    }
    if (!CHECK(pid > 0)) {
        abort();
    }
    p->pids[number] = pid;
    p->peers[number] = cf_peer_open(pid);
    CHECK(p->peers[number] >= 0);
}

/* ---- the parent ---- */

static uint32_t
try_submit(pool *p, uint64_t kind)
{
    uint32_t slot = CF_NO_SLOT;
    pthread_mutex_lock(&p->lock);
    if (p->spares > 0) {
        slot = p->spare[p->spares - 1];
        cf_slot *s = cf_board_slot(&p->board, slot);
        s->definition = kind;
        s->place.block = 0;
        cf_store_relaxed(&p->told[slot], 0);
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
    return slot;
}

static uint32_t
submit(pool *p, uint64_t kind)
{
    uint32_t slot;
    while ((slot = try_submit(p, kind)) == CF_NO_SLOT) {
        cf_yield();
    }
    return slot;
}

/* With the lock, under which the manager looks for what a dead worker has not told. */
static bool
watch(pool *p, uint32_t slot)
{
    pthread_mutex_lock(&p->lock);
    uint32_t state = cf_board_watch(&p->board, slot) & CF_SLOT_STATE;
    p->expected[slot] = state == CF_SLOT_QUEUED || state == CF_SLOT_TAKEN;
    bool in_time = p->expected[slot];
    pthread_mutex_unlock(&p->lock);
    return in_time;
}

static void
release(pool *p, uint32_t slot)
{
    pthread_mutex_lock(&p->lock);
    p->expected[slot] = false;
    cf_board_free(&p->board, slot);
    p->spare[p->spares++] = slot;
    pthread_mutex_unlock(&p->lock);
}

static void
tell(pool *p, uint32_t slot)
{
    CHECK_EQUAL(cf_load_acquire(&cf_board_slot(&p->board, slot)->word) & CF_SLOT_STATE,
                CF_SLOT_DONE);
    CHECK(p->expected[slot]);
    CHECK_EQUAL(atomic_exchange(&p->told[slot], 1), 0);
    cf_wake32(&p->told[slot], INT_MAX, CF_PRIVATE);
}

/* With the lock. */
static void
hear(pool *p)
{
    uint32_t numbers[3];
    size_t count;
    while ((count = cf_board_announced(&p->board, &p->rest, numbers, 3, &p->corrupt)) > 0) {
        for (size_t i = 0; i < count; i++) {
            tell(p, numbers[i]);
        }
    }
}

/* Its process has been waited for.  With the lock. */
static void
bury(pool *p, uint32_t number)
{
    cf_board *b = &p->board;
    cf_board_bury(b, number);
    close(p->peers[number]);
    p->pids[number] = 0;
    hear(p);
    for (uint32_t i = 0; i < SLOTS; i++) {
        cf_board_fail(b, i, number);
    }
    hear(p);
    for (uint32_t i = 0; i < SLOTS; i++) {
        uint32_t word = cf_load_acquire(&cf_board_slot(b, i)->word);
        if ((word & CF_SLOT_STATE) != CF_SLOT_DONE || CF_SLOT_WORKER(word) != number) {
            continue;
        }
        /* It died between finishing and telling. */
        if (p->expected[i] && !cf_load_relaxed(&p->told[i])) {
            tell(p, i);
        }
        if (word & CF_SLOT_SLEEPERS) {
            cf_board_wake(b, i);
        }
    }
}

typedef struct {
    uint32_t run, failed, cancelled;
} tally;

/* The task has ended (DONE). */
static void
count_end(pool *p, uint32_t slot, tally *t)
{
    cf_slot *s = cf_board_slot(&p->board, slot);
    uint32_t word = cf_load_acquire(&s->word);
    CHECK_EQUAL(word & CF_SLOT_STATE, CF_SLOT_DONE);
    if (word & CF_SLOT_FAILED) {
        CHECK(s->place.block <= 1);
        t->failed++;
    }
    else {
        CHECK_EQUAL(s->place.block, 1);
        t->run++;
    }
}

/* ---- killed at random ---- */

static void *
manage(void *arg)
{
    pool *p = arg;
    prng r = prng_new();
    int fds[MOST_WORKERS + 1];
    bool ready[MOST_WORKERS + 1];
    for (;;) {
        pthread_mutex_lock(&p->lock);
        hear(p);
        bool sleeps = cf_board_manager_sleeps(&p->board);
        uint32_t alive = 0;
        for (uint32_t i = 0; i < MOST_WORKERS; i++) {
            fds[i] = p->pids[i] ? p->peers[i] : -1;
            alive += p->pids[i] != 0;
        }
        fds[MOST_WORKERS] = p->bell;
        pthread_mutex_unlock(&p->lock);
        if (alive == 0) {
            cf_board_manager_wakes(&p->board);
            return NULL;
        }
        if (!sleeps) {
            continue;
        }
        CHECK_EQUAL(cf_poll(fds, ready, MOST_WORKERS + 1, CF_FOREVER), CF_OK);
        cf_bell_silence(p->bell);
        cf_board_manager_wakes(&p->board);
        pthread_mutex_lock(&p->lock);
        for (uint32_t i = 0; i < p->workers; i++) {
            if (p->pids[i] == 0 || !ready[i]) {
                continue;
            }
            int status;
            CHECK_EQUAL(waitpid(p->pids[i], &status, 0), p->pids[i]);
            bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
            CHECK(killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
            p->deaths += killed;
            bury(p, i);
            if (!cf_load_acquire(&p->stopping)) {
                static const int32_t limits[] = {0, 1000, 5000, 50000};
                begin_process(p, i, limits[prng_below(&r, 4)], false);
            }
        }
        pthread_mutex_unlock(&p->lock);
    }
}

typedef struct {
    pool *pool;
    cf_word stop;
    bool dismisses;
} killer;

static void *
kill_some(void *arg)
{
    killer *x = arg;
    pool *p = x->pool;
    prng r = prng_new();
    while (!cf_load_acquire(&x->stop)) {
        for (uint32_t k = prng_below(&r, 50u << prng_below(&r, 6)); k > 0; k--) {
            prng_dawdle(&r);
        }
        uint32_t number = prng_below(&r, p->workers);
        pthread_mutex_lock(&p->lock);
        if (p->pids[number] != 0) {
            if (prng_below(&r, 20) == 0) {
                cf_board_dismiss(&p->board, number);
                p->dismissed++;
            }
            else {
                kill(p->pids[number], SIGKILL);
            }
        }
        pthread_mutex_unlock(&p->lock);
    }
    return NULL;
}

/* Submit a burst and see all of it end. */
static void
use_pool(pool *p, prng *r, tally *t)
{
    uint32_t slots[12], count = 1 + prng_below(r, prng_below(r, 2) ? 3 : 12);
    bool watched[12];
    for (uint32_t k = 0; k < count; k++) {
        slots[k] = submit(p, NOTHING);
        watched[k] = prng_below(r, 4) == 0 && watch(p, slots[k]);
        cf_board_notify(&p->board);
        prng_dawdle(r);
    }
    for (uint32_t k = 0; k < count; k++) {
        uint32_t slot = slots[k];
        if (!watched[k] && prng_below(r, 2)) {
            watched[k] = watch(p, slot);
        }
        if (prng_below(r, 5) == 0 && cf_board_cancel(&p->board, slot)) {
            CHECK_EQUAL(cf_board_slot(&p->board, slot)->place.block, 0);
            t->cancelled++;
            release(p, slot);
            continue;
        }
        if (watched[k]) {
            while (cf_load_acquire(&p->told[slot]) == 0) {
                cf_wait32(&p->told[slot], 0, CF_FOREVER, CF_PRIVATE);
            }
        }
        cf_spin spin = CF_SPIN_INIT;
        CHECK_EQUAL(cf_board_await(&p->board, slot, prng_below(r, 2) ? &spin : NULL,
                                   CF_FOREVER), CF_OK);
        count_end(p, slot, t);
        release(p, slot);
    }
}

typedef struct {
    pool *pool;
    uint32_t deaths;            /* go on until there were so many */
    tally tally;
} user;

static void *
use_until_enough_died(void *arg)
{
    user *u = arg;
    pool *p = u->pool;
    prng r = prng_new();
    for (bool enough = false; !enough; ) {
        use_pool(p, &r, &u->tally);
        pthread_mutex_lock(&p->lock);
        enough = p->deaths >= u->deaths;
        pthread_mutex_unlock(&p->lock);
    }
    return NULL;
}

static void
run_with_deaths(uint32_t workers, uint32_t deaths)
{
    pool *p = open_pool(workers);
    for (uint32_t i = 0; i < workers; i++) {
        begin_process(p, i, 1000, false);
    }
    killer x = {.pool = p};
    user users[2] = {{.pool = p, .deaths = deaths}, {.pool = p, .deaths = deaths}};
    pthread_t manager = start(manage, p), kills = start(kill_some, &x);
    pthread_t submitters[2] = {start(use_until_enough_died, &users[0]),
                               start(use_until_enough_died, &users[1])};
    join(submitters[0]);
    join(submitters[1]);
    cf_store_release(&x.stop, 1);
    join(kills);
    pthread_mutex_lock(&p->lock);
    cf_store_release(&p->stopping, 1);
    cf_board_close(&p->board);
    pthread_mutex_unlock(&p->lock);
    join(manager);
    tally *a = &users[0].tally, *b = &users[1].tally;
    printf("    %u workers: %u killed, %u dismissed; tasks: %u run, %u failed, "
           "%u cancelled\n", workers, p->deaths, p->dismissed, a->run + b->run,
           a->failed + b->failed, a->cancelled + b->cancelled);
    CHECK(a->run + b->run > 0);
    free_pool(p);
}

static void
every_task_ends_once_however_many_workers_are_killed(void)
{
    run_with_deaths(1, (uint32_t)rounds(500));
    run_with_deaths(2, (uint32_t)rounds(1000));
    run_with_deaths(MOST_WORKERS, (uint32_t)rounds(1500));
}

static void
without_deaths_nothing_fails(void)
{
    pool *p = open_pool(3);
    prng r = prng_new();
    tally t = {0};
    for (uint32_t i = 0; i < 3; i++) {
        begin_process(p, i, 1000, false);
    }
    pthread_t manager = start(manage, p);
    for (int i = rounds(10000); i > 0; i--) {
        use_pool(p, &r, &t);
    }
    pthread_mutex_lock(&p->lock);
    cf_store_release(&p->stopping, 1);
    cf_board_close(&p->board);
    pthread_mutex_unlock(&p->lock);
    join(manager);
    CHECK_EQUAL(t.failed, 0);
    CHECK_EQUAL(p->deaths, 0);
    free_pool(p);
}

/* ---- killed after each instruction ----

   Worker 0 is a traced process, 1 and 2 are threads of ours, which are asleep. */

typedef struct {
    pool *pool;
    uint32_t number;
} thread_worker;

static void *
work_as_thread(void *arg)
{
    thread_worker *w = arg;
    work(w->pool, w->number);
    return NULL;
}

typedef struct {
    pool *pool;
    uint32_t slot;
} sleeper;

static void *
sleep_on_slot(void *arg)
{
    sleeper *x = arg;
    CHECK_EQUAL(cf_board_await(&x->pool->board, x->slot, NULL, CF_FOREVER), CF_OK);
    return NULL;
}

static void
wait_until_threads_sleep(pool *p)
{
    while ((cf_load_seq(&p->board.shared->parked[0]) & 6) != 6) {
        cf_yield();
    }
}

/* One instruction on.  False: it does not come to an end, since the worker sleeps. */
static bool
step(pool *p, pid_t pid)
{
    int status;
    CHECK_EQUAL(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
    cf_deadline patience = 0;
    for (;;) {
        pid_t stopped = waitpid(pid, &status, WNOHANG);
        if (stopped == pid) {
            /* Other signals come from other people: they are not passed on. */
            int signal = WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
            CHECK(signal == SIGTRAP || signal == SIGSTOP || signal == SIGCONT);
            return true;
        }
        CHECK_EQUAL(stopped, 0);
        /* Somebody else must be able to run; and if this is taken for sleep and is not,
           the next task only comes a little early. */
        cf_yield();
        if (cf_load_acquire(&p->board.records[0].berth) == PARKED) {
            if (patience == 0) {
                patience = cf_now() + 2000000;
            }
            else if (cf_now() > patience) {
                return false;
            }
        }
    }
}

/* The tasks that worker 0 meets: two when it begins with the token, two when it sleeps. */
enum { TASKS = 4 };

/* Step through its round until it sleeps for the second time, or for `most` steps; then
   kill it.  How many steps it made; 0: tracing is not permitted. */
static uint32_t
run_steps(uint32_t most, bool with_sleeper)
{
    pool *p = open_pool(0);
    cf_board *b = &p->board;
    int status;
    begin_process(p, 0, 0, true);
    pid_t pid = p->pids[0];
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    if (!WIFSTOPPED(status)) {
        explain_hangs(NULL);
        return 0;
    }
    thread_worker workers[2] = {{p, 1}, {p, 2}};
    pthread_t threads[2], sleeping = 0;
    for (int i = 0; i < 2; i++) {
        cf_board_enlist(b, workers[i].number);
        threads[i] = start(work_as_thread, &workers[i]);
    }
    b->spin.limit = 0;
    wait_until_threads_sleep(p);
    while (cf_load_seq(&b->shared->token) != 0) {
        cf_yield();
    }
    cf_store_seq(&b->shared->token, 0 + 1);     /* as if it had been called */
    uint32_t slots[TASKS], pushed = 0;
    for (; pushed < 2; pushed++) {
        slots[pushed] = submit(p, NOTHING);
        CHECK(watch(p, slots[pushed]));
        cf_board_notify(b);
    }
    sleeper on_first = {p, slots[0]};
    if (with_sleeper) {
        sleeping = start(sleep_on_slot, &on_first);
        while (!(cf_load_acquire(&cf_board_slot(b, slots[0])->word) & CF_SLOT_SLEEPERS)) {
            cf_yield();
        }
    }
    cf_board_manager_sleeps(b);

    uint32_t steps = 0;
    while (steps < most) {
        if (!step(p, pid)) {
            if (pushed == TASKS) {
                break;
            }
            /* It sleeps, and has the lowest number: it is called. */
            for (; pushed < TASKS; pushed++) {
                slots[pushed] = submit(p, NOTHING);
                CHECK(watch(p, slots[pushed]));
            }
            cf_board_notify(b);
            CHECK_EQUAL(waitpid(pid, &status, 0), pid);
        }
        steps++;
    }

    kill(pid, SIGKILL);
    do {
        CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    } while (!WIFSIGNALED(status));
    tally t = {0};
    pthread_mutex_lock(&p->lock);
    cf_board_manager_wakes(b);
    bury(p, 0);
    pthread_mutex_unlock(&p->lock);
    for (uint32_t i = 0; i < pushed; i++) {
        for (hear(p); !cf_load_relaxed(&p->told[slots[i]]); hear(p)) {
            if (cf_board_manager_sleeps(b)) {
                bool ready;
                CHECK_EQUAL(cf_poll(&p->bell, &ready, 1, CF_FOREVER), CF_OK);
                cf_bell_silence(p->bell);
                cf_board_manager_wakes(b);
            }
        }
    }
    if (with_sleeper) {
        join(sleeping);
    }
    for (uint32_t i = 0; i < pushed; i++) {
        count_end(p, slots[i], &t);
        release(p, slots[i]);
    }
    CHECK(t.failed <= 1);
    /* The threads are both there for tasks that need two. */
    wait_until_threads_sleep(p);
    for (uint32_t i = 0; i < 2; i++) {
        slots[i] = submit(p, MEET);
        cf_board_notify(b);
    }
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_EQUAL(cf_board_await(b, slots[i], NULL, CF_FOREVER), CF_OK);
        release(p, slots[i]);
    }
    cf_board_close(b);
    join(threads[0]);
    join(threads[1]);
    free_pool(p);
    return steps;
}

static void
a_worker_may_die_after_any_instruction(void)
{
    uint32_t all = run_steps(UINT32_MAX, true);
    if (all == 0) {
        printf("    skipped: tracing is not permitted here\n");
        return;
    }
    prng r = prng_new();
    uint32_t runs = (uint32_t)rounds(400);
    uint32_t stride = runs >= all ? 1 : all / runs;
    uint32_t done = 0;
    for (uint32_t at = prng_below(&r, stride); at < all; at += stride) {
        run_steps(at, at / stride % 2);
        done++;
    }
    printf("    %u moments of %u\n", done, all);
}

int
main(void)
{
    RUN(without_deaths_nothing_fails);
    RUN(every_task_ends_once_however_many_workers_are_killed);
    RUN(a_worker_may_die_after_any_instruction);
    return finish_tests();
}
