/* plat/pages.h: what becomes of memory that is about to be written. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "plat/pages.h"

#define SIZE (3 * CF_LARGE_PAGE)
#define EDGE 100        /* bytes of the first and of the last page that belong to others */

static char *
filled(void)
{
    char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        abort();
    }
    memset(p, 'x', SIZE);
    return p;
}

/* How many bytes of [from, to) are what filled() wrote. */
static size_t
kept(const char *p, size_t from, size_t to)
{
    size_t count = 0;
    for (size_t i = from; i < to; i++) {
        count += p[i] == 'x';
    }
    return count;
}

/* A child that has all memory of this process until it is killed. */
static pid_t
sharer(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (;;) {
            pause();
        }
    }
    CHECK(pid > 0);
    return pid;
}

static void
end(pid_t pid)
{
    CHECK_EQUAL(kill(pid, SIGKILL), 0);
    CHECK(waitpid(pid, NULL, 0) == pid);
}

static void
pages_of_one_process_stay(void)
{
    char *p = filled();
    cf_pages_fresh(p + EDGE, SIZE - 2 * EDGE);
    CHECK_EQUAL(kept(p, 0, SIZE), SIZE);
    munmap(p, SIZE);
}

static void
shared_pages_are_given_up_but_for_the_neighbours(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *p = filled();
    pid_t pid = sharer();
    cf_pages_fresh(p + EDGE, SIZE - 2 * EDGE);
    CHECK_EQUAL(kept(p, 0, page), page);
    CHECK_EQUAL(kept(p, page, SIZE - page), 0);
    CHECK_EQUAL(kept(p, SIZE - page, SIZE), page);
    end(pid);
    munmap(p, SIZE);
}

static void
pages_are_this_process_s_again_when_the_other_has_ended(void)
{
    char *p = filled();
    end(sharer());
    cf_pages_fresh(p, SIZE);
    CHECK_EQUAL(kept(p, 0, SIZE), SIZE);
    munmap(p, SIZE);
}

static void
pages_that_are_not_there_are_nothing_to_give_up(void)
{
    char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pid_t pid = sharer();
    cf_pages_fresh(p, SIZE);
    CHECK_EQUAL(kept(p, 0, SIZE), 0);
    end(pid);
    munmap(p, SIZE);
}

static void
less_than_a_page_is_left_alone(void)
{
    char *p = filled();
    pid_t pid = sharer();
    cf_pages_fresh(p + 1, 0);
    cf_pages_fresh(p + 1, 50);
    cf_pages_fresh(p + 1, (size_t)sysconf(_SC_PAGESIZE));
    CHECK_EQUAL(kept(p, 0, SIZE), SIZE);
    end(pid);
    munmap(p, SIZE);
}

int
main(void)
{
    RUN(pages_of_one_process_stay);
    RUN(shared_pages_are_given_up_but_for_the_neighbours);
    RUN(pages_are_this_process_s_again_when_the_other_has_ended);
    RUN(pages_that_are_not_there_are_nothing_to_give_up);
    RUN(less_than_a_page_is_left_alone);
    return finish_tests();
}
