/* Preloaded into a program: makes the n-th call of one libc function fail.

       fault_arm("mmap", 3, 0)     the third call from now on fails, in this process
       fault_arm("mmap", 3, 1)     the third call of each process that is forked from now on
       fault_arm("pidfd_open", -1, 0)  all calls, here and in what is forked, with ENOSYS:
                                   a system that has no such call
       fault_arm("futex", 3, 0)    does not fail: SIGUSR1 comes in the last moment before the
                                   third sleep of ours, too late to end it
       fault_disarm()              returns how many calls were made to fail since, anywhere

   Once a call has failed the function works again.  malloc() and mmap() are counted only if
   cfutures' own C calls them: CPython's allocators have tests of their own (see
   tests/isolated/test_no_memory.py), and CPython does not outlive every failure of them:
   Thread.start() hangs if the new thread finds no memory.  All others are counted whoever
   calls them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What glibc calls its allocator: dlsym() would need one that works. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static const char *_Atomic armed;       /* a function's name; NULL: none */
static _Atomic long countdown;          /* calls until the one that fails */
static _Atomic int *failures;           /* shared with the processes that are forked */
static _Atomic pid_t spared;            /* this process makes no call fail; 0: only children do */
static _Atomic pid_t counting;          /* whose countdown it is */
static long first;                      /* the countdown of a forked process; -1: all calls */

void
fault_arm(const char *name, long n, int in_children)
{
    static char copy[32];
    armed = NULL;
    strncpy(copy, name, sizeof copy - 1);
    first = n;
    countdown = n;
    *failures = 0;
    counting = getpid();
    spared = in_children ? getpid() : 0;
    armed = copy;
}

int
fault_disarm(void)
{
    armed = NULL;
    return *failures;
}

/* Whether this call of `name` is the one that is to fail. */
static int
fails(const char *name)
{
    const char *wanted = armed;
    if (wanted == NULL || strcmp(wanted, name) != 0) {
        return 0;
    }
    if (first < 0) {
        (*failures)++;
        return 1;
    }
    pid_t pid = (pid_t)syscall(SYS_getpid);
    if (pid != counting) {
        if (spared == 0) {
            return 0;           /* a child of the process that it was meant for */
        }
        counting = pid;
        countdown = first;
    }
    if (pid == spared || --countdown != 0) {
        return 0;
    }
    (*failures)++;
    return 1;
}

/* The same for a call that counts only if `caller` is in cfutures' extension module. */
static int
fails_for_us(const char *name, void *caller)
{
    Dl_info info;
    return armed != NULL && dladdr(caller, &info) != 0 && info.dli_fname != NULL
           && strstr(info.dli_fname, "/_core.") != NULL && fails(name);
}

#define CALLER __builtin_return_address(0)

/* NEXT(name) is the function that ours stands before.  It is looked for before main() runs,
   or by who calls earlier: not in a forked child, which may have no loader that works. */
#define STANDS_BEFORE(name)                                 \
    static __typeof__(&name) next_##name;                   \
    __attribute__((constructor)) static void                \
    find_##name(void)                                       \
    {                                                       \
        *(void **)&next_##name = dlsym(RTLD_NEXT, #name);   \
    }
#define NEXT(name) (next_##name != NULL ? (void)0 : find_##name(), next_##name)

STANDS_BEFORE(mmap)

__attribute__((constructor)) static void
make_counter(void)
{
    void *page = NEXT(mmap)(NULL, sizeof *failures, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        abort();
    }
    failures = page;
}

STANDS_BEFORE(pthread_create)
STANDS_BEFORE(syscall)

void *
malloc(size_t size)
{
    if (fails_for_us("malloc", CALLER)) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
    if (fails_for_us("malloc", CALLER)) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
    if (fails_for_us("malloc", CALLER)) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_realloc(old, size);
}

void *
mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (fails_for_us("mmap", CALLER)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return NEXT(mmap)(at, size, protection, flags, fd, offset);
}

void *
mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset)
{
    if (fails_for_us("mmap", CALLER)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return NEXT(mmap)(at, size, protection, flags, fd, offset);
}

/* Functions that return -1 and set errno; those with 64 in their names are the same. */
#define FAILING(type, name, counted, error, parameters, arguments)  \
    STANDS_BEFORE(name)                                             \
    type                                                            \
    name parameters                                                 \
    {                                                               \
        if (fails(counted)) {                                       \
            errno = error;                                          \
            return -1;                                              \
        }                                                           \
        return NEXT(name) arguments;                                \
    }

FAILING(int, memfd_create, "memfd_create", EMFILE, (const char *text, unsigned flags),
        (text, flags))
FAILING(int, ftruncate, "ftruncate", EIO, (int fd, off_t size), (fd, size))
FAILING(int, ftruncate64, "ftruncate", EIO, (int fd, off64_t size), (fd, size))
FAILING(int, fallocate, "fallocate", ENOSPC, (int fd, int mode, off_t at, off_t size),
        (fd, mode, at, size))
FAILING(int, fallocate64, "fallocate", ENOSPC, (int fd, int mode, off64_t at, off64_t size),
        (fd, mode, at, size))
FAILING(int, madvise, "madvise", ENOMEM, (void *at, size_t size, int advice),
        (at, size, advice))
FAILING(ssize_t, pwrite, "pwrite", ENOSPC, (int fd, const void *data, size_t size, off_t at),
        (fd, data, size, at))
FAILING(ssize_t, pwrite64, "pwrite", ENOSPC,
        (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
FAILING(ssize_t, pread, "pread", EIO, (int fd, void *data, size_t size, off_t at),
        (fd, data, size, at))
FAILING(ssize_t, pread64, "pread", EIO, (int fd, void *data, size_t size, off64_t at),
        (fd, data, size, at))
FAILING(int, eventfd, "eventfd", EMFILE, (unsigned count, int flags), (count, flags))
FAILING(int, pipe, "pipe", EMFILE, (int ends[2]), (ends))
FAILING(int, pipe2, "pipe", EMFILE, (int ends[2], int flags), (ends, flags))
FAILING(int, ppoll, "ppoll", ENOMEM,
        (struct pollfd *fds, nfds_t count, const struct timespec *limit, const sigset_t *mask),
        (fds, count, limit, mask))
FAILING(pid_t, fork, "fork", EAGAIN, (void), ())

/* A function around the real one would return on a stack that the child has used. */
pid_t
vfork(void)
{
    return fork();
}

int
pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *), void *arg)
{
    return fails("pthread_create") ? EAGAIN : NEXT(pthread_create)(thread, attr, body, arg);
}

/* glibc has no wrapper of its own for pidfd_open() in all versions, so all go this way. */
long
syscall(long number, ...)
{
    va_list args;
    long a[6];
    va_start(args, number);
    for (int i = 0; i < 6; i++) {
        a[i] = va_arg(args, long);
    }
    va_end(args);
    if (number == SYS_pidfd_open && fails("pidfd_open")) {
        errno = first < 0 ? ENOSYS : EMFILE;
        return -1;
    }
    if (number == SYS_futex && (a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET
        && fails("futex"))
    {
        raise(SIGUSR1);
    }
    return NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
