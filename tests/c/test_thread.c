/* plat/thread.h: threads of our own. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "plat/thread.h"
#include "plat/wait.h"

/* What a thread finds, written before `ended`. */
typedef struct {
    sigset_t mask;
    cpu_set_t cpus;
    cf_word ended;
} found;

static void *
look(void *arg)
{
    found *f = arg;
    pthread_sigmask(SIG_SETMASK, NULL, &f->mask);
    sched_getaffinity(0, sizeof f->cpus, &f->cpus);
    cf_store_release(&f->ended, 1);
    cf_wake32(&f->ended, 1, CF_PRIVATE);
    return NULL;
}

static void
wait_for(found *f)
{
    while (cf_load_acquire(&f->ended) == 0) {
        cf_wait32(&f->ended, 0, CF_FOREVER, CF_PRIVATE);
    }
}

/* The caller stays on one processor, so that it is known. */
static void
stay_on(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK_EQUAL(sched_setaffinity(0, sizeof one, &one), 0);
}

static void
it_takes_no_signals_and_its_maker_still_does(void)
{
    static int (*const starts[])(void *(*)(void *), void *) = {
        cf_thread_start, cf_thread_start_elsewhere};
    for (int i = 0; i < 2; i++) {
        found f = {.ended = 0};
        sigset_t before, after;
        pthread_sigmask(SIG_SETMASK, NULL, &before);
        CHECK_EQUAL(starts[i](look, &f), 0);
        pthread_sigmask(SIG_SETMASK, NULL, &after);
        wait_for(&f);
        CHECK(sigismember(&f.mask, SIGINT) && sigismember(&f.mask, SIGTERM));
        CHECK_EQUAL(sigismember(&before, SIGINT), sigismember(&after, SIGINT));
        CHECK(!sigismember(&after, SIGTERM));
    }
}

static void
elsewhere_is_not_where_the_caller_is(void)
{
    cpu_set_t all;
    CHECK_EQUAL(sched_getaffinity(0, sizeof all, &all), 0);
    for (int turn = 0; turn < rounds(20); turn++) {
        found anywhere = {.ended = 0}, elsewhere = {.ended = 0};
        CHECK_EQUAL(cf_thread_start(look, &anywhere), 0);
        CHECK_EQUAL(cf_thread_start_elsewhere(look, &elsewhere), 0);
        wait_for(&anywhere);
        wait_for(&elsewhere);
        CHECK(CPU_EQUAL(&anywhere.cpus, &all));
        CHECK_EQUAL(CPU_COUNT(&elsewhere.cpus),
                    CPU_COUNT(&all) - (CPU_COUNT(&all) > 1));
        made_progress();
    }
}

static void
with_one_processor_elsewhere_is_here(void)
{
    cpu_set_t all;
    CHECK_EQUAL(sched_getaffinity(0, sizeof all, &all), 0);
    int first = 0;
    while (!CPU_ISSET(first, &all)) {
        first++;
    }
    stay_on(first);
    found f = {.ended = 0};
    CHECK_EQUAL(cf_thread_start_elsewhere(look, &f), 0);
    wait_for(&f);
    CHECK(CPU_ISSET(first, &f.cpus) && CPU_COUNT(&f.cpus) == 1);
    CHECK_EQUAL(sched_setaffinity(0, sizeof all, &all), 0);
}

/* Sanitizers want memory for each thread too, and end the program without it. */
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#  define THREADS_CAN_FAIL

static void
refusal_of_the_system_is_told(void)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        found f = {.ended = 0};
        struct rlimit none = {1, 1};    /* no room for a stack */
        setrlimit(RLIMIT_AS, &none);
        _exit(cf_thread_start(look, &f) != 0 && cf_thread_start_elsewhere(look, &f) != 0 ? 7 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}
#endif

int
main(void)
{
#ifdef THREADS_CAN_FAIL
    RUN(refusal_of_the_system_is_told);     /* first: later there are stacks to use again */
#endif
    RUN(it_takes_no_signals_and_its_maker_still_does);
    RUN(elsewhere_is_not_where_the_caller_is);
    RUN(with_one_processor_elsewhere_is_here);
    return finish_tests();
}
