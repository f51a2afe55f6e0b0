/* Pages of private memory. */
#ifndef CF_PLAT_PAGES_H
#define CF_PLAT_PAGES_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of a page that the system can give at once, on the machines that we know. */
#define CF_LARGE_PAGE ((uintptr_t)2 << 20)

/* [at, at + size) is private memory that is about to be written, much of it for the first
   time: let the system use large pages, one fault instead of some hundreds.  A hint, worth
   the call from some MiB on. */
void cf_pages_large(void *at, size_t size);

#endif
