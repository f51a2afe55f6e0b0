/* A copy in chunks that two threads take from one counter, so that a helper that starts late,
   or never, costs nothing: the caller takes what is left.  Whoever has taken a chunk copies it;
   the caller returns when all are copied, and does not wait for the helper's end.

       next    0 .. chunks, and beyond      a chunk below `chunks` is its taker's
       done    0 .. chunks                  the caller sleeps on it until it is `chunks`

   The helper is made for one copy: starting it takes some 50 us, less than a tenth of the
   smallest copy that it helps with, and there is nothing to stop, to fork or to leave behind.
   It is made when a CPU is idle.  A helper that had to share one would keep the caller
   waiting for its last chunk until its turn comes again, some milliseconds. */
#include "plat/copy.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "plat/cpu.h"
#include "plat/wait.h"

#define WORTH_HELP ((size_t)4 << 20)
/* Fresh memory comes in large pages, which two threads should not ask for and clear both: so
   chunks of many MiB are such pages. */
#define SMALL_CHUNK ((size_t)512 << 10)
#define LARGE_CHUNK ((size_t)2 << 20)
#define MANY ((size_t)32 << 20)
#define LOOKS 4         /* for an idle CPU, one before each of the first chunks */

typedef struct {
    char *to;                   /* the first six never change */
    const char *from;
    size_t size;
    size_t chunk;               /* of so many bytes, all but the first and last */
    size_t before;              /* bytes of the first one that are before `to` */
    uint32_t chunks;
    cf_word next, done;         /* see above */
    cf_word refs;               /* the caller's, the helper's */
} job;

static void
decref(job *j)
{
    /* acq_rel: the last one frees what the other one has used */
    if (atomic_fetch_sub_explicit(&j->refs, 1, memory_order_acq_rel) == 1) {
        free(j);
    }
}

/* Take a chunk and copy it; false if there was none. */
static bool
copy_chunk(job *j)
{
    uint32_t number = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
    if (number >= j->chunks) {
        return false;
    }
    size_t end = (number + (size_t)1) * j->chunk - j->before;
    size_t begin = number == 0 ? 0 : end - j->chunk;
    memcpy(j->to + begin, j->from + begin, (end < j->size ? end : j->size) - begin);
    /* release: partner of the caller's acquire, which then sees the chunk */
    if (atomic_fetch_add_explicit(&j->done, 1, memory_order_acq_rel) + 1 == j->chunks) {
        cf_wake32(&j->done, 1, CF_PRIVATE);
    }
    return true;
}

static void *
help(void *arg)
{
    while (copy_chunk(arg)) {
    }
    decref(arg);
    return NULL;
}

static uint32_t
cpus(void)
{
    static cf_word known;       /* 0: not asked yet */
    uint32_t count = cf_load_relaxed(&known);
    if (count == 0) {
        count = (uint32_t)cf_cpu_count();
        cf_store_relaxed(&known, count);
    }
    return count;
}

/* Do no more threads run than there are CPUs?  The system's threads, this one among them, as
   proc(5) has it: "0.20 0.18 0.12 RUNNING/ALL ...".  Where it is not told: yes.  As many are
   not too many: one of them may spin and give way, waiting for what is being copied. */
static bool
few_threads_run(void)
{
    char text[64];
    int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) {
        close(fd);
    }
    if (length <= 0) {
        return true;
    }
    text[length] = 0;
    char *at = strchr(text, '/');
    while (at != NULL && at > text && at[-1] >= '0' && at[-1] <= '9') {
        at--;
    }
    return at == NULL || strtoul(at, NULL, 10) <= cpus();
}

/* A helper that takes no signals: they are for threads that can do something about them. */
static bool
start_helper(job *j)
{
    sigset_t all, old;
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 * 1024);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&thread, &attr, help, j);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return error == 0;
}

void
cf_copy_large(void *to, const void *from, size_t size)
{
    job *j = size < WORTH_HELP || cpus() < 2 ? NULL : malloc(sizeof *j);
    if (j == NULL) {
        memcpy(to, from, size);
        return;
    }
    size_t chunk = size < MANY ? SMALL_CHUNK : LARGE_CHUNK;
    size_t before = (uintptr_t)to & (chunk - 1);
    *j = (job){.to = to, .from = from, .size = size, .chunk = chunk, .before = before,
               .chunks = (uint32_t)((before + size + chunk - 1) / chunk), .refs = 1};
    int looks = LOOKS;
    do {
        if (looks-- > 0 && few_threads_run()) {
            looks = 0;
            cf_store_relaxed(&j->refs, 2);
            if (!start_helper(j)) {
                cf_store_relaxed(&j->refs, 1);
            }
        }
    } while (copy_chunk(j));
    uint32_t done;
    while ((done = cf_load_acquire(&j->done)) != j->chunks) {
        cf_wait32(&j->done, done, CF_FOREVER, CF_PRIVATE);
    }
    decref(j);
}
