/* plat/copy.h: copies by two threads. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "plat/copy.h"

#define MIB ((size_t)1 << 20)
#define GUARD 64        /* bytes before and behind, which nobody may touch */

/* Different at each place, and for each seed. */
static void
fill(char *p, size_t size, uint32_t seed)
{
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < size; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (char)(x >> 24);
    }
}

static char *
memory(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        abort();
    }
    return p;
}

static bool
only(const char *p, size_t size, char what)
{
    for (size_t i = 0; i < size; i++) {
        if (p[i] != what) {
            return false;
        }
    }
    return true;
}

/* One copy between memory that is gone when it has returned: whoever touched it after that
   would crash. */
static void
copy_once(size_t size, size_t to_offset, size_t from_offset, uint32_t seed)
{
    size_t room = size + 2 * GUARD + 4096;
    char *from = memory(room), *to = memory(room);
    fill(from + from_offset, size, seed);
    memset(to, 'g', room);
    cf_copy_large(to + GUARD + to_offset, from + from_offset, size);
    CHECK(memcmp(to + GUARD + to_offset, from + from_offset, size) == 0);
    CHECK(only(to, GUARD + to_offset, 'g'));
    CHECK(only(to + GUARD + to_offset + size, room - GUARD - to_offset - size, 'g'));
    munmap(from, room);
    munmap(to, room);
}

static void
any_size_is_copied_and_nothing_else(void)
{
    static const size_t sizes[] = {0, 1, 4095, MIB, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1,
                                   5 * MIB + 12345, 32 * MIB - 1, 32 * MIB, 33 * MIB + 77};
    prng r = prng_new();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int turn = 0; turn < rounds(3); turn++) {
            copy_once(sizes[i], prng_below(&r, 4096 - GUARD), prng_below(&r, 4096),
                      (uint32_t)i + 1);
        }
        made_progress();
    }
}

static void
copies_that_two_threads_just_share(void)
{
    prng r = prng_new();
    for (int turn = 0; turn < rounds(60); turn++) {
        copy_once(4 * MIB + prng_below(&r, 2 * MIB), prng_below(&r, 4096 - GUARD),
                  prng_below(&r, 4096), (uint32_t)turn);
        made_progress();
    }
}

static void *
copy_some(void *arg)
{
    (void)arg;
    for (int turn = 0; turn < rounds(8); turn++) {
        copy_once(4 * MIB + 4096 * (size_t)turn + 1, 3, 5, (uint32_t)turn);
        made_progress();
    }
    return NULL;
}

static void
many_threads_copy_at_once(void)
{
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) {
        threads[i] = start(copy_some, NULL);
    }
    for (int i = 0; i < 6; i++) {
        join(threads[i]);
    }
}

static void
helper_that_gets_no_processor_is_not_waited_for(void)
{
    /* Both on one CPU: it starts late, sometimes when the memory is gone. */
    cpu_set_t before, one;
    CHECK_EQUAL(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &before)) {
            CPU_SET(cpu, &one);
            break;
        }
    }
    CHECK_EQUAL(sched_setaffinity(0, sizeof one, &one), 0);
    copy_some(NULL);
    CHECK_EQUAL(sched_setaffinity(0, sizeof before, &before), 0);
}

/* Sanitizers want memory for each thread too, and end the program without it. */
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#  define THREADS_CAN_FAIL

static void
without_threads_the_caller_copies_alone(void)
{
    /* No room for a thread's stack: as pthread_create() fails on a full system. */
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        char *from = memory(8 * MIB), *to = memory(8 * MIB);
        fill(from, 8 * MIB, 9);
        struct rlimit none = {1, 1};
        setrlimit(RLIMIT_AS, &none);
        cf_copy_large(to, from, 8 * MIB);
        _exit(memcmp(to, from, 8 * MIB) == 0 ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQUAL(status, 0);
}
#endif

int
main(void)
{
    RUN(any_size_is_copied_and_nothing_else);
    RUN(copies_that_two_threads_just_share);
    RUN(many_threads_copy_at_once);
    RUN(helper_that_gets_no_processor_is_not_waited_for);
#ifdef THREADS_CAN_FAIL
    RUN(without_threads_the_caller_copies_alone);
#endif
    return finish_tests();
}
