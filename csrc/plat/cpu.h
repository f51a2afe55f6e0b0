/* The processors that this process may use. */
#ifndef CF_PLAT_CPU_H
#define CF_PLAT_CPU_H

#include <stdbool.h>

/* The processors in the affinity mask, or fewer where a control group's CPU
   quota (rounded up) allows fewer; at least 1. */
int cf_cpu_count(void);

/* May there be a processor, beside the one of the caller, that a thread could have at once?  No,
   where the affinity mask has but one, or where more threads run on the whole system than the mask
   has processors.  As many are not too many: one of them may be spinning for what the caller does.
   Where the system does not tell how many run: yes. */
bool cf_cpu_may_be_free(void);

#endif
