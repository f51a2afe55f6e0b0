/* Monotonic time in nanoseconds.  Deadlines are absolute and are made once, at
   the edge of the API. */
#ifndef CF_PLAT_CLOCK_H
#define CF_PLAT_CLOCK_H

#include <stdint.h>

typedef int64_t cf_deadline;
#define CF_FOREVER INT64_MAX
#define CF_NO_WAIT 0            /* long ago: look, but do not wait */

/* Now, precisely (tens of nanoseconds to read). */
int64_t cf_now(void);

/* Now, as of the kernel's last tick (milliseconds old, a few nanoseconds to read). */
int64_t cf_now_coarse(void);

/* The same in milliseconds, from 2^32 on beginning again, never 0: for a note of when
   something was that costs four bytes. */
uint32_t cf_now_stamp(void);

#endif
