#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "plat/pages.h"

#include <sys/mman.h>

void
cf_pages_large(void *at, size_t size)
{
    uintptr_t begin = ((uintptr_t)at + CF_LARGE_PAGE - 1) & ~(CF_LARGE_PAGE - 1);
    uintptr_t end = ((uintptr_t)at + size) & ~(CF_LARGE_PAGE - 1);
    if (begin < end) {
        /* Refused where the system was built without them: as good as not asked. */
        (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE);
    }
}
