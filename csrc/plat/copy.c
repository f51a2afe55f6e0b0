/* A copy in chunks that two threads take from one counter, so that a helper that starts late,
   or never, costs nothing: the caller takes what is left.  Whoever has taken a chunk copies it;
   the caller returns when all are copied, and does not wait for the helper's end.

       next    0 .. chunks, and beyond      a chunk below `chunks` is its taker's
       done    0 .. chunks                  the caller sleeps on it until it is `chunks`

   The helper is made for one copy: starting it takes some 50 us, less than a tenth of the
   smallest copy that it helps with, and there is nothing to stop, to fork or to leave behind.
   It is made when a CPU is idle.  A helper that had to share one would keep the caller
   waiting for its last chunk until its turn comes again, some milliseconds.  It may not run on
   the caller's: while the other side of a transfer spins on the other CPU both look busy, and
   the system leaves a new thread where it was made, behind the caller until the copy is done. */
#include "plat/copy.h"

#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "plat/cpu.h"
#include "plat/pages.h"
#include "plat/thread.h"
#include "plat/wait.h"

#define WORTH_HELP ((size_t)4 << 20)
/* Fresh memory comes in large pages, which two threads should not ask for and clear both: so
   chunks of many MiB are such pages. */
#define SMALL_CHUNK ((size_t)512 << 10)
#define LARGE_CHUNK CF_LARGE_PAGE
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

/* A thread that takes chunks too, or none: then the caller is alone. */
static void
ask_for_help(job *j)
{
    cf_store_relaxed(&j->refs, 2);
    if (cf_thread_start_elsewhere(help, j) != 0) {
        cf_store_relaxed(&j->refs, 1);
    }
}

void
cf_copy_large(void *to, const void *from, size_t size)
{
    job *j = size < WORTH_HELP ? NULL : malloc(sizeof *j);
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
        if (looks-- > 0 && cf_cpu_may_be_free()) {
            looks = 0;
            ask_for_help(j);
        }
    } while (copy_chunk(j));
    uint32_t done;
    while ((done = cf_load_acquire(&j->done)) != j->chunks) {
        cf_wait32(&j->done, done, CF_FOREVER, CF_PRIVATE);
    }
    decref(j);
}
