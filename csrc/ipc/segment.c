#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "ipc/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/block.h"

#define MAGIC 0x3173657275747563u       /* "cutures1" */
#define VERSION 1u
#define HEADER_BYTES 4096u
/* The parts begin where a huge page could. */
#define PART ((uint64_t)1 << 21)

typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t page;
    cf_geometry geometry;
    uint64_t bytes;
    /* Where the next spill goes; every process adds to it.  Offsets are not used
       again: there are more of them than bytes that could ever be copied. */
    _Atomic uint64_t spill;
} header;

_Static_assert(sizeof(header) <= HEADER_BYTES, "one page");

static uint64_t
round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static bool
sensible(const cf_geometry *g)
{
    return g->slots > 0 && (g->slots & (g->slots - 1)) == 0 && g->workers > 0
        && g->workers <= CF_BLOCK_HOLDERS && g->arenas > 0 && g->arenas < CF_WHERE_SPILL
        && g->arena_bytes >= CF_ARENA_MIN && g->arena_bytes <= CF_ARENA_MAX
        && g->arena_bytes % cf_shm_page() == 0;
}

/* Where things lie, from `geometry`; false if it would not fit into 64 bits. */
static bool
lay_out(cf_segment *seg)
{
    const cf_geometry *g = &seg->geometry;
    uint64_t page = cf_shm_page(), at = HEADER_BYTES;
    seg->board = at;
    at = seg->records = at + CF_BOARD_BYTES;
    at = seg->order = round_up(at + (uint64_t)g->workers * CF_RECORD_BYTES, page);
    at = seg->slots = round_up(at + (uint64_t)g->slots * 8, page);
    at = seg->arenas = round_up(at + (uint64_t)g->slots * CF_SLOT_BYTES, PART);
    uint64_t arenas;
    if (__builtin_mul_overflow(g->arenas, g->arena_bytes, &arenas)
        || __builtin_add_overflow(at, arenas, &seg->bytes)
        || seg->bytes > SIZE_MAX / 2) {
        return false;
    }
    seg->arena_blocks = (uint32_t)(g->arena_bytes / CF_BLOCK_MIN);
    seg->arena_data = round_up(CF_ARENA_HEAD_BYTES
                               + seg->arena_blocks * sizeof(cf_block), page);
    return true;
}

static header *
header_of(const cf_segment *seg)
{
    return (header *)seg->base;
}

/* Is the descriptor still the segment's?  A system call of a tenth of a microsecond, where
   others follow that are longer. */
static bool
ours(const cf_segment *seg)
{
    cf_shm_identity now;
    if (cf_shm_identify(seg->fd, &now) != CF_OK) {
        return false;
    }
    if (now.inode != seg->file.inode || now.device != seg->file.device) {
        errno = EBADF;
        return false;
    }
    return true;
}

/* ---- forks ----

   A task may fork, without telling us; then its child has the same views of blocks, and
   when it drops them the parent still looks at them. */

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t list_once = PTHREAD_ONCE_INIT;
static cf_segment *newest;      /* guarded by list_lock, as are the links */
static int not_watched;         /* errno of pthread_atfork() */

static void
before_fork(void)
{
    pthread_mutex_lock(&list_lock);
}

static void
after_fork_in_parent(void)
{
    pthread_mutex_unlock(&list_lock);
}

static void
after_fork_in_child(void)
{
    for (cf_segment *seg = newest; seg != NULL; seg = seg->older) {
        cf_segment_disown(seg);
        /* As after any fork: what the child writes to its objects is its own.  If the
           system refuses (it counts all that could be written) they remain shared. */
        if (ours(seg)) {
            (void)cf_shm_make_private(seg->fd, cf_segment_at(seg, seg->arenas),
                                      seg->arenas, seg->bytes - seg->arenas);
        }
    }
    pthread_mutex_unlock(&list_lock);
}

static void
watch_forks(void)
{
    not_watched = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static void
list_add(cf_segment *seg)
{
    CF_BORN(segment);
    pthread_mutex_lock(&list_lock);
    seg->older = newest;
    if (newest != NULL) {
        newest->newer = seg;
    }
    newest = seg;
    pthread_mutex_unlock(&list_lock);
}

static void
list_remove(cf_segment *seg)
{
    CF_GONE(segment);
    pthread_mutex_lock(&list_lock);
    if (seg->newer != NULL) {
        seg->newer->older = seg->older;
    }
    else {
        newest = seg->older;
    }
    if (seg->older != NULL) {
        seg->older->newer = seg->newer;
    }
    pthread_mutex_unlock(&list_lock);
}

/* Not in the list yet: that is for those that are complete. */
static cf_segment *
new_view(int fd)
{
    pthread_once(&list_once, watch_forks);
    if (not_watched != 0) {
        errno = not_watched;
        return NULL;
    }
    cf_segment *seg = calloc(1, sizeof *seg);
    if (seg != NULL) {
        seg->fd = fd;
        cf_store_relaxed(&seg->refs, 1);
        cf_store_relaxed(&seg->mine, true);
    }
    return seg;
}

/* ---- making one ---- */

/* One step smaller; false if it is as small as it can be. */
static bool
shrink(cf_geometry *g)
{
    if (g->arena_bytes > CF_ARENA_MIN) {
        uint64_t half = round_up(g->arena_bytes / 2, cf_shm_page());
        g->arena_bytes = half > CF_ARENA_MIN ? half : CF_ARENA_MIN;
        return true;
    }
    if (g->slots > CF_SLOTS_MIN) {
        g->slots /= 2;
        return true;
    }
    return false;
}

static cf_status
map_now(cf_segment *seg)
{
    void *base;
    if (!lay_out(seg) || seg->bytes > seg->file.length) {
        errno = ENOMEM;
        return CF_SYSTEM;
    }
    if (cf_shm_map(seg->fd, (size_t)seg->bytes, &base) != CF_OK) {
        return CF_SYSTEM;
    }
    seg->base = base;
    return CF_OK;
}

static cf_status
map_what_fits(cf_segment *seg)
{
    bool limited = false;
    while (map_now(seg) != CF_OK) {
        /* Under valgrind, which has less address space to give, it is EINVAL. */
        if ((errno != ENOMEM && errno != EINVAL) || !shrink(&seg->geometry)) {
            return CF_SYSTEM;
        }
        limited = true;
    }
    /* It is the largest that fits: but the rest of the program needs address space too,
       and so does a forked child that maps it once more. */
    for (int i = 0; limited && i < 2; i++) {
        cf_segment smaller = *seg;
        if (!shrink(&smaller.geometry)) {
            break;
        }
        cf_shm_unmap(seg->base, (size_t)seg->bytes);
        if (map_now(&smaller) != CF_OK) {
            return CF_SYSTEM;
        }
        *seg = smaller;
    }
    return CF_OK;
}

cf_status
cf_segment_create(const cf_geometry *wanted, cf_segment **out)
{
    int fd, saved;
    if (!sensible(wanted)) {
        errno = EINVAL;
        return CF_SYSTEM;
    }
    if (cf_shm_create(&fd) != CF_OK) {
        return CF_SYSTEM;
    }
    cf_segment *seg = new_view(fd);
    if (seg == NULL) {
        goto no_view;
    }
    seg->geometry = *wanted;
    if (cf_shm_identify(fd, &seg->file) != CF_OK || map_what_fits(seg) != CF_OK) {
        goto no_map;
    }
    header *h = header_of(seg);
    h->magic = MAGIC;
    h->version = VERSION;
    h->page = (uint32_t)cf_shm_page();
    h->geometry = seg->geometry;
    h->bytes = seg->bytes;
    cf_store_release(&h->spill, round_up(seg->bytes, cf_shm_page()));
    list_add(seg);
    *out = seg;
    return CF_OK;
no_map:
    saved = errno;
    free(seg);
    errno = saved;
no_view:
    saved = errno;
    close(fd);
    errno = saved;
    return CF_SYSTEM;
}

/* ---- coming to one ---- */

/* Read through the file, not through a mapping: of a file that is too short a mapping
   would raise SIGBUS. */
static cf_status
read_header(cf_segment *seg)
{
    header h;
    if (cf_shm_identify(seg->fd, &seg->file) != CF_OK) {
        return CF_SYSTEM;
    }
    if (seg->file.length < HEADER_BYTES) {
        return CF_CORRUPT;
    }
    if (cf_shm_read(seg->fd, 0, &h, sizeof h) != CF_OK) {
        return CF_SYSTEM;
    }
    if (h.magic != MAGIC || h.version != VERSION || h.page != cf_shm_page()
        || !sensible(&h.geometry)) {
        return CF_CORRUPT;
    }
    seg->geometry = h.geometry;
    if (!lay_out(seg) || seg->bytes != h.bytes || seg->bytes > seg->file.length) {
        return CF_CORRUPT;
    }
    return CF_OK;
}

cf_status
cf_segment_attach(int fd, cf_segment **out)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0) {
        return CF_SYSTEM;
    }
    cf_status status = CF_SYSTEM;
    cf_segment *seg = new_view(own);
    if (seg != NULL) {
        status = read_header(seg);
        if (status == CF_OK) {
            status = map_now(seg);
        }
        if (status == CF_OK) {
            list_add(seg);
            *out = seg;
            return CF_OK;
        }
    }
    int saved = errno;
    free(seg);
    close(own);
    errno = saved;
    return status;
}

/* ---- the file ---- */

cf_status
cf_segment_write(cf_segment *seg, uint64_t offset, const void *data, uint64_t size)
{
    return ours(seg) ? cf_shm_write(seg->fd, offset, data, (size_t)size) : CF_SYSTEM;
}

cf_status
cf_segment_read(cf_segment *seg, uint64_t offset, void *data, uint64_t size)
{
    return ours(seg) ? cf_shm_read(seg->fd, offset, data, (size_t)size) : CF_SYSTEM;
}

cf_status
cf_segment_discard(cf_segment *seg, uint64_t offset, uint64_t size)
{
    return ours(seg) ? cf_shm_discard(seg->fd, offset, size) : CF_SYSTEM;
}

/* ---- references ---- */

void
cf_segment_incref(cf_segment *seg)
{
    atomic_fetch_add_explicit(&seg->refs, 1, memory_order_relaxed);
}

void
cf_segment_decref(cf_segment *seg)
{
    if (atomic_fetch_sub_explicit(&seg->refs, 1, memory_order_acq_rel) == 1) {
        list_remove(seg);
        cf_shm_unmap(seg->base, (size_t)seg->bytes);
        if (ours(seg)) {
            close(seg->fd);
        }
        free(seg);
    }
}

void
cf_segment_disown(cf_segment *seg)
{
    cf_store_relaxed(&seg->mine, false);
}

/* ---- places ---- */

static bool
spill_valid(const cf_segment *seg, const cf_place *place)
{
    return place->offset >= seg->bytes && place->offset <= seg->file.length
        && place->size <= seg->file.length - place->offset
        && place->offset % cf_shm_page() == 0;
}

bool
cf_place_valid(const cf_segment *seg, const cf_place *place)
{
    if (place->where == CF_WHERE_SPILL) {
        return spill_valid(seg, place);
    }
    return cf_block_holds(seg, place);
}

cf_status
cf_spill_write(cf_segment *seg, const void *data, uint64_t size, cf_place *out)
{
    uint64_t page = cf_shm_page();
    /* Size 0 has a page too, so that no two spills have the same place. */
    if (size > seg->file.length) {
        errno = ENOSPC;
        return CF_SYSTEM;
    }
    uint64_t room = round_up(size + (size == 0), page);
    cf_place place = {.size = size, .where = CF_WHERE_SPILL};
    place.offset = atomic_fetch_add_explicit(&header_of(seg)->spill, room,
                                             memory_order_relaxed);
    if (!spill_valid(seg, &place)) {
        errno = ENOSPC;         /* or somebody scribbled */
        return CF_SYSTEM;
    }
    if (cf_segment_write(seg, place.offset, data, size) != CF_OK) {
        int saved = errno;
        (void)cf_segment_discard(seg, place.offset, room);
        errno = saved;
        return CF_SYSTEM;
    }
    *out = place;
    return CF_OK;
}

cf_status
cf_spill_read(cf_segment *seg, const cf_place *place, void *data)
{
    if (place->where != CF_WHERE_SPILL || !spill_valid(seg, place)) {
        return CF_CORRUPT;
    }
    return cf_segment_read(seg, place->offset, data, place->size);
}

void
cf_spill_free(cf_segment *seg, const cf_place *place)
{
    if (place->where == CF_WHERE_SPILL && spill_valid(seg, place)) {
        /* If it fails the pages stay until the segment goes. */
        (void)cf_segment_discard(seg, place->offset, round_up(place->size, cf_shm_page()));
    }
}
