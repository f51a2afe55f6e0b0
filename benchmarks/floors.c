/* The floors that need C; floors.py loads them with ctypes.
   pingpong: two threads hand a token to and fro, with no Python in sight: what the kernel
   and the memory system charge for it. Call it without the GIL (ctypes.CDLL).
   gil_pairs: release and retake the GIL. Call it with the GIL held (ctypes.PyDLL). */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum how { SLEEP, SPIN, YIELD };

/* Each thread waits for its own word to become 1 and sets the other's. */
struct game {
    _Alignas(64) _Atomic uint32_t there;
    _Alignas(64) _Atomic uint32_t here;
    long trips;
    enum how how;
    int cpu;        /* of the partner; -1: wherever the system puts it */
};

/* Keep the calling thread on one CPU. */
static void stay_on(int cpu) {
    cpu_set_t set;
    if (cpu >= 0) {
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        sched_setaffinity(0, sizeof set, &set);
    }
}

static void give(_Atomic uint32_t *word, enum how how) {
    atomic_store(word, 1);
    if (how == SLEEP) {
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

static void take(_Atomic uint32_t *word, enum how how) {
    while (atomic_exchange(word, 0) == 0) {
        if (how == SLEEP) {
            syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
        } else {
            while (atomic_load(word) == 0) {
                if (how == YIELD) {
                    sched_yield();
                }
            }
        }
    }
}

static void *partner(void *arg) {
    struct game *game = arg;
    stay_on(game->cpu);
    for (long i = 0; i < game->trips; i++) {
        take(&game->there, game->how);
        give(&game->here, game->how);
    }
    return NULL;
}

/* Play `trips` round trips with a thread made for it, each of the two on its CPU (-1: any;
   the caller's thread stays there). Returns the trips played, or -1 without a thread. */
long pingpong(long trips, int how, int here, int there) {
    struct game game = {.trips = trips, .how = (enum how)how, .cpu = there};
    pthread_t other;
    stay_on(here);
    if (pthread_create(&other, NULL, partner, &game) != 0) {
        return -1;
    }
    for (long i = 0; i < trips; i++) {
        give(&game.there, game.how);
        take(&game.here, game.how);
    }
    pthread_join(other, NULL);
    return trips;
}

/* Two functions of Python's stable ABI, declared here so that compiling this needs no
   Python headers; the interpreter that loads this file provides them. */
void *PyEval_SaveThread(void);
void PyEval_RestoreThread(void *state);

long gil_pairs(long pairs) {
    for (long i = 0; i < pairs; i++) {
        PyEval_RestoreThread(PyEval_SaveThread());
    }
    return pairs;
}
