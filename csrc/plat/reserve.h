/* Address space now, memory with use. */
#ifndef CF_PLAT_RESERVE_H
#define CF_PLAT_RESERVE_H

#include <stddef.h>

/* `bytes` of zeros, private to the process; a page takes memory once it was written.
   NULL, errno. */
void *cf_reserve(size_t bytes);
void cf_unreserve(void *at, size_t bytes);      /* NULL does nothing */

/* Back to zeros without memory, as far as whole pages inside go. */
void cf_reserve_discard(void *at, size_t bytes);

#endif
