/* sync/waitset.h: tickets are posted once, taken once, and wake whom they should; the
   set can be freed as soon as the waiter has unhooked itself, as wait() and
   as_completed() do. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "plat/wait.h"
#include "sync/waitset.h"

/* ---- one thread ---- */

static void
tickets_come_out_oldest_first(void)
{
    cf_waitset set;
    cf_ticket tickets[5];
    cf_waitset_init(&set, CF_WAKE_EACH, 5);
    CHECK(cf_waitset_take(&set) == NULL);
    for (int i = 0; i < 3; i++) {
        cf_waitset_post(&set, &tickets[i], false);
    }
    cf_ticket *t = cf_waitset_take(&set);
    for (int i = 0; i < 3; i++, t = t->next) {
        CHECK(t == &tickets[i]);
    }
    CHECK(t == NULL);
    CHECK(cf_waitset_take(&set) == NULL);
    cf_waitset_post(&set, &tickets[4], false);
    t = cf_waitset_take(&set);
    CHECK(t == &tickets[4] && t->next == NULL);
}

/* After which posts is there a reason to look?  The failure is the second of four. */
static void
check_reasons(cf_wake_when when, const char *reasons)
{
    cf_waitset set;
    cf_ticket tickets[4];
    cf_waitset_init(&set, when, 4);
    for (int i = 0; i < 4; i++) {
        cf_waitset_post(&set, &tickets[i], i == 1);
        CHECK_EQUAL(cf_cell_wait(&set.cell, CF_DONE, CF_NO_WAIT),
                    reasons[i] == 'x' ? CF_OK : CF_TIMEDOUT);
        CHECK(cf_waitset_take(&set) == &tickets[i]);
        CHECK_EQUAL(cf_cell_wait(&set.cell, CF_DONE, CF_NO_WAIT), CF_TIMEDOUT);
    }
}

static void
each_mode_wakes_when_it_says(void)
{
    check_reasons(CF_WAKE_EACH, "xxxx");
    check_reasons(CF_WAKE_FAILURE, "-x-x");
    check_reasons(CF_WAKE_LAST, "---x");
}

/* ---- futures, as future.c has them ---- */

typedef struct hook {
    struct hook *next;
    cf_waitset *set;
    cf_ticket ticket;
    int future;             /* which one */
} hook;

typedef struct {
    cf_word cell;
    hook *hooks;            /* guarded by the cell's lock */
    bool failed;
} future;

static bool
hang(future *f, hook *h)
{
    turn_take();
    uint32_t word = cf_cell_lock(&f->cell);
    bool pending = !(word & CF_NOTIFIED);
    if (pending) {
        h->next = f->hooks;
        f->hooks = h;
    }
    cf_cell_unlock(&f->cell, 0, pending ? CF_HOOKED & ~word : 0);
    turn_give();
    return pending;
}

static void
unhook(future *f, hook *h)
{
    turn_take();
    cf_cell_lock(&f->cell);
    for (hook **at = &f->hooks; *at != NULL; at = &(*at)->next) {
        if (*at == h) {
            *at = h->next;
            break;
        }
    }
    cf_cell_unlock(&f->cell, 0, 0);
    turn_give();
}

static void
finish(future *f, bool failed)
{
    turn_take();
    uint32_t word = cf_cell_lock(&f->cell);
    f->failed = failed;
    while (f->hooks != NULL) {
        hook *h = f->hooks;
        f->hooks = h->next;
        cf_waitset_post(h->set, &h->ticket, failed);
    }
    cf_cell_unlock(&f->cell, word & CF_RUNNING,
                   CF_STATE_FINISHED | (failed ? CF_FAILED : 0));
    turn_give();
}

/* ---- many futures, many waiters ---- */

#define FUTURES 24
#define POSTERS 2
#define WAITERS 3

static struct {
    future futures[FUTURES];
    cf_word next;               /* the next one to be finished */
    int order[FUTURES];
    pthread_barrier_t gate;     /* all threads, between rounds */
    int rounds;
    cf_word sleeps, timeouts;   /* of the waiters, to see that the test does something */
} crowd;

typedef struct {
    cf_waitset set;
    int count;
    hook hooks[FUTURES];
    char seen[FUTURES];
} watch;

/* Watch some of the futures, most of which are not finished yet. */
static watch *
begin_watch(prng *r, cf_wake_when when)
{
    watch *w = calloc(1, sizeof *w);
    for (int i = 0; i < FUTURES; i++) {
        if (prng_below(r, 4)) {
            w->hooks[w->count++].future = i;
        }
    }
    cf_waitset_init(&w->set, when, (uint32_t)w->count);
    for (int i = 0; i < w->count; i++) {
        hook *h = &w->hooks[i];
        future *f = &crowd.futures[h->future];
        h->set = &w->set;
        if (!hang(f, h)) {
            h->set = NULL;
            cf_waitset_post(&w->set, &h->ticket, cf_load_acquire(&f->cell) & CF_FAILED);
        }
    }
    return w;
}

/* What was posted and not taken before; none for the second time. */
static int
take_all(watch *w)
{
    int taken = 0;
    for (cf_ticket *t = cf_waitset_take(&w->set); t != NULL; taken++) {
        hook *h = cf_container_of(t, hook, ticket);
        t = t->next;
        CHECK_EQUAL(w->seen[h->future]++, 0);
    }
    return taken;
}

static void
end_watch(watch *w)
{
    for (int i = 0; i < w->count; i++) {
        if (w->hooks[i].set != NULL) {
            unhook(&crowd.futures[w->hooks[i].future], &w->hooks[i]);
        }
    }
    /* Nobody may touch it any more: the sanitizers look. */
    memset(w, 0xdd, sizeof *w);
    free(w);
}

static cf_deadline
some_deadline(prng *r)
{
    return prng_below(r, 3) ? CF_FOREVER : cf_now() + prng_below(r, 30000);
}

static void
wait_as_wait_does(prng *r, cf_wake_when when)
{
    watch *w = begin_watch(r, when);
    if (w->count > 0) {
        crowd.sleeps += !(cf_load_relaxed(&w->set.cell) & CF_DONE);
        cf_status st = cf_cell_wait(&w->set.cell, CF_DONE, some_deadline(r));
        if (st == CF_OK) {
            bool failure = false;
            int posted = take_all(w);
            for (int i = 0; i < FUTURES; i++) {
                failure |= w->seen[i] && crowd.futures[i].failed;
            }
            CHECK(posted > 0);
            CHECK(when == CF_WAKE_EACH || posted == w->count
                  || (when == CF_WAKE_FAILURE && failure));
        }
        else {
            CHECK_EQUAL(st, CF_TIMEDOUT);
            atomic_fetch_add(&crowd.timeouts, 1);
        }
    }
    end_watch(w);
}

static void
wait_as_as_completed_does(prng *r)
{
    watch *w = begin_watch(r, CF_WAKE_EACH);
    int left = w->count, most = (int)prng_below(r, FUTURES * 4);
    while (left > 0 && most-- > 0) {
        cf_ticket *t = cf_waitset_take(&w->set);
        if (t == NULL) {
            atomic_fetch_add(&crowd.sleeps, 1);
            if (cf_cell_wait(&w->set.cell, CF_DONE, some_deadline(r)) != CF_OK) {
                atomic_fetch_add(&crowd.timeouts, 1);
                break;
            }
            continue;
        }
        while (t != NULL) {
            hook *h = cf_container_of(t, hook, ticket);
            t = t->next;
            future *f = &crowd.futures[h->future];
            CHECK_EQUAL(w->seen[h->future]++, 0);
            left--;
            if (h->set != NULL) {
                unhook(f, h);       /* wait until its poster has gone */
                h->set = NULL;
            }
            CHECK_EQUAL(cf_load_acquire(&f->cell) & CF_STATE, CF_STATE_FINISHED);
        }
    }
    end_watch(w);
}

static void *
be_waiter(void *arg)
{
    (void)arg;
    prng r = prng_new();
    for (int i = 0; i < crowd.rounds; i++) {
        pthread_barrier_wait(&crowd.gate);
        for (int k = 0; k < 3; k++) {
            uint32_t kind = prng_below(&r, 5);
            if (kind < 3) {
                wait_as_wait_does(&r, (cf_wake_when)kind);
            }
            else {
                wait_as_as_completed_does(&r);
            }
        }
        pthread_barrier_wait(&crowd.gate);
    }
    return NULL;
}

static void *
be_poster(void *arg)
{
    (void)arg;
    prng r = prng_new();
    for (int i = 0; i < crowd.rounds; i++) {
        pthread_barrier_wait(&crowd.gate);
        uint32_t n;
        while ((n = atomic_fetch_add(&crowd.next, 1)) < FUTURES) {
            prng_dawdle(&r);
            if (prng_below(&r, 8) == 0) {
                cf_yield();
            }
            finish(&crowd.futures[crowd.order[n]], prng_below(&r, 4) == 0);
        }
        pthread_barrier_wait(&crowd.gate);
    }
    return NULL;
}

static void
explain_crowd(void)
{
    for (int i = 0; i < FUTURES; i++) {
        future *f = &crowd.futures[i];
        fprintf(stderr, "future %d: %#x, hooks %p\n", i, cf_load_relaxed(&f->cell),
                (void *)f->hooks);
        if (f->hooks != NULL) {
            cf_waitset *set = f->hooks->set;
            fprintf(stderr, "    first waiter: cell %#x, mode %d, remaining %u\n",
                    cf_load_relaxed(&set->cell), (int)set->when,
                    cf_load_relaxed(&set->remaining));
        }
    }
}

static void
waiters_come_and_go_while_futures_finish(void)
{
    prng r = prng_new();
    crowd.rounds = rounds(15000);
    explain_hangs(explain_crowd);
    pthread_barrier_init(&crowd.gate, NULL, POSTERS + WAITERS + 1);
    pthread_t threads[POSTERS + WAITERS];
    for (int i = 0; i < WAITERS; i++) {
        threads[i] = start(be_waiter, NULL);
    }
    for (int i = 0; i < POSTERS; i++) {
        threads[WAITERS + i] = start(be_poster, NULL);
    }
    for (int i = 0; i < crowd.rounds; i++) {
        memset(crowd.futures, 0, sizeof crowd.futures);
        for (int k = 0; k < FUTURES; k++) {
            int other = (int)prng_below(&r, (uint32_t)k + 1);
            crowd.order[k] = crowd.order[other];
            crowd.order[other] = k;
        }
        cf_store_relaxed(&crowd.next, 0);
        pthread_barrier_wait(&crowd.gate);
        pthread_barrier_wait(&crowd.gate);
        for (int k = 0; k < FUTURES; k++) {
            CHECK_EQUAL(crowd.futures[k].cell & CF_STATE, CF_STATE_FINISHED);
            CHECK(crowd.futures[k].hooks == NULL);
        }
    }
    for (int i = 0; i < POSTERS + WAITERS; i++) {
        join(threads[i]);
    }
    pthread_barrier_destroy(&crowd.gate);
    printf("    %d rounds, slept %u times, %u deadlines passed\n", crowd.rounds,
           cf_load_relaxed(&crowd.sleeps), cf_load_relaxed(&crowd.timeouts));
}

/* ---- one future, one waiter: as close together as can be ----

   The waiter looks just when the ticket is posted, or goes to sleep just then, takes
   the ticket while its poster is still about, and frees the set at once. */

typedef struct {
    future *_Atomic current;
    int times;
} duel;

static void *
finish_what_appears(void *arg)
{
    duel *d = arg;
    prng r = prng_new();
    for (int i = 0; i < d->times; i++) {
        future *f;
        for (int looks = 1; (f = cf_load_acquire(&d->current)) == NULL; looks++) {
            if (looks % 1024 == 0) {
                cf_yield();
            }
        }
        cf_store_release(&d->current, NULL);
        for (uint32_t k = prng_below(&r, 16); k > 0; k--) {
            cf_relax();
        }
        finish(f, false);
    }
    return NULL;
}

static void
look_until_posted(cf_waitset *set)
{
    for (int looks = 1; cf_load_relaxed(&set->posted) == NULL; looks++) {
        if (looks % 1024 == 0) {
            cf_yield();
        }
    }
    CHECK(cf_waitset_take(set) != NULL);
}

static void
take_or_sleep(cf_waitset *set)
{
    while (cf_waitset_take(set) == NULL) {
        CHECK_EQUAL(cf_cell_wait(&set->cell, CF_DONE, CF_FOREVER), CF_OK);
    }
}

static void
a_set_is_free_once_its_ticket_was_taken_and_unhooked(void)
{
    duel d = {NULL, rounds(150000)};
    static future futures[2];
    prng r = prng_new();
    pthread_t poster = start(finish_what_appears, &d);
    for (int i = 0; i < d.times; i++) {
        future *f = &futures[i % 2];
        *f = (future){0, NULL, false};
        watch *w = calloc(1, sizeof *w);
        cf_waitset_init(&w->set, CF_WAKE_EACH, 1);
        w->hooks[0].set = &w->set;
        CHECK(hang(f, &w->hooks[0]));
        cf_store_release(&d.current, f);
        for (int looks = 1; cf_load_relaxed(&d.current) != NULL; looks++) {
            if (looks % 1024 == 0) {
                cf_yield();
            }
        }
        if (i % 2) {
            look_until_posted(&w->set);
        }
        else {
            for (uint32_t k = prng_below(&r, 16); k > 0; k--) {
                cf_relax();
            }
            take_or_sleep(&w->set);
        }
        unhook(f, &w->hooks[0]);
        CHECK_EQUAL(cf_load_acquire(&f->cell) & CF_STATE, CF_STATE_FINISHED);
        memset(w, 0xdd, sizeof *w);
        free(w);
    }
    join(poster);
}

int
main(void)
{
    RUN(tickets_come_out_oldest_first);
    RUN(each_mode_wakes_when_it_says);
    RUN(waiters_come_and_go_while_futures_finish);
    RUN(a_set_is_free_once_its_ticket_was_taken_and_unhooked);
    return finish_tests();
}
