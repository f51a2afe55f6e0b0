/* The floors that need C; floors.py loads them with ctypes.
   pingpong: two threads, or two processes, hand a token to and fro, with no Python in
   sight: what the kernel and the memory system charge for it. Call it without the GIL
   (ctypes.CDLL).
   gil_pairs: release and retake the GIL. Call it with the GIL held (ctypes.PyDLL). */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum how { SLEEP, SPIN, YIELD };

/* Each side waits for its own word to become 1 and sets the other's. */
struct game {
    _Alignas(64) _Atomic uint32_t there;
    _Alignas(64) _Atomic uint32_t here;
    long trips;
    enum how how;
    int cpu;        /* of the partner; -1: wherever the system puts it */
    int private;    /* FUTEX_PRIVATE_FLAG between threads, 0 between processes */
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

static void give(struct game *game, _Atomic uint32_t *word) {
    atomic_store(word, 1);
    if (game->how == SLEEP) {
        syscall(SYS_futex, word, FUTEX_WAKE | game->private, 1, NULL, NULL, 0);
    }
}

static void take(struct game *game, _Atomic uint32_t *word) {
    while (atomic_exchange(word, 0) == 0) {
        if (game->how == SLEEP) {
            syscall(SYS_futex, word, FUTEX_WAIT | game->private, 0, NULL, NULL, 0);
        } else {
            while (atomic_load(word) == 0) {
                if (game->how == YIELD) {
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
        take(game, &game->there);
        give(game, &game->here);
    }
    return NULL;
}

static void lead(struct game *game) {
    for (long i = 0; i < game->trips; i++) {
        give(game, &game->there);
        take(game, &game->here);
    }
}

/* Play `trips` round trips with a thread made for it, each of the two on its CPU (-1: any;
   the caller's thread stays there). Returns the trips played, or -1 without a thread. */
long pingpong(long trips, int how, int here, int there) {
    struct game game = {.trips = trips, .how = (enum how)how, .cpu = there,
                        .private = FUTEX_PRIVATE_FLAG};
    pthread_t other;
    stay_on(here);
    if (pthread_create(&other, NULL, partner, &game) != 0) {
        return -1;
    }
    lead(&game);
    pthread_join(other, NULL);
    return trips;
}

/* The same with a process forked for it; -1 without one, or if it ended badly. */
long pingpong_processes(long trips, int how, int here, int there) {
    struct game *game = mmap(NULL, sizeof *game, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = -1;
    if (game == MAP_FAILED) {
        return -1;
    }
    *game = (struct game){.trips = trips, .how = (enum how)how, .cpu = there};
    stay_on(here);
    pid_t child = fork();
    if (child == 0) {
        partner(game);
        _exit(0);
    }
    if (child > 0) {
        lead(game);
        waitpid(child, &status, 0);
    }
    munmap(game, sizeof *game);
    return status == 0 ? trips : -1;
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
