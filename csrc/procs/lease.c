#include "procs/lease.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "plat/clock.h"
#include "plat/kin.h"

#define LOOK_EVERY_NS 50000000      /* at those who may have ended meanwhile */

/* Guards all that follows and the links and `fork` of every lease.  Nothing else is locked
   under it; a fork takes it first and segment.c's after it, as nobody else does. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

struct cf_lease {
    cf_lease *older, *newer;        /* in `live` or `waiting` */
    uint64_t since;                 /* how many forks there had been when it began */
    uint64_t fork;                  /* the last one that happened meanwhile; 0: none */
    bool foreign;                   /* in a forked child: the block is the parent's */
    /* Never changes. */
    cf_segment *seg;                /* one reference */
    cf_pins *pins;                  /* one reference */
    cf_place place;
};

static cf_lease *live, *waiting;
static uint64_t forks;              /* those that shared a lease */
static int64_t looked;              /* when, cf_now_coarse() */

typedef struct generation {
    struct generation *older;
    uint64_t fork;
    cf_kin kin;
} generation;
/* Of the forks whose children may live, the newest first. */
static generation *generations;
/* The last fork of whose children nobody knows whether they have ended; 0: there is none. */
static uint64_t unknown;

/* Each takes a descriptor; children of more forks are as if they lived for ever. */
#define GENERATIONS_MAX 256

static void
link_in(cf_lease **list, cf_lease *lease)
{
    lease->newer = NULL;
    lease->older = *list;
    if (lease->older != NULL) {
        lease->older->newer = lease;
    }
    *list = lease;
}

static void
link_out(cf_lease **list, cf_lease *lease)
{
    if (lease->newer != NULL) {
        lease->newer->older = lease->older;
    }
    else {
        *list = lease->older;
    }
    if (lease->older != NULL) {
        lease->older->newer = lease->newer;
    }
}

/* ---- forks ---- */

/* Forget the generations that have ended; returns how many there are.  The caller has the
   lock. */
static unsigned
look_at_generations(void)
{
    unsigned count = 0;
    for (generation **at = &generations; *at != NULL;) {
        generation *g = *at;
        if (cf_kin_gone(&g->kin)) {
            *at = g->older;
            free(g);
        }
        else {
            at = &g->older;
            count++;
        }
    }
    return count;
}

static generation *forking;         /* guarded by `lock`, which a fork holds; or NULL */

static void
before_fork(void)
{
    pthread_mutex_lock(&lock);
    forking = NULL;
    if (live == NULL) {
        return;
    }
    forks++;
    for (cf_lease *lease = live; lease != NULL; lease = lease->older) {
        lease->fork = forks;
    }
    if (look_at_generations() < GENERATIONS_MAX) {
        forking = malloc(sizeof *forking);
    }
    if (forking == NULL) {
        unknown = forks;
        return;
    }
    forking->fork = forks;
    cf_kin_before_fork(&forking->kin);
}

static void
after_fork_in_parent(void)
{
    if (forking != NULL) {
        cf_kin_in_parent(&forking->kin);
        forking->older = generations;
        generations = forking;
    }
    pthread_mutex_unlock(&lock);
}

static void
after_fork_in_child(void)
{
    if (forking != NULL) {
        cf_kin_in_child(&forking->kin);
    }
    for (generation *g = generations; g != NULL; g = g->older) {
        cf_kin_forget(&g->kin);
    }
    for (cf_lease *lease = live; lease != NULL; lease = lease->older) {
        lease->foreign = true;
    }
    /* Not freed: little, and a child that forked is no place for much work. */
    generations = NULL;
    waiting = live = NULL;
    unknown = forks = 0;
    pthread_mutex_unlock(&lock);
}

static void
watch_forks(void)
{
    /* If it fails (out of memory) forks are as before: children share what they see. */
    (void)pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* Does a child see the block?  The generations have just been looked at; the caller has the
   lock. */
static bool
children_see(const cf_lease *lease)
{
    if (lease->fork == 0 || unknown > lease->since) {
        return lease->fork != 0;
    }
    for (const generation *g = generations; g != NULL; g = g->older) {
        if (lease->since < g->fork && g->fork <= lease->fork) {
            return true;
        }
    }
    return false;
}

/* ---- leases ---- */

static void
lease_free(cf_lease *lease)
{
    if (!lease->foreign) {
        cf_block_return(lease->seg, &lease->place);
    }
    /* Only now: whoever sees that no view is left may give the arena to another worker, and
       a block given back after that would be the new one's. */
    atomic_fetch_sub_explicit(&lease->pins->views[lease->place.where - 1], 1,
                              memory_order_release);
    cf_pins_decref(lease->pins);
    cf_segment_decref(lease->seg);
    CF_GONE(lease);
    free(lease);
}

/* Take out of `waiting` what nobody needs any more: a list, linked by `older`.  The caller
   has the lock. */
static cf_lease *
take_ready(void)
{
    cf_lease *ready = NULL;
    if (waiting == NULL || cf_now_coarse() - looked < LOOK_EVERY_NS) {
        return NULL;
    }
    (void)look_at_generations();
    for (cf_lease *lease = waiting, *older; lease != NULL; lease = older) {
        older = lease->older;
        if (!children_see(lease)) {
            link_out(&waiting, lease);
            lease->older = ready;
            ready = lease;
        }
    }
    looked = cf_now_coarse();
    return ready;
}

static void
free_all(cf_lease *ready)
{
    while (ready != NULL) {
        cf_lease *older = ready->older;
        lease_free(ready);
        ready = older;
    }
}

cf_lease *
cf_lease_begin(cf_segment *seg, const cf_place *place, cf_pins *pins)
{
    pthread_once(&once, watch_forks);
    cf_lease *lease = malloc(sizeof *lease);
    if (lease == NULL) {
        return NULL;
    }
    CF_BORN(lease);
    cf_segment_incref(seg);
    atomic_fetch_add_explicit(&pins->refs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&pins->views[place->where - 1], 1, memory_order_relaxed);
    *lease = (cf_lease){.seg = seg, .pins = pins, .place = *place,
                        .foreign = !cf_load_relaxed(&seg->mine)};
    pthread_mutex_lock(&lock);
    lease->since = forks;
    if (!lease->foreign) {
        link_in(&live, lease);
    }
    cf_lease *ready = take_ready();
    pthread_mutex_unlock(&lock);
    free_all(ready);
    return lease;
}

void
cf_lease_end(cf_lease *lease)
{
    pthread_mutex_lock(&lock);
    bool free_it = true;
    cf_lease *ready = NULL;
    if (!lease->foreign) {
        link_out(&live, lease);
        if (lease->fork != 0) {
            (void)look_at_generations();
            free_it = !children_see(lease);
        }
        if (!free_it) {
            link_in(&waiting, lease);
        }
        ready = take_ready();
    }
    pthread_mutex_unlock(&lock);
    if (free_it) {
        lease_free(lease);
    }
    free_all(ready);
}
