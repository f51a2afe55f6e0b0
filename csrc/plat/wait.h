/* Sleep on a 32-bit word, and wake its sleepers. */
#ifndef CF_PLAT_WAIT_H
#define CF_PLAT_WAIT_H

#include "base/atomic.h"
#include "base/status.h"
#include "plat/clock.h"

/* Who can sleep on the word: threads of this process, or any process that maps it. */
typedef enum { CF_PRIVATE, CF_SHARED } cf_scope;

/* Sleep while *word == expected.  Call with the GIL released.  Returns CF_OK,
   CF_AGAIN, CF_TIMEDOUT, CF_INTR or CF_SYSTEM; wake-ups may be spurious, so the
   caller looks at the word again whatever comes back. */
cf_status cf_wait32(cf_word *word, uint32_t expected, cf_deadline until, cf_scope scope);

/* Wake up to `count` sleepers; how many it were.  The word may already be somebody else's
   memory: a wake-up of a stale address is spurious at worst. */
int cf_wake32(cf_word *word, int count, cf_scope scope);

/* Let another runnable thread have this processor. */
void cf_yield(void);

/* Is this the process's first thread?  The kernel gives it the signals, and Python runs their
   handlers in it (unless a program that embeds Python has made another one its main thread). */
bool cf_is_first_thread(void);

#endif
