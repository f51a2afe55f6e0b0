/* Pages of private memory. */
#ifndef CF_PLAT_PAGES_H
#define CF_PLAT_PAGES_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of a page that the system can give at once, on the machines that we know. */
#define CF_LARGE_PAGE ((uintptr_t)2 << 20)

/* [at, at + size) is private memory that is about to be written, much of it perhaps for the
   first time, and what it holds is not needed any more: let the system use large pages, one fault
   instead of some hundreds.  Pages that a forked process still shares are given up for fresh ones,
   since the system would copy each as it is written to.  Worth the call from some MiB on. */
void cf_pages_fresh(void *at, size_t size);

#endif
