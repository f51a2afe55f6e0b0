/* ipc/queue.h between processes, which are killed.

   Killed after each single instruction of a put, a take, and of looking after the dead (with
   ptrace); and killed at random moments while several of them put and take.  Whatever the
   moment: who lives goes on at once, no item is seen twice or in part, none is lost but with
   the process that was taking it, and all memory comes back. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plat/wait.h"
#include "queue_kit.h"

typedef void (*body)(member *m, void *arg);

/* A process that is a member runs `run` and exits.  traced: it stops first. */
static pid_t
begin(const member *parent, body run, void *arg, bool traced)
{
    pid_t me = getpid(), pid = fork();
    if (pid != 0) {
        if (!CHECK(pid > 0)) {
            abort();
        }
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != me) {
        _exit(3);
    }
    member *m = member_attach(parent->queue->seg->fd);
    if (traced) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
            _exit(2);
        }
        raise(SIGSTOP);
    }
    run(m, arg);
    _exit(0);
}

static void
end(pid_t pid)
{
    int status;
    kill(pid, SIGKILL);
    do {
        CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    } while (!WIFSIGNALED(status) && !WIFEXITED(status));
}

/* ---- killed after each instruction ---- */

enum { FIRST = 1, SECOND, VICTIMS, LAST };

typedef struct {
    const char *name;
    body run;
    uint32_t buffers;
    bool takes, buries;
} scenario;

static void
put_one(member *m, void *arg)
{
    const scenario *s = arg;
    put_value(m, VICTIMS, s->buffers);
}

static void
take_one(member *m, void *arg)
{
    (void)arg;
    uint64_t value;
    take_value(m, &value);
}

static void
bury_others(member *m, void *arg)
{
    (void)arg;
    cf_queue_tend(m->queue);
}

/* Take FIRST and die on the way, with the item in one's hand. */
static void
leave_taken(member *m, const cf_queue_head *shared)
{
    (void)shared;
    cf_entry64 *entry = cf_queue_ring(m->queue, 0);
    cf_store_seq(entry, cf_entry_taken(cf_load_seq(entry), m->queue->number));
}

static void
die_taking(member *m, void *arg)
{
    (void)arg;
    leave_taken(m, m->queue->shared);
}

static const scenario scenarios[] = {
    {"put", put_one, 0, false, false},
    {"put with buffers", put_one, 2, false, false},
    {"take", take_one, 0, true, false},
    {"take with buffers", take_one, 2, true, false},
    {"bury", bury_others, 2, true, true},
};

/* What is left of the dead is gone, and of this member's memory, too, but what one death
   between the two steps of a return may keep. */
static bool
is_clean(member *m)
{
    for (uint32_t number = 2; number < 8; number++) {
        CHECK_EQUAL(m->queue->members[number].who, CF_MEMBER_FREE);
    }
    return member_live(m) == 0;
}

/* Let the victim make up to `most` steps, then kill it.  How many it made; 0: tracing is
   not permitted.  *lost: whether a block of ours was lost. */
static uint32_t
run_steps(const scenario *s, uint32_t most, bool *lost)
{
    member *m = member_new(0, 4);
    int status;
    put_value(m, FIRST, s->buffers);
    put_value(m, SECOND, 0);
    if (s->buries) {
        pid_t dead = begin(m, die_taking, NULL, false);
        CHECK_EQUAL(waitpid(dead, &status, 0), dead);
    }
    pid_t pid = begin(m, s->run, (void *)s, true);
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    uint32_t steps = 0;
    bool traced = WIFSTOPPED(status);
    while (traced && steps < most) {
        if (!CHECK_EQUAL(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0)) {
            break;
        }
        CHECK_EQUAL(waitpid(pid, &status, 0), pid);
        if (!WIFSTOPPED(status)) {
            break;
        }
        steps++;
    }
    if (WIFSTOPPED(status)) {
        end(pid);
    }
    /* At once, before anybody has looked after the dead. */
    uint64_t value = 0, expected = FIRST;
    put_value(m, LAST, 1);
    CHECK_EQUAL(take_value(m, &value), CF_OK);
    if (s->takes && value == SECOND) {
        expected = SECOND;      /* the first one went with the victim */
    }
    CHECK_EQUAL(value, expected);
    while (value != LAST && take_value(m, &value) == CF_OK) {
        expected++;
        if (!s->takes && expected == VICTIMS && value == LAST) {
            break;              /* it did not come to put it */
        }
        if (s->takes && expected == VICTIMS) {
            expected++;
        }
        CHECK_EQUAL(value, expected);
    }
    CHECK_EQUAL(value, LAST);
    CHECK_EQUAL(take_value(m, &value), CF_AGAIN);
    CHECK_EQUAL(cf_queue_length(m->queue), 0);
    cf_queue_tend(m->queue);
    cf_queue_tend(m->queue);
    *lost = !is_clean(m);
    for (uint64_t i = 0; i < 40; i++) {     /* two laps */
        CHECK_EQUAL(put_value(m, i, 0), CF_OK);
        CHECK_EQUAL(take_value(m, &value), CF_OK);
        CHECK_EQUAL(value, i);
    }
    member_leave(m);
    return traced ? steps : 0;
}

static void
a_member_may_die_after_any_instruction(void)
{
    prng r = prng_new();
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        const scenario *s = &scenarios[i];
        bool lost;
        uint32_t all = run_steps(s, UINT32_MAX, &lost);
        if (all == 0) {
            printf("    skipped: tracing is not permitted here\n");
            return;
        }
        CHECK(!lost);
        uint32_t runs = (uint32_t)rounds(s->buries ? 30 : 60);
        uint32_t stride = runs >= all ? 1 : all / runs, done = 0, losses = 0;
        for (uint32_t at = prng_below(&r, stride); at < all; at += stride) {
            run_steps(s, at, &lost);
            losses += lost;
            done++;
        }
        printf("    %s: %u moments of %u, a block was lost in %u\n", s->name, done, all,
               losses);
        /* Of each block that is returned: between its word and the stack, some tens of
           instructions. */
        CHECK(losses * 4 <= done || losses <= 1);
    }
}

/* ---- killed at random ---- */

enum { PRODUCERS = 2, CONSUMERS = 3, PROCESSES = PRODUCERS + CONSUMERS, LIVES = 256 };

/* What the processes share beside the queue. */
typedef struct {
    cf_word stop;
    cf_word lives;              /* producers that were ever started: their numbers */
    cf_word wrong;
    _Atomic uint64_t put[LIVES], taken[LIVES];
    cf_word kills;
} tally;

static void
produce(member *m, void *arg)
{
    tally *t = arg;
    uint64_t who = atomic_fetch_add(&t->lives, 1) % LIVES;
    prng r = prng_new();
    r.state ^= (uint64_t)getpid() * 0x9e3779b97f4a7c15u;
    for (uint64_t i = 1; !cf_load_acquire(&t->stop); i++) {
        put_waiting(m, who << 32 | i, prng_below(&r, 10) == 0, prng_below(&r, 2));
        atomic_store(&t->put[who], i);
    }
}

/* false: the end. */
static bool
take_and_check(member *m, tally *t, uint64_t *last, cf_deadline until)
{
    uint64_t value = 0;
    while (take_value(m, &value) != CF_OK) {
        if (!wait_for(m, CF_QUEUE_ITEM, true, until)) {
            return false;
        }
    }
    uint64_t who = value >> 32, number = value & 0xffffffff;
    if (who >= LIVES || number <= last[who]) {
        atomic_store(&t->wrong, 1);
    }
    else {
        last[who] = number;
        atomic_fetch_add(&t->taken[who], 1);
    }
    return true;
}

static void
consume(member *m, void *arg)
{
    uint64_t last[LIVES] = {0};
    while (take_and_check(m, arg, last, CF_FOREVER)) {
    }
}

static void
run_with_kills(uint64_t bound, uint32_t kills)
{
    tally *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                    0);
    if (!CHECK(t != MAP_FAILED)) {
        abort();
    }
    member *m = member_new(bound, 3);
    prng r = prng_new();
    pid_t pids[PROCESSES];
    for (uint32_t i = 0; i < PROCESSES; i++) {
        pids[i] = begin(m, i < PRODUCERS ? produce : consume, t, false);
    }
    uint64_t last[LIVES] = {0};
    for (uint32_t k = 0; k < kills && t->lives < LIVES - 2; k++) {
        /* So much gets done by others before the next one is killed. */
        uint32_t items = prng_below(&r, 1u << prng_below(&r, 6));
        for (uint32_t i = 0; i < items; i++) {
            CHECK(take_and_check(m, t, last, CF_FOREVER));
        }
        for (uint32_t d = prng_below(&r, 4); d > 0; d--) {
            prng_dawdle(&r);
        }
        uint32_t victim = prng_below(&r, PROCESSES);
        end(pids[victim]);
        pids[victim] = begin(m, victim < PRODUCERS ? produce : consume, t, false);
        if (prng_below(&r, 4) == 0) {
            cf_queue_tend(m->queue);
        }
    }
    cf_store_release(&t->stop, 1);
    for (uint32_t i = PRODUCERS; i < PROCESSES; i++) {
        end(pids[i]);
    }
    /* The producers end by themselves, since there is room again and again. */
    uint32_t left = PRODUCERS;
    while (left > 0) {
        (void)take_and_check(m, t, last, cf_now() + 1000000);
        int status;
        for (uint32_t i = 0; i < PRODUCERS; i++) {
            if (pids[i] != 0 && waitpid(pids[i], &status, WNOHANG) == pids[i]) {
                CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
                pids[i] = 0;
                left--;
            }
        }
    }
    while (take_and_check(m, t, last, CF_NO_WAIT)) {
    }
    CHECK_EQUAL(t->wrong, 0);
    uint64_t put = 0, taken = 0;
    for (uint32_t i = 0; i < LIVES; i++) {
        put += t->put[i];
        taken += t->taken[i];
    }
    /* A killed consumer may have had one item in its hands that nobody has counted; a killed
       producer may have put one that it has not counted. */
    CHECK(taken + kills + CONSUMERS >= put);
    CHECK(taken <= put + kills);
    cf_queue_tend(m->queue);
    cf_queue_tend(m->queue);
    for (uint32_t number = 2; number < CF_QUEUE_MEMBERS; number++) {
        CHECK_EQUAL(m->queue->members[number].who, CF_MEMBER_FREE);
    }
    printf("    %llu items, %u kills\n", (unsigned long long)taken, kills);
    member_leave(m);
    munmap(t, sizeof *t);
}

static void
nobody_is_held_up_by_processes_that_are_killed(void)
{
    run_with_kills(1, (uint32_t)rounds(60));
    run_with_kills(6, (uint32_t)rounds(60));
    run_with_kills(200, (uint32_t)rounds(60));
}

/* ---- a sleeper whose wake-up went with another process ---- */

static void
sleep_in_take(member *m, void *arg)
{
    tally *t = arg;
    atomic_fetch_add(&t->lives, 1);
    uint64_t value = take_waiting(m, false);
    atomic_store(&t->taken[0], value);
}

static void
a_lost_wake_up_is_made_good(void)
{
    tally *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                    0);
    member *m = member_new(0, 3);
    pid_t pid = begin(m, sleep_in_take, t, false);
    while (!(cf_load_acquire(&m->queue->shared->getters) & 1)) {
        cf_yield();
    }
    /* As if its producer had died after putting: nobody is woken. */
    uint32_t block = item_new(m, 42, 0);
    cf_store_seq(cf_queue_ring(m->queue, 0), cf_entry_item(0, m->queue->number, block));
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_EQUAL(t->taken[0], 42);
    CHECK_EQUAL(m->queue->shared->tail, 0);
    CHECK_EQUAL(put_value(m, 43, 0), CF_OK);
    uint64_t value = 0;
    CHECK_EQUAL(take_value(m, &value), CF_OK);
    CHECK_EQUAL(value, 43);
    member_leave(m);
    munmap(t, sizeof *t);
}

/* ---- others ---- */

static void
wait_to_be_killed(member *m, void *arg)
{
    (void)m;
    (void)arg;
    pause();
}

static void
who_lives_is_not_buried(void)
{
    member *m = member_new(0, 3);
    pid_t pid = begin(m, wait_to_be_killed, NULL, false);
    while (CF_MEMBER_STATE(cf_load_acquire(&m->queue->members[2].who)) != CF_MEMBER_JOINED) {
        cf_yield();
    }
    cf_queue_tend(m->queue);
    CHECK_EQUAL(CF_MEMBER_STATE(m->queue->members[2].who), CF_MEMBER_JOINED);
    /* Of another time: a process of the same number. */
    uint64_t who = m->queue->members[2].who;
    if (CF_MEMBER_STARTED(who) > 0) {
        cf_store_seq(&m->queue->members[2].who, who - ((uint64_t)1 << 24));
        cf_queue_tend(m->queue);
        CHECK_EQUAL(m->queue->members[2].who, CF_MEMBER_FREE);
    }
    end(pid);
    member_leave(m);
}

static void
a_process_that_nobody_has_waited_for_is_dead(void)
{
    member *m = member_new(0, 3);
    pid_t pid = begin(m, wait_to_be_killed, NULL, false);
    while (CF_MEMBER_STATE(cf_load_acquire(&m->queue->members[2].who)) != CF_MEMBER_JOINED) {
        cf_yield();
    }
    kill(pid, SIGKILL);
    siginfo_t info;
    CHECK_EQUAL(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    cf_queue_tend(m->queue);
    CHECK_EQUAL(m->queue->members[2].who, CF_MEMBER_FREE);
    end(pid);
    member_leave(m);
}

int
main(void)
{
    RUN(who_lives_is_not_buried);
    RUN(a_process_that_nobody_has_waited_for_is_dead);
    RUN(a_lost_wake_up_is_made_good);
    RUN(a_member_may_die_after_any_instruction);
    RUN(nobody_is_held_up_by_processes_that_are_killed);
    return finish_tests();
}
