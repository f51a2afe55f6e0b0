/* What the C tests share: checks, seeds, rounds, threads, and a watchdog.

   A test is a `static void the_behaviour(void)` that main() gives to RUN().  From the
   environment:
       CF_TEST_SEED     repeat a run with the seed that it printed
       CF_TEST_ROUNDS   how many times the usual rounds (1 by default; 0.1, 20, ...)
       CF_TEST_LIMIT    seconds after which a single test is taken to hang (120)
   The process ends with 'N passed, N failed' and status 1 if any failed; a test that
   hangs prints what it was doing and aborts. */
#ifndef CF_TESTS_CHECK_H
#define CF_TESTS_CHECK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Report a false condition and go on.  From any thread. */
#define CHECK(condition) \
    check_that((condition), #condition, __FILE__, __LINE__)

#define CHECK_EQUAL(a, b) \
    check_equal((long long)(a), (long long)(b), #a " == " #b, __FILE__, __LINE__)

#define RUN(test) run_test((test), #test)

bool check_that(bool ok, const char *what, const char *file, int line);
bool check_equal(long long a, long long b, const char *what, const char *file, int line);

void run_test(void (*test)(void), const char *name);

/* Print the last line; the status for main() to return. */
int finish_tests(void);

/* `usual` times CF_TEST_ROUNDS, at least 1. */
int rounds(int usual);

/* What the watchdog prints beside the name of a test that hangs; NULL: nothing.  It
   is reset at the end of each test. */
void explain_hangs(void (*explain)(void));
/* What is slow, because others use the processors, does not hang: the limit begins anew. */
void made_progress(void);

/* ---- random numbers: one generator for each thread, all from the seed ---- */

typedef struct { uint64_t state; } prng;

prng prng_new(void);
uint32_t prng_below(prng *r, uint32_t end);

/* Lose some time, differently each time: nothing, a short spin, or the processor. */
void prng_dawdle(prng *r);

/* ---- threads ----

   Where the library is built for a GIL (CF_SERIALIZED, see base/atomic.h), callers of
   cells and queues take turns.  The turn stands for the GIL here: tests take it for
   what the extension does with the GIL held, and give it up for what it does without,
   which is to wait.  In other builds it is nothing. */

void turn_take(void);
void turn_give(void);

pthread_t start(void *(*body)(void *), void *arg);
void join(pthread_t thread);

#endif
