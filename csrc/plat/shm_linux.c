#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "plat/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Longer than anybody's address space, and still not at the edge of off_t. */
#define LENGTH_BITS 62
#define LENGTH_BITS_MIN 20

uint64_t
cf_shm_page(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Never to be executed: since Linux 6.3 this can be said, and a hardened system insists on
   it; earlier ones do not know it. */
#ifndef MFD_NOEXEC_SEAL
#  define MFD_NOEXEC_SEAL 8u
#endif

static int
new_file(void)
{
    int fd = memfd_create("cfutures", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) {
        fd = memfd_create("cfutures", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    return fd;
}

/* A length over the process's file size limit would not only fail, it would raise
   SIGXFSZ; so the limit is looked at first. */
static cf_status
lengthen(int fd)
{
    struct rlimit limit;
    uint64_t most = UINT64_MAX;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        most = limit.rlim_cur;
    }
    errno = EFBIG;
    for (int bits = LENGTH_BITS; bits >= LENGTH_BITS_MIN; bits--) {
        uint64_t length = (uint64_t)1 << bits;
        if (length > most) {
            continue;
        }
        if (ftruncate(fd, (off_t)length) == 0) {
            return CF_OK;
        }
        if (errno != EFBIG && errno != EINVAL) {
            break;
        }
    }
    return CF_SYSTEM;
}

cf_status
cf_shm_create(int *fd)
{
    *fd = new_file();
    if (*fd < 0) {
        return CF_SYSTEM;
    }
    if (lengthen(*fd) != CF_OK) {
        int saved = errno;
        close(*fd);
        *fd = -1;
        errno = saved;
        return CF_SYSTEM;
    }
    /* Nobody can take away pages behind a mapping (SIGBUS).  Not vital. */
    (void)fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    return CF_OK;
}

cf_status
cf_shm_identify(int fd, cf_shm_identity *identity)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return CF_SYSTEM;
    }
    *identity = (cf_shm_identity){
        .length = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0,
        .device = st.st_dev, .inode = st.st_ino};
    return CF_OK;
}

cf_status
cf_shm_map(int fd, size_t bytes, void **at)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED) {
        return CF_SYSTEM;
    }
    /* Tens of terabytes, nearly all of it holes: no core dump wants that. */
    (void)madvise(p, bytes, MADV_DONTDUMP);
    *at = p;
    return CF_OK;
}

cf_status
cf_shm_make_private(int fd, void *at, uint64_t offset, size_t bytes)
{
    void *p = mmap(at, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd, (off_t)offset);
    if (p == MAP_FAILED) {
        return CF_SYSTEM;
    }
    (void)madvise(p, bytes, MADV_DONTDUMP);
    return CF_OK;
}

void
cf_shm_unmap(void *at, size_t bytes)
{
    munmap(at, bytes);
}

cf_status
cf_shm_write(int fd, uint64_t offset, const void *data, size_t size)
{
    const char *from = data;
    while (size > 0) {
        ssize_t n = pwrite(fd, from, size, (off_t)offset);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return CF_SYSTEM;
        }
        from += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return CF_OK;
}

cf_status
cf_shm_read(int fd, uint64_t offset, void *data, size_t size)
{
    char *to = data;
    while (size > 0) {
        ssize_t n = pread(fd, to, size, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            if (n == 0) {
                errno = EIO;        /* behind the end */
            }
            return CF_SYSTEM;
        }
        to += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return CF_OK;
}

cf_status
cf_shm_discard(int fd, uint64_t offset, uint64_t size)
{
    uint64_t page = cf_shm_page(), begin = (offset + page - 1) / page * page;
    uint64_t end = (offset + size) / page * page;
    if (begin >= end) {
        return CF_OK;
    }
    while (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)begin,
                     (off_t)(end - begin)) != 0) {
        if (errno != EINTR) {
            return CF_SYSTEM;
        }
    }
    return CF_OK;
}

#ifndef MADV_POPULATE_WRITE
#  define MADV_POPULATE_WRITE 23
#endif

cf_status
cf_shm_prefault(void *at, size_t size)
{
    uintptr_t page = (uintptr_t)cf_shm_page();
    uintptr_t begin = (uintptr_t)at / page * page;
    uintptr_t end = ((uintptr_t)at + size + page - 1) / page * page;
    while (madvise((void *)begin, end - begin, MADV_POPULATE_WRITE) != 0) {
        if (errno != EINTR) {
            return CF_SYSTEM;
        }
    }
    return CF_OK;
}
