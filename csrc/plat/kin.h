/* Does a process still run that was forked at a certain moment, or one that it forked?

   Nobody has to tell: what the children have goes away when they end, however they end.
   A child that executes another program counts as ended, as does one that closes every
   descriptor it has. */
#ifndef CF_PLAT_KIN_H
#define CF_PLAT_KIN_H

#include <stdbool.h>

#include "plat/shm.h"

typedef struct {
    int watched;                /* -1: could not be made, nobody ever knows */
    int held;                   /* the children's; the parent's only while it forks */
    cf_shm_identity pipe;
} cf_kin;

/* Around one fork(), in this order: before it, then one of the others on each side. */
void cf_kin_before_fork(cf_kin *kin);
void cf_kin_in_parent(cf_kin *kin);
void cf_kin_in_child(cf_kin *kin);

/* In the parent: have all of them ended?  Once true, `kin` is used up. */
bool cf_kin_gone(cf_kin *kin);
/* In the parent's children: they do not watch those. */
void cf_kin_forget(cf_kin *kin);

#endif
