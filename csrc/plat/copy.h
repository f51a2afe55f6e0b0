/* Copies of many MiB. */
#ifndef CF_PLAT_COPY_H
#define CF_PLAT_COPY_H

#include <stddef.h>

/* memcpy(), from some MiB on with the help of a second thread where there is a CPU for it: one
   alone does not use what the memory could give.  When this returns nobody touches `to` and
   `from` any more.  Call with the GIL released. */
void cf_copy_large(void *to, const void *from, size_t size);

#endif
