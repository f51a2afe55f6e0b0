/* The one place that releases the GIL, waits, takes it back and looks at signals. */
#ifndef CF_PY_BLOCK_H
#define CF_PY_BLOCK_H

#include "plat/clock.h"
#include "py/state.h"
#include "sync/cell.h"

/* None or a number of seconds (int, float, or what has __float__) to a deadline.
   Infinity and None are CF_FOREVER; 0, less, and NaN do not wait.  0, or -1 with a
   TypeError: `_from_timeout` with the text of a comparison with 0, `_from_now` with that
   of a sum, as the standard library has it here and there. */
int cf_deadline_from_timeout(PyObject *timeout, cf_deadline *until);
int cf_deadline_from_now(PyObject *timeout, cf_deadline *until);

/* Wait until `*cell & mask`, spinning first (or napping, where the CPUs have better to
   do) and then asleep.  Ctrl-C ends it.
   1: so it is; 0: the deadline has passed; -1: a signal handler raised, or OSError. */
int cf_block_until(cf_state *st, cf_word *cell, uint32_t mask, cf_deadline until);

/* How a wait begins: awake, as it may be over in a moment; with short sleeps that nobody
   ends; or asleep at once.  The last two where spinning would only be in the way. */
typedef enum { CF_SPIN_FIRST, CF_NAP_FIRST, CF_SLEEP_AT_ONCE } cf_beginning;

/* The same for a word that is not a cell.  `begin` is asked again after each short sleep,
   and tells, with CF_NAP_FIRST, how many tasks wait.  `sleep` returns CF_OK when there is
   nothing to wait for any more, else as cf_cell_wait(). */
typedef struct {
    cf_word *word;              /* spin on `*word & mask` */
    uint32_t mask;
    cf_beginning (*begin)(void *arg, uint32_t *waiting);
    cf_status (*sleep)(void *arg, cf_deadline until);
    void *arg;
    cf_spin *spin;
} cf_blocker;

int cf_block_on(const cf_blocker *b, cf_deadline until);

/* When the first sleep after a spin is to end, with a look for signals behind it. */
cf_deadline cf_first_sleep_end(int64_t now, cf_deadline until);

/* Let go of the GIL for a wait of our own, and take it back.  Between two of our
   threads the GIL goes from hand to hand without the kernel: the one that takes it
   first waits, for some microseconds, until the other is known to have let go. */
PyThreadState *cf_gil_release(void);
void cf_gil_take(PyThreadState *ts);

#endif
