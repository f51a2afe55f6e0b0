/* How many processors this process may use. */
#ifndef CF_PLAT_CPU_H
#define CF_PLAT_CPU_H

/* The processors in the affinity mask, or fewer where a control group's CPU
   quota (rounded up) allows fewer; at least 1. */
int cf_cpu_count(void);

#endif
