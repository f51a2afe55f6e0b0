#include "plat/reserve.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

void *
cf_reserve(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

void
cf_unreserve(void *at, size_t bytes)
{
    if (at != NULL) {
        munmap(at, bytes);
    }
}

void
cf_reserve_discard(void *at, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)at + page - 1) & ~(page - 1);
    uintptr_t to = ((uintptr_t)at + bytes) & ~(page - 1);
    if (from < to) {
        madvise((void *)from, to - from, MADV_DONTNEED);
    }
}
