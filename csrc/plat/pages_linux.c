/* A page's entry in /proc/self/pagemap, 8 bytes: bit 63 says that it is there, 56 that no other
   process maps it; see the kernel's admin-guide/mm/pagemap. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "plat/pages.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#define IS_THERE (UINT64_C(1) << 63)
#define IS_OURS  (UINT64_C(1) << 56)
#define LOOKS 8

typedef struct {
    uintptr_t begin, size;
} range;

/* What of [at, at + size) consists of whole pages of so many bytes. */
static range
whole_pages(void *at, size_t size, uintptr_t page)
{
    uintptr_t begin = ((uintptr_t)at + page - 1) & ~(page - 1);
    uintptr_t end = ((uintptr_t)at + size) & ~(page - 1);
    return (range){begin, begin < end ? end - begin : 0};
}

/* Of some of these pages, evenly spread: does another process have one as well? */
static bool
some_are_shared(range r, uintptr_t page)
{
    bool shared = false;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    for (uintptr_t i = 0; fd >= 0 && i < LOOKS && !shared; i++) {
        uintptr_t number = r.begin / page + r.size / page * i / LOOKS;
        uint64_t entry;
        shared = pread(fd, &entry, sizeof entry, (off_t)(number * sizeof entry)) == sizeof entry
                 && (entry & (IS_THERE | IS_OURS)) == IS_THERE;
    }
    if (fd >= 0) {
        close(fd);
    }
    return shared;
}

/* The system may refuse advice, for locked memory or where it was built without large pages:
   that is as good as not asked. */
void
cf_pages_fresh(void *at, size_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    range small = whole_pages(at, size, page), large = whole_pages(at, size, CF_LARGE_PAGE);
    if (small.size > 0 && some_are_shared(small, page)) {
        (void)madvise((void *)small.begin, small.size, MADV_DONTNEED);
    }
    if (large.size > 0) {
        (void)madvise((void *)large.begin, large.size, MADV_HUGEPAGE);
    }
}
