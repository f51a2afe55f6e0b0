#include "py/block.h"

#include <errno.h>
#include <math.h>

#include "plat/wait.h"

/* ---- the GIL, from hand to hand ----

   PyEval_RestoreThread() on a GIL that is taken sleeps in the kernel, and is woken
   there: 50 us and more.  In the ping-pong of submit and result the other thread
   lets go of it within a microsecond, so it is worth waiting for.  CPython does not
   tell who holds the GIL; we remember which of our threads took it last.  It is a
   hint: a thread can lose the GIL in the interpreter without our knowing, hence
   the wait is bounded. */

#ifndef Py_GIL_DISABLED

/* GIL_FREE, or the thread of ours that took it last (with that bit clear). */
#define GIL_FREE 1u
static cf_word gil_owner = GIL_FREE;

/* Its limit (ns) is never adapted: what is late is not coming. */
static cf_spin hand_over_spin = {10000, CF_LOOKS_MIN, 0};

static uint32_t
owner_word(PyThreadState *ts)
{
    return (uint32_t)((uintptr_t)ts >> 4) & ~GIL_FREE;
}

PyThreadState *
cf_gil_release(void)
{
    PyThreadState *ts = PyEval_SaveThread();
    /* Only after it is free, and only if nobody took it since. */
    uint32_t me = owner_word(ts);
    atomic_compare_exchange_strong_explicit(&gil_owner, &me, GIL_FREE,
                                            memory_order_release, memory_order_relaxed);
    return ts;
}

void
cf_gil_take(PyThreadState *ts)
{
    cf_spin_until(&hand_over_spin, &gil_owner, GIL_FREE);
    PyEval_RestoreThread(ts);
    cf_store_relaxed(&gil_owner, owner_word(ts));
}

#else

PyThreadState *
cf_gil_release(void)
{
    return PyEval_SaveThread();
}

void
cf_gil_take(PyThreadState *ts)
{
    PyEval_RestoreThread(ts);
}

#endif

/* ---- waiting ---- */

/* Callers of result(), wait() and as_completed(), all of the process. */
static cf_spin callers_spin = CF_SPIN_INIT;

/* A signal that arrives before a thread sleeps, in its spin or after its last look for
   signals, does not end that sleep: futex(2) has nothing like the mask of ppoll(2).  So the
   first sleep, after a spin, is short, and those after it end now and then in the thread that
   runs handlers: what came in that moment is late, and not lost. */
#define FIRST_SLEEP_NS 20000000
#define SLEEP_NS 250000000

static cf_deadline
sooner(cf_deadline until, int64_t now, int64_t longest)
{
    return until - now > longest ? now + longest : until;
}

cf_deadline
cf_first_sleep_end(int64_t now, cf_deadline until)
{
    return sooner(until, now, FIRST_SLEEP_NS);
}

static cf_deadline
sleep_end(int64_t now, cf_deadline until)
{
    return cf_is_first_thread() ? sooner(until, now, SLEEP_NS) : until;
}

/* Where every CPU has a task to run and more are queued, a waiting thread only takes
   time from them: spinning it is one competitor more; asleep it is woken for each result
   that it asks for in turn, and each time keeps the kernel from giving an idle CPU one of
   two workers that share the other.  Short sleeps that nobody ends let some results come
   together.  A quarter of the time that the queue would last: they are over before it runs
   dry. */
#define SHORTEST_NAP_NS 100000
#define LONGEST_NAP_NS 2000000
#define NAPS_NS 10000000        /* then a real sleep: these tasks are long ones */
#define SHORT_TASK_NS 2000

/* How long the workers took for one task while somebody napped last; a guess. */
static cf_word pace_ns;

static int64_t
nap_length(uint32_t waiting)
{
    int64_t lasts = (int64_t)waiting * cf_load_relaxed(&pace_ns);
    return lasts / 4 < SHORTEST_NAP_NS ? SHORTEST_NAP_NS
           : lasts / 4 > LONGEST_NAP_NS ? LONGEST_NAP_NS : lasts / 4;
}

static void
learn_pace(int64_t slept, uint32_t before, uint32_t after)
{
    /* More may have been queued meanwhile; that says nothing. */
    if (after < before && slept < UINT32_MAX) {
        cf_store_relaxed(&pace_ns, (uint32_t)(slept / (before - after)));
    }
}

/* How to go on when it is over. */
static cf_beginning
nap(const cf_blocker *b, int64_t start, cf_deadline until, uint32_t waiting)
{
    cf_word nobody = 0;
    cf_beginning then = CF_NAP_FIRST;
    int64_t now = start;
    while (then == CF_NAP_FIRST && now < until && now - start < NAPS_NS) {
        cf_deadline end = now + nap_length(waiting);
        cf_wait32(&nobody, 0, end < until ? end : until, CF_PRIVATE);
        int64_t woke = cf_now();
        uint32_t before = waiting;
        waiting = 0;
        then = b->begin(b->arg, &waiting);
        learn_pace(woke - now, before, waiting);
        now = woke;
        if (cf_load_acquire(b->word) & b->mask) {
            return CF_SLEEP_AT_ONCE;    /* which will not be long */
        }
    }
    return then;
}

int
cf_block_on(const cf_blocker *b, cf_deadline until)
{
    for (bool first = true;; first = false) {
        PyThreadState *ts = cf_gil_release();
        int64_t start = cf_now();
        cf_status status;
        cf_deadline end = until;
        uint32_t waiting = 0;
        cf_beginning begin = first ? b->begin(b->arg, &waiting) : CF_SLEEP_AT_ONCE;
        if (begin == CF_NAP_FIRST) {
            begin = nap(b, start, until, waiting);
        }
        if (begin == CF_SPIN_FIRST && cf_spin_until(b->spin, b->word, b->mask)) {
            status = CF_OK;
        }
        else {
            end = first ? cf_first_sleep_end(start, until) : sleep_end(start, until);
            status = b->sleep(b->arg, end);
        }
        if (begin == CF_SPIN_FIRST) {
            cf_spin_learn(b->spin, start);
        }
        int saved_errno = errno;
        cf_gil_take(ts);
        if (status == CF_OK) {
            return 1;
        }
        if (status == CF_SYSTEM) {
            errno = saved_errno;
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
        if (status == CF_TIMEDOUT && end == until) {
            return 0;
        }
    }
}

typedef struct {
    cf_state *st;
    cf_word *cell;
    uint32_t mask;
} cell_wait;

/* Workers that have yet to begin need CPUs as well: one that wakes while its caller spins is
   put on the other worker's, and stays there for some milliseconds.  Not so for tasks that
   take hardly longer than waking: these are best done where the caller has just made them. */
static cf_beginning
begin_on_cell(void *arg, uint32_t *waiting)
{
    cf_state *st = ((cell_wait *)arg)->st;
    bool all_busy = true;
    *waiting = st->saturated(st, &all_busy);
    uint32_t pace = cf_load_relaxed(&pace_ns);
    bool short_tasks = pace != 0 && pace < SHORT_TASK_NS;
    return *waiting != 0 && (all_busy || !short_tasks) ? CF_NAP_FIRST : CF_SPIN_FIRST;
}

static cf_status
cell_sleep(void *arg, cf_deadline until)
{
    cell_wait *w = arg;
    return cf_cell_wait(w->cell, w->mask, until);
}

int
cf_block_until(cf_state *st, cf_word *cell, uint32_t mask, cf_deadline until)
{
    if (until == CF_NO_WAIT) {
        return (cf_load_acquire(cell) & mask) ? 1 : 0;
    }
    cell_wait w = {st, cell, mask};
    cf_blocker b = {cell, mask, begin_on_cell, cell_sleep, &w, &callers_spin};
    int r = cf_block_on(&b, until);
    return r != 0 ? r : (cf_load_acquire(cell) & mask) ? 1 : 0;
}

int
cf_deadline_from_now(PyObject *timeout, cf_deadline *until)
{
    if (timeout != NULL && timeout != Py_None) {
        /* The sum is not needed, but its error is the standard library's. */
        PyObject *now = PyFloat_FromDouble((double)cf_now() / 1e9);
        PyObject *end = now == NULL ? NULL : PyNumber_Add(timeout, now);
        Py_XDECREF(now);
        if (end == NULL) {
            return -1;
        }
        Py_DECREF(end);
    }
    return cf_deadline_from_timeout(timeout, until);
}

int
cf_deadline_from_timeout(PyObject *timeout, cf_deadline *until)
{
    if (timeout == NULL || timeout == Py_None) {
        *until = CF_FOREVER;
        return 0;
    }
    /* This is how the standard library finds out that it is no number, and its text. */
    PyObject *zero = PyLong_FromLong(0);
    if (zero == NULL) {
        return -1;
    }
    int positive = PyObject_RichCompareBool(timeout, zero, Py_GT);
    Py_DECREF(zero);
    double seconds = positive < 0 ? -1.0 : PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    int64_t now = cf_now();
    if (!(seconds > 0)) {       /* NaN too */
        *until = CF_NO_WAIT;
    }
    else if (seconds * 1e9 >= (double)(CF_FOREVER - now)) {
        *until = CF_FOREVER;
    }
    else {
        *until = now + (int64_t)(seconds * 1e9);
    }
    return 0;
}
