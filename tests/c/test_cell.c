/* sync/cell.h: the moves of a future's word, its lock, and who is woken by what. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "plat/wait.h"
#include "sync/cell.h"

#define MS 1000000

/* ---- the moves, as future.c makes them ---- */

static bool
claim(cf_word *cell)
{
    turn_take();
    uint32_t word = CF_STATE_PENDING;
    bool mine = atomic_compare_exchange_strong_explicit(
        cell, &word, CF_STATE_RUNNING, memory_order_acquire, memory_order_relaxed);
    if (!mine) {
        word = cf_cell_lock(cell);
        mine = (word & CF_STATE) == CF_STATE_PENDING;
        cf_cell_unlock(cell, 0, mine ? CF_RUNNING : 0);
    }
    turn_give();
    return mine;
}

/* Writes `value` to `*result` (may be NULL) before anybody can see that it is done. */
static bool
finish(cf_word *cell, uint32_t extra, int *result, int value)
{
    turn_take();
    uint32_t word = cf_cell_lock(cell);
    bool mine = !(word & CF_DONE);
    if (mine && result != NULL) {
        *result = value;
    }
    cf_cell_unlock(cell, mine ? word & CF_RUNNING : 0, mine ? CF_STATE_FINISHED | extra : 0);
    turn_give();
    return mine;
}

static bool
cancel(cf_word *cell)
{
    turn_take();
    uint32_t word = cf_cell_lock(cell);
    bool mine = (word & CF_STATE) == CF_STATE_PENDING;
    cf_cell_unlock(cell, 0, mine ? CF_STATE_CANCELLED : 0);
    turn_give();
    return mine;
}

static bool
notify(cf_word *cell)
{
    turn_take();
    uint32_t word = cf_cell_lock(cell);
    bool mine = (word & CF_STATE) == CF_STATE_CANCELLED;
    cf_cell_unlock(cell, 0, mine ? CF_NOTIFIED : 0);
    turn_give();
    return mine;
}

static bool
hook(cf_word *cell)
{
    turn_take();
    uint32_t word = cf_cell_lock(cell);
    cf_cell_unlock(cell, 0, CF_HOOKED & ~word);
    turn_give();
    return !(word & CF_NOTIFIED);
}

/* ---- alone ---- */

static void
each_move_changes_its_bits_and_no_other(void)
{
    static const uint32_t others[] = {
        0, CF_HOOKED, CF_EMULATED, CF_SLEEPERS, CF_HOOKED | CF_SLEEPERS | CF_EMULATED};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        uint32_t extra = others[i];
        /* Who is woken must set CF_SLEEPERS again. */
        uint32_t kept = extra & ~CF_SLEEPERS;

        cf_word cell = extra;
        CHECK(claim(&cell));
        CHECK_EQUAL(cell, CF_STATE_RUNNING | extra);
        CHECK(!claim(&cell) && !cancel(&cell) && !notify(&cell));
        CHECK_EQUAL(cell, CF_STATE_RUNNING | extra);
        CHECK(finish(&cell, 0, NULL, 0));
        CHECK_EQUAL(cell, CF_STATE_FINISHED | kept);
        CHECK(!claim(&cell) && !cancel(&cell) && !notify(&cell) && !finish(&cell, 0, NULL, 0));
        CHECK_EQUAL(cell, CF_STATE_FINISHED | kept);

        cell = extra;
        CHECK(finish(&cell, CF_FAILED, NULL, 0));
        CHECK_EQUAL(cell, CF_STATE_FINISHED | CF_FAILED | kept);

        cell = extra;
        CHECK(cancel(&cell));
        CHECK_EQUAL(cell, CF_STATE_CANCELLED | kept);
        CHECK(!claim(&cell) && !cancel(&cell) && !finish(&cell, 0, NULL, 0));
        CHECK(notify(&cell));
        CHECK_EQUAL(cell, CF_STATE_CANCELLED_AND_NOTIFIED | kept);
        CHECK(!notify(&cell) && !claim(&cell) && !cancel(&cell) && !finish(&cell, 0, NULL, 0));
        CHECK_EQUAL(cell, CF_STATE_CANCELLED_AND_NOTIFIED | kept);
    }
}

static void
lock_returns_the_word_without_the_lock(void)
{
    cf_word cell = CF_RUNNING | CF_HOOKED | CF_SLEEPERS;
    CHECK_EQUAL(cf_cell_lock(&cell), CF_RUNNING | CF_HOOKED | CF_SLEEPERS);
    CHECK_EQUAL(cell, CF_RUNNING | CF_HOOKED | CF_SLEEPERS
                      | (CF_SERIALIZED ? 0 : CF_LOCKED));
    cf_cell_unlock(&cell, CF_HOOKED, CF_EMULATED);
    CHECK_EQUAL(cell, CF_RUNNING | CF_EMULATED | CF_SLEEPERS);
}

static void
a_wait_looks_before_it_looks_at_the_deadline(void)
{
    cf_word cell = CF_STATE_CANCELLED;
    CHECK_EQUAL(cf_cell_wait(&cell, CF_DONE, CF_NO_WAIT), CF_OK);
    CHECK_EQUAL(cf_cell_wait(&cell, CF_NOTIFIED, CF_NO_WAIT), CF_TIMEDOUT);
    cell = CF_STATE_FINISHED;
    CHECK_EQUAL(cf_cell_wait(&cell, CF_NOTIFIED, CF_NO_WAIT), CF_OK);
}

/* ---- the lock ---- */

#define LOCKERS 6

typedef struct {
    cf_word cell;
    int plain[8];           /* guarded by the cell's lock */
    int times;
} guarded;

static void *
count_under_lock(void *arg)
{
    guarded *g = arg;
    prng r = prng_new();
    for (int i = 0; i < g->times; i++) {
        turn_take();
        uint32_t word = cf_cell_lock(&g->cell);
        int first = g->plain[0];
        for (size_t k = 0; k < sizeof g->plain / sizeof *g->plain; k++) {
            CHECK_EQUAL(g->plain[k], first);
            g->plain[k]++;
        }
        if (prng_below(&r, 1024) == 0) {
            cf_yield();         /* a holder that loses its processor */
        }
        /* Each holder turns a bit over, so that a lost update would show. */
        cf_cell_unlock(&g->cell, word & CF_HOOKED, CF_HOOKED & ~word);
        turn_give();
        prng_dawdle(&r);
    }
    return NULL;
}

static void
the_lock_excludes(void)
{
    guarded g = {.times = rounds(60000) | 1};
    pthread_t threads[LOCKERS];
    for (int i = 0; i < LOCKERS; i++) {
        threads[i] = start(count_under_lock, &g);
    }
    for (int i = 0; i < LOCKERS; i++) {
        join(threads[i]);
    }
    CHECK_EQUAL(g.plain[0], g.times * LOCKERS);
    CHECK_EQUAL(g.cell, (uint32_t)(g.times * LOCKERS) % 2 ? CF_HOOKED : 0);
}

typedef struct {
    cf_word cell;
    _Atomic bool stop;
} turmoil;

static void *
turn_bits_over(void *arg)
{
    turmoil *x = arg;
    while (!cf_load_relaxed(&x->stop)) {
        turn_take();
        for (int i = 0; i < 64; i++) {
            uint32_t word = cf_cell_lock(&x->cell);
            cf_cell_unlock(&x->cell, word & CF_HOOKED, CF_HOOKED & ~word);
        }
        turn_give();
    }
    return NULL;
}

static void
no_holder_of_the_lock_erases_an_announced_sleeper(void)
{
    turmoil x = {0, false};
    pthread_t holders[2] = {start(turn_bits_over, &x), start(turn_bits_over, &x)};
    prng r = prng_new();
    for (int i = rounds(60000); i > 0; i--) {
        atomic_fetch_or_explicit(&x.cell, CF_SLEEPERS, memory_order_relaxed);
        for (uint32_t k = prng_below(&r, 4); k > 0; k--) {
            cf_relax();
        }
        uint32_t word = cf_load_relaxed(&x.cell);
        CHECK(word & CF_SLEEPERS);
        atomic_fetch_and_explicit(&x.cell, ~CF_SLEEPERS, memory_order_relaxed);
    }
    cf_store_relaxed(&x.stop, true);
    join(holders[0]);
    join(holders[1]);
    CHECK_EQUAL(x.cell & ~CF_HOOKED, 0);
}

#define RACERS 4

typedef struct {
    cf_word cell;
    pthread_barrier_t gate;
    cf_word claims, cancels, finishes;
    int result;             /* the finisher's, then everybody's */
    int times;
} race;

static void *
race_for_moves(void *arg)
{
    race *x = arg;
    prng r = prng_new();
    for (int i = 0; i < x->times; i++) {
        pthread_barrier_wait(&x->gate);
        if (prng_below(&r, 2)) {
            hook(&x->cell);
        }
        if (prng_below(&r, 2) && claim(&x->cell)) {
            atomic_fetch_add(&x->claims, 1);
            CHECK(finish(&x->cell, 0, &x->result, i));
            atomic_fetch_add(&x->finishes, 1);
        }
        else if (cancel(&x->cell)) {
            atomic_fetch_add(&x->cancels, 1);
            notify(&x->cell);
        }
        CHECK_EQUAL(cf_cell_wait(&x->cell, CF_NOTIFIED, CF_FOREVER), CF_OK);
        uint32_t word = cf_load_acquire(&x->cell);
        if (!(word & CF_CANCELLED)) {
            CHECK_EQUAL(x->result, i);      /* seen without the lock */
        }
        if (pthread_barrier_wait(&x->gate) == PTHREAD_BARRIER_SERIAL_THREAD) {
            CHECK_EQUAL(x->claims + x->cancels, 1);
            CHECK_EQUAL(x->finishes, x->claims);
            x->claims = x->cancels = x->finishes = 0;
            cf_store_relaxed(&x->cell, 0);
        }
    }
    return NULL;
}

static void
one_of_many_wins_the_move_out_of_pending(void)
{
    race x = {.times = rounds(8000)};
    pthread_barrier_init(&x.gate, NULL, RACERS);
    pthread_t threads[RACERS];
    for (int i = 0; i < RACERS; i++) {
        threads[i] = start(race_for_moves, &x);
    }
    for (int i = 0; i < RACERS; i++) {
        join(threads[i]);
    }
    pthread_barrier_destroy(&x.gate);
}

/* ---- sleeping ---- */

typedef struct {
    cf_word *cell;
    uint32_t mask;
    cf_deadline until;
    cf_status status;
    uint32_t seen;          /* the word when the wait was over */
    cf_word over;
} sleeper;

static void *
sleep_on(void *arg)
{
    sleeper *s = arg;
    s->status = cf_cell_wait(s->cell, s->mask, s->until);
    s->seen = cf_load_acquire(s->cell);
    cf_store_release(&s->over, 1);
    return NULL;
}

static void
wait_until_somebody_sleeps(cf_word *cell)
{
    while (!(cf_load_relaxed(cell) & CF_SLEEPERS)) {
        cf_yield();
    }
}

#define EACH 3

static void
cancel_wakes_those_who_want_done_and_notify_the_rest(void)
{
    for (int i = rounds(300); i > 0; i--) {
        cf_word cell = 0;
        sleeper for_done[EACH], for_notified[EACH];
        pthread_t threads[2 * EACH];
        for (int k = 0; k < EACH; k++) {
            for_done[k] = (sleeper){&cell, CF_DONE, CF_FOREVER, CF_SYSTEM, 0, 0};
            for_notified[k] = (sleeper){&cell, CF_NOTIFIED, CF_FOREVER, CF_SYSTEM, 0, 0};
            threads[k] = start(sleep_on, &for_done[k]);
            threads[EACH + k] = start(sleep_on, &for_notified[k]);
        }
        wait_until_somebody_sleeps(&cell);
        CHECK(cancel(&cell));
        for (int k = 0; k < EACH; k++) {
            join(threads[k]);
            CHECK_EQUAL(for_done[k].status, CF_OK);
            CHECK(for_done[k].seen & CF_DONE);
            CHECK(!cf_load_acquire(&for_notified[k].over));
        }
        CHECK(notify(&cell));
        for (int k = 0; k < EACH; k++) {
            join(threads[EACH + k]);
            CHECK_EQUAL(for_notified[k].status, CF_OK);
            CHECK_EQUAL(for_notified[k].seen & CF_STATE, CF_STATE_CANCELLED_AND_NOTIFIED);
        }
    }
}

static void
claim_and_hook_wake_nobody_for_good(void)
{
    for (int i = rounds(300); i > 0; i--) {
        cf_word cell = 0;
        sleeper s = {&cell, CF_DONE, CF_FOREVER, CF_SYSTEM, 0, 0};
        pthread_t thread = start(sleep_on, &s);
        wait_until_somebody_sleeps(&cell);
        CHECK(hook(&cell));
        CHECK(claim(&cell));
        CHECK(!cf_load_acquire(&s.over));
        CHECK(finish(&cell, 0, NULL, 0));
        join(thread);
        CHECK_EQUAL(s.status, CF_OK);
    }
}

static void *
disturb(void *arg)
{
    sleeper *s = arg;
    while (!cf_load_acquire(&s->over)) {
        cf_cell_wake(s->cell);
        hook(s->cell);
        cf_yield();
    }
    return NULL;
}

static void
a_disturbed_wait_keeps_its_deadline(void)
{
    cf_word cell = 0;
    sleeper s = {&cell, CF_DONE, cf_now() + 30 * MS, CF_SYSTEM, 0, 0};
    pthread_t disturber = start(disturb, &s);
    sleep_on(&s);
    CHECK_EQUAL(s.status, CF_TIMEDOUT);
    CHECK(cf_now() >= s.until);
    join(disturber);
}

static void
nothing(int number)
{
    (void)number;
}

static void
a_signal_handler_ends_a_wait(void)
{
    struct sigaction act, old;
    memset(&act, 0, sizeof act);
    act.sa_handler = nothing;
    sigaction(SIGUSR1, &act, &old);
    cf_word cell = 0;
    sleeper s = {&cell, CF_DONE, CF_FOREVER, CF_SYSTEM, 0, 0};
    pthread_t thread = start(sleep_on, &s);
    while (!cf_load_acquire(&s.over)) {
        pthread_kill(thread, SIGUSR1);
        cf_wait32(&s.over, 0, cf_now() + MS, CF_PRIVATE);
    }
    join(thread);
    CHECK_EQUAL(s.status, CF_INTR);
    sigaction(SIGUSR1, &old, NULL);
}

/* ---- no wake-up is lost, in many rounds ----

   One thread completes cells in turn while two others wait for each of them, one for
   CF_DONE and one for CF_NOTIFIED, now and then with a deadline so short that it may
   pass just when the cell is completed.  The one that completes mostly lets the others
   arrive first, so that they are about to sleep, or have just fallen asleep. */

#define BATCH 256

typedef struct {
    cf_word cells[BATCH];
    int payload[BATCH];         /* written before its cell is done */
    cf_word position[2];        /* the cell that each waiter waits for */
    pthread_barrier_t gate;     /* all three, between batches */
    int batches;
} relay;

typedef struct {
    relay *relay;
    int number;
    uint32_t mask;
    int sleeps, timeouts;
} relay_waiter;

static void *
complete_in_turn(void *arg)
{
    relay *x = arg;
    prng r = prng_new();
    for (int batch = 0; batch < x->batches; batch++) {
        for (uint32_t i = 0; i < BATCH; i++) {
            cf_word *cell = &x->cells[i];
            if (prng_below(&r, 4)) {
                while (cf_load_relaxed(&x->position[0]) < i
                       || cf_load_relaxed(&x->position[1]) < i) {
                    cf_yield();
                }
            }
            prng_dawdle(&r);
            if (prng_below(&r, 3)) {
                CHECK(claim(cell));
                prng_dawdle(&r);
                CHECK(finish(cell, 0, &x->payload[i], batch));
            }
            else {
                x->payload[i] = batch;
                CHECK(cancel(cell));
                prng_dawdle(&r);
                CHECK(notify(cell));
            }
        }
        pthread_barrier_wait(&x->gate);
        made_progress();
        for (int i = 0; i < BATCH; i++) {
            cf_store_relaxed(&x->cells[i], 0);
        }
        pthread_barrier_wait(&x->gate);
    }
    return NULL;
}

static void *
wait_in_turn(void *arg)
{
    relay_waiter *w = arg;
    relay *x = w->relay;
    prng r = prng_new();
    for (int batch = 0; batch < x->batches; batch++) {
        for (uint32_t i = 0; i < BATCH; i++) {
            cf_word *cell = &x->cells[i];
            cf_store_relaxed(&x->position[w->number], i);
            prng_dawdle(&r);
            cf_status st = CF_TIMEDOUT;
            if (prng_below(&r, 8) == 0) {
                st = cf_cell_wait(cell, w->mask, cf_now() + prng_below(&r, 4000));
                w->timeouts += st == CF_TIMEDOUT;
            }
            w->sleeps += !(cf_load_relaxed(cell) & w->mask);
            if (st != CF_OK) {
                st = cf_cell_wait(cell, w->mask, CF_FOREVER);
            }
            CHECK_EQUAL(st, CF_OK);
            CHECK_EQUAL(x->payload[i], batch);
        }
        pthread_barrier_wait(&x->gate);
        cf_store_relaxed(&x->position[w->number], 0);
        pthread_barrier_wait(&x->gate);
    }
    return NULL;
}

static relay *hanging_relay;

static void
explain_relay(void)
{
    relay *x = hanging_relay;
    uint32_t first = cf_load_relaxed(&x->position[0]);
    uint32_t second = cf_load_relaxed(&x->position[1]);
    fprintf(stderr, "cell %u: %#x; cell %u: %#x\n", first,
            cf_load_relaxed(&x->cells[first]), second, cf_load_relaxed(&x->cells[second]));
}

static void
no_wakeup_is_lost(void)
{
    static relay x;
    x.batches = rounds(800);
    pthread_barrier_init(&x.gate, NULL, 3);
    relay_waiter done = {&x, 0, CF_DONE, 0, 0}, notified = {&x, 1, CF_NOTIFIED, 0, 0};
    hanging_relay = &x;
    explain_hangs(explain_relay);
    pthread_t threads[] = {start(complete_in_turn, &x), start(wait_in_turn, &done),
                           start(wait_in_turn, &notified)};
    for (int i = 0; i < 3; i++) {
        join(threads[i]);
    }
    pthread_barrier_destroy(&x.gate);
    printf("    %d rounds; slept %d + %d times, %d + %d deadlines passed\n",
           x.batches * BATCH, done.sleeps, notified.sleeps, done.timeouts,
           notified.timeouts);
}

int
main(void)
{
    RUN(each_move_changes_its_bits_and_no_other);
    RUN(lock_returns_the_word_without_the_lock);
    RUN(a_wait_looks_before_it_looks_at_the_deadline);
    RUN(the_lock_excludes);
    RUN(no_holder_of_the_lock_erases_an_announced_sleeper);
    RUN(one_of_many_wins_the_move_out_of_pending);
    RUN(cancel_wakes_those_who_want_done_and_notify_the_rest);
    RUN(claim_and_hook_wake_nobody_for_good);
    RUN(a_disturbed_wait_keeps_its_deadline);
    RUN(a_signal_handler_ends_a_wait);
    RUN(no_wakeup_is_lost);
    return finish_tests();
}
