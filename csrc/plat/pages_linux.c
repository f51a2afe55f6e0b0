#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "plat/pages.h"

#include <stdint.h>
#include <sys/mman.h>

/* Of a page that the system can give at once, on the machines that we know. */
#define LARGE ((uintptr_t)2 << 20)

void
cf_pages_large(void *at, size_t size)
{
    uintptr_t begin = ((uintptr_t)at + LARGE - 1) & ~(LARGE - 1);
    uintptr_t end = ((uintptr_t)at + size) & ~(LARGE - 1);
    if (begin < end) {
        /* Refused where the system was built without them: as good as not asked. */
        (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE);
    }
}
