/* ipc/segment.h: the one region of a pool, its file, and places in it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "ipc/arena.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static const cf_geometry tiny = {.slots = 64, .workers = 3, .arenas = 4, .arena_bytes = MIB};
static const cf_geometry usual = {
    .slots = 1u << 24, .workers = 61, .arenas = 62, .arena_bytes = 64 * GIB};

static cf_segment *
create(const cf_geometry *geometry)
{
    cf_segment *seg = NULL;
    if (cf_segment_create(geometry, &seg) != CF_OK) {
        perror("cf_segment_create");
        abort();
    }
    return seg;
}

static uint64_t
memory_of(int fd)
{
    struct stat st;
    CHECK_EQUAL(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

static int
in_child(int (*body)(void))
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(body());
    }
    int status = -1;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    return status;
}

/* ---- where things lie ---- */

static void
parts_lie_apart(const cf_segment *seg)
{
    const cf_geometry *g = &seg->geometry;
    uint64_t page = cf_shm_page();
    CHECK(seg->board >= 64);
    CHECK(seg->records >= seg->board + CF_BOARD_BYTES);
    CHECK(seg->order >= seg->records + (uint64_t)g->workers * CF_RECORD_BYTES);
    CHECK(seg->slots >= seg->order + (uint64_t)g->slots * 8);
    CHECK(seg->arenas >= seg->slots + (uint64_t)g->slots * CF_SLOT_BYTES);
    CHECK(seg->bytes >= seg->arenas + g->arenas * g->arena_bytes);
    CHECK(seg->file.length >= seg->bytes);
    CHECK_EQUAL(seg->board % 64, 0);
    CHECK_EQUAL(seg->records % 64, 0);
    CHECK_EQUAL(seg->order % 64, 0);
    CHECK_EQUAL(seg->slots % 128, 0);
    CHECK_EQUAL(seg->arenas % page, 0);
    CHECK_EQUAL((uintptr_t)seg->base % page, 0);
    CHECK_EQUAL(seg->arena_data % page, 0);
    CHECK(seg->arena_data >= CF_ARENA_HEAD_BYTES + seg->arena_blocks * sizeof(cf_block));
    /* The table is large enough, whatever is allocated. */
    CHECK((uint64_t)seg->arena_blocks * CF_BLOCK_MIN >= g->arena_bytes - seg->arena_data);
}

static void
all_parts_have_their_room(void)
{
    prng r = prng_new();
    for (int i = 0; i < rounds(50); i++) {
        cf_geometry g = {
            .slots = 1u << prng_below(&r, 20), .workers = 1 + prng_below(&r, 4096),
            .arenas = 1 + prng_below(&r, 100),
            .arena_bytes = MIB + prng_below(&r, 10000) * cf_shm_page()};
        cf_segment *seg = create(&g);
        CHECK(memcmp(&seg->geometry, &g, sizeof g) == 0);
        parts_lie_apart(seg);
        CHECK(cf_segment_at(seg, 77) == seg->base + 77);
        /* All of it can be written, to the last byte. */
        *(char *)cf_segment_at(seg, seg->bytes - 1) = 1;
        CHECK(memory_of(seg->fd) <= 3 * cf_shm_page());
        cf_segment_decref(seg);
    }
}

static void
the_usual_size(void)
{
    cf_segment *seg = NULL;
    if (!CHECK_EQUAL(cf_segment_create(&usual, &seg), CF_OK)) {
        return;
    }
    parts_lie_apart(seg);
    if (seg->geometry.arena_bytes != usual.arena_bytes) {
        printf("    arenas are smaller: the address space is limited here\n");
    }
    CHECK(memory_of(seg->fd) <= 2 * cf_shm_page());
    cf_segment_decref(seg);
}

static void
senseless_geometries_are_refused(void)
{
    const cf_geometry bad[] = {
        {0, 3, 4, MIB}, {3, 3, 4, MIB}, {64, 0, 4, MIB}, {64, 3, 0, MIB}, {64, 3, 4, 0},
        {64, 3, 4, MIB / 2}, {64, 3, 4, MIB + 1}, {64, 3, 4, UINT64_MAX},
        {64, 3, 4, 2 * CF_ARENA_MAX}, {64, 3, UINT32_MAX, MIB}, {64, UINT32_MAX, 4, MIB}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cf_segment *seg = NULL;
        errno = 0;
        CHECK_EQUAL(cf_segment_create(&bad[i], &seg), CF_SYSTEM);
        CHECK_EQUAL(errno, EINVAL);
        CHECK(seg == NULL);
    }
}

/* ---- less room than wanted ---- */

/* So much more address space than this process has now. */
static void
allow_address_space(uint64_t more)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%lu", &pages) != 1) {
        _exit(99);
    }
    fclose(file);
    struct rlimit l = {pages * cf_shm_page() + more, RLIM_INFINITY};
    getrlimit(RLIMIT_AS, &l);
    l.rlim_cur = pages * cf_shm_page() + more;
    setrlimit(RLIMIT_AS, &l);
}

static int
with_8_gib_to_map(void)
{
    allow_address_space(8 * GIB);
    cf_segment *seg, *again;
    if (cf_segment_create(&usual, &seg) != CF_OK) {
        return 2;
    }
    const cf_geometry *g = &seg->geometry;
    if (g->arena_bytes >= usual.arena_bytes || g->arena_bytes < CF_ARENA_MIN
        || g->slots != usual.slots || g->workers != usual.workers
        || g->arenas != usual.arenas) {
        return 3;
    }
    parts_lie_apart(seg);
    /* A child of this process can map it too, and something is left for the program. */
    if (cf_segment_attach(seg->fd, &again) != CF_OK
        || mmap(NULL, GIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) {
        return 4;
    }
    return memcmp(&again->geometry, g, sizeof *g) == 0 ? 0 : 5;
}

static int
with_800_mib_to_map(void)
{
    allow_address_space(800 * MIB);
    cf_segment *seg;
    if (cf_segment_create(&usual, &seg) != CF_OK) {
        return 2;
    }
    parts_lie_apart(seg);
    return seg->geometry.arena_bytes == CF_ARENA_MIN && seg->geometry.slots < usual.slots
        && seg->geometry.slots >= CF_SLOTS_MIN ? 0 : 3;
}

static int
with_20_mib_to_map(void)
{
    allow_address_space(20 * MIB);
    cf_segment *seg = NULL;
    return cf_segment_create(&usual, &seg) == CF_SYSTEM && errno == ENOMEM && seg == NULL
        ? 0 : 2;
}

static void
where_address_space_is_short_it_is_smaller(void)
{
    CHECK_EQUAL(in_child(with_8_gib_to_map), 0);
    CHECK_EQUAL(in_child(with_800_mib_to_map), 0);
    CHECK_EQUAL(in_child(with_20_mib_to_map), 0);
}

static int
with_files_of_1_gib(void)
{
    struct rlimit l = {GIB, RLIM_INFINITY};
    getrlimit(RLIMIT_FSIZE, &l);
    l.rlim_cur = GIB;
    setrlimit(RLIMIT_FSIZE, &l);
    cf_geometry wanted = {.slots = 4096, .workers = 8, .arenas = 9, .arena_bytes = GIB};
    cf_segment *seg;
    if (cf_segment_create(&wanted, &seg) != CF_OK) {
        return 2;
    }
    parts_lie_apart(seg);
    cf_place place;
    char byte = 1;
    return seg->file.length == GIB && seg->geometry.arena_bytes < GIB
        && cf_spill_write(seg, &byte, 1, &place) == CF_OK ? 0 : 3;
}

static void
where_files_are_limited_it_is_smaller(void)
{
    CHECK_EQUAL(in_child(with_files_of_1_gib), 0);
}

static int
without_descriptors(void)
{
    cf_segment *seg = create(&tiny), *view = NULL;
    struct rlimit l = {0, RLIM_INFINITY};
    getrlimit(RLIMIT_NOFILE, &l);
    l.rlim_cur = (rlim_t)seg->fd + 1;
    setrlimit(RLIMIT_NOFILE, &l);
    while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0) {
    }
    if (cf_segment_attach(seg->fd, &view) != CF_SYSTEM || errno != EMFILE) {
        return 2;
    }
    return cf_segment_create(&tiny, &view) == CF_SYSTEM && errno == EMFILE ? 0 : 3;
}

static void
no_descriptors_are_an_error(void)
{
    CHECK_EQUAL(in_child(without_descriptors), 0);
}

/* ---- attaching ---- */

static void
an_attached_one_is_the_same(void)
{
    cf_segment *seg = create(&tiny), *view = NULL;
    if (CHECK_EQUAL(cf_segment_attach(seg->fd, &view), CF_OK)) {
        CHECK(view->fd != seg->fd && view->base != seg->base);
        CHECK(fcntl(view->fd, F_GETFD) & FD_CLOEXEC);
        CHECK(memcmp(&view->geometry, &seg->geometry, sizeof seg->geometry) == 0);
        CHECK(view->board == seg->board && view->records == seg->records
              && view->order == seg->order && view->slots == seg->slots
              && view->arenas == seg->arenas && view->bytes == seg->bytes
              && view->arena_data == seg->arena_data
              && view->arena_blocks == seg->arena_blocks);
        strcpy(cf_segment_at(seg, seg->slots), "seen");
        CHECK_EQUAL(strcmp(cf_segment_at(view, seg->slots), "seen"), 0);
        cf_segment_decref(seg);
        CHECK_EQUAL(strcmp(cf_segment_at(view, view->slots), "seen"), 0);
        cf_segment_decref(view);
    }
}

static void
another_process_attaches(void)
{
    cf_segment *seg = create(&tiny);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        cf_segment *view;
        int fd = dup(seg->fd);
        if (atomic_load(&seg->mine)) {
            _exit(3);
        }
        cf_segment_decref(seg);
        if (cf_segment_attach(fd, &view) != CF_OK || !atomic_load(&view->mine)) {
            _exit(2);
        }
        strcpy(cf_segment_at(view, view->slots), "from the child");
        _exit(0);
    }
    int status = -1;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(strcmp(cf_segment_at(seg, seg->slots), "from the child"), 0);
    CHECK(atomic_load(&seg->mine));
    cf_segment_decref(seg);
}

static cf_status
attach_bytes(const void *data, size_t size, uint64_t length)
{
    int fd = memfd_create("foreign", MFD_CLOEXEC);
    CHECK_EQUAL(ftruncate(fd, (off_t)length), 0);
    CHECK_EQUAL(pwrite(fd, data, size, 0), (ssize_t)size);
    cf_segment *view = NULL;
    cf_status status = cf_segment_attach(fd, &view);
    CHECK((status == CF_OK) == (view != NULL));
    if (view != NULL) {
        cf_segment_decref(view);
    }
    close(fd);
    return status;
}

static void *
attach_and_leave(void *arg)
{
    cf_segment *seg = arg, *view;
    for (int i = rounds(1000); i > 0; i--) {
        if (CHECK_EQUAL(cf_segment_attach(seg->fd, &view), CF_OK)) {
            cf_segment_decref(view);
        }
    }
    cf_segment_decref(seg);
    return NULL;
}

static void
a_fork_disowns_all_whatever_other_threads_do(void)
{
    cf_segment *segs[3] = {create(&tiny), create(&tiny), create(&tiny)};
    pthread_t threads[2];
    cf_segment_incref(segs[0]);
    for (int i = 0; i < 2; i++) {
        threads[i] = start(attach_and_leave, segs[i]);
    }
    for (int i = rounds(50); i > 0; i--) {
        pid_t child = fork();
        if (child == 0) {
            cf_segment *view;
            bool disowned = !atomic_load(&segs[0]->mine) && !atomic_load(&segs[2]->mine);
            _exit(!disowned || cf_segment_attach(segs[0]->fd, &view) != CF_OK);
        }
        int status = -1;
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        CHECK_EQUAL(status, 0);
    }
    join(threads[0]);
    join(threads[1]);
    CHECK(atomic_load(&segs[0]->mine) && atomic_load(&segs[2]->mine));
    cf_segment_decref(segs[0]);
    cf_segment_decref(segs[2]);
}

static void
foreign_files_are_corrupt(void)
{
    cf_segment *view = NULL;
    char noise[8192];
    prng r = prng_new();
    for (size_t i = 0; i < sizeof noise; i++) {
        noise[i] = (char)prng_below(&r, 256);
    }
    CHECK_EQUAL(attach_bytes("", 0, 0), CF_CORRUPT);
    CHECK_EQUAL(attach_bytes("", 0, 1 << 20), CF_CORRUPT);
    CHECK_EQUAL(attach_bytes(noise, 100, 100), CF_CORRUPT);
    CHECK_EQUAL(attach_bytes(noise, sizeof noise, 1 << 20), CF_CORRUPT);
    int ends[2], dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_EQUAL(pipe(ends), 0);
    CHECK_EQUAL(cf_segment_attach(ends[0], &view), CF_CORRUPT);
    CHECK_EQUAL(cf_segment_attach(dir, &view), CF_CORRUPT);
    close(dir);
    close(ends[0]);
    close(ends[1]);
    CHECK_EQUAL(cf_segment_attach(ends[0], &view), CF_SYSTEM);
    CHECK_EQUAL(errno, EBADF);
    CHECK(view == NULL);
}

static void
every_altered_header_is_corrupt(void)
{
    enum { MAGIC = 0, VERSION = 8, PAGE = 12, GEOMETRY = 16, PAD = 28, SIZE = 32, SPILL = 48 };
    cf_segment *seg = create(&tiny);
    char bytes[4096];
    CHECK_EQUAL(cf_segment_read(seg, 0, bytes, sizeof bytes), CF_OK);
    CHECK_EQUAL(attach_bytes(bytes, sizeof bytes, seg->bytes), CF_OK);
    CHECK_EQUAL(attach_bytes(bytes, sizeof bytes, seg->bytes - 1), CF_CORRUPT);
    for (int at = 0; at < SPILL; at++) {
        if (at >= PAD && at < SIZE) {
            continue;
        }
        for (int bit = 0; bit < 8; bit++) {
            bytes[at] ^= (char)(1 << bit);
            cf_status status = attach_bytes(bytes, sizeof bytes, seg->file.length);
            if (at >= GEOMETRY + 4 && at < GEOMETRY + 8) {
                /* A few workers more may fit into the same page. */
                CHECK(status == CF_OK || status == CF_CORRUPT);
            }
            else {
                CHECK_EQUAL(status, CF_CORRUPT);
            }
            bytes[at] ^= (char)(1 << bit);
        }
    }
    cf_segment_decref(seg);
}

/* ---- references, descriptors ---- */

static bool
is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static bool
is_mapped(const char *base)
{
    unsigned char in_core;
    return mincore((void *)base, 1, &in_core) == 0;
}

static void
the_last_reference_unmaps_and_closes(void)
{
    cf_segment *seg = create(&tiny);
    int fd = seg->fd;
    char *base = seg->base;
    cf_segment_incref(seg);
    cf_segment_incref(seg);
    cf_segment_decref(seg);
    cf_segment_decref(seg);
    CHECK(is_open(fd) && is_mapped(base));
    cf_segment_decref(seg);
    CHECK(!is_open(fd));
    CHECK(!is_mapped(base));
}

static void *
come_and_go(void *arg)
{
    cf_segment *seg = arg;
    for (int i = rounds(20000); i > 0; i--) {
        cf_segment_incref(seg);
        CHECK_EQUAL(*(char *)cf_segment_at(seg, seg->slots), 'x');
        cf_segment_decref(seg);
    }
    cf_segment_decref(seg);
    return NULL;
}

static void
threads_share_references(void)
{
    cf_segment *seg = create(&tiny);
    int fd = seg->fd;
    *(char *)cf_segment_at(seg, seg->slots) = 'x';
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        cf_segment_incref(seg);
        threads[i] = start(come_and_go, seg);
    }
    cf_segment_decref(seg);
    for (int i = 0; i < 4; i++) {
        join(threads[i]);
    }
    CHECK(!is_open(fd));
}

/* A program that closes what is not its own, and then opens a file of its own. */
static void
a_descriptor_that_was_lost_is_noticed(void)
{
    cf_segment *seg = create(&tiny);
    uint64_t at = seg->arenas;
    char byte = 'x';
    CHECK_EQUAL(cf_segment_write(seg, at, &byte, 1), CF_OK);
    close(seg->fd);
    CHECK_EQUAL(cf_segment_write(seg, at, &byte, 1), CF_SYSTEM);
    CHECK_EQUAL(errno, EBADF);
    int other = memfd_create("the program's", MFD_CLOEXEC);
    CHECK_EQUAL(other, seg->fd);
    CHECK_EQUAL(write(other, "precious", 8), 8);
    cf_place place = {.where = CF_WHERE_SPILL, .offset = seg->bytes, .size = 1};
    CHECK_EQUAL(cf_segment_write(seg, 0, &byte, 1), CF_SYSTEM);
    CHECK_EQUAL(errno, EBADF);
    CHECK_EQUAL(cf_segment_read(seg, 0, &byte, 1), CF_SYSTEM);
    CHECK_EQUAL(errno, EBADF);
    CHECK_EQUAL(cf_segment_discard(seg, 0, cf_shm_page()), CF_SYSTEM);
    CHECK_EQUAL(errno, EBADF);
    CHECK_EQUAL(cf_spill_write(seg, &byte, 1, &place), CF_SYSTEM);
    CHECK_EQUAL(errno, EBADF);
    CHECK_EQUAL(*(char *)cf_segment_at(seg, at), 'x');
    cf_segment_decref(seg);
    char back[9] = "";
    CHECK(is_open(other));
    CHECK_EQUAL(lseek(other, 0, SEEK_END), 8);
    CHECK_EQUAL(pread(other, back, 8, 0), 8);
    CHECK_EQUAL(strcmp(back, "precious"), 0);
    close(other);
}

/* ---- spills ---- */

static void
spills_come_back_as_they_were(void)
{
    cf_segment *seg = create(&tiny), *view;
    CHECK_EQUAL(cf_segment_attach(seg->fd, &view), CF_OK);
    const uint64_t sizes[] = {0, 1, 4095, 4096, 4097, 3 * MIB + 5};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    uint64_t before = memory_of(seg->fd);
    cf_place places[COUNT];
    char *data = malloc(4 * MIB), *back = malloc(4 * MIB);
    for (int i = 0; i < COUNT; i++) {
        memset(data, 'a' + i, sizes[i]);
        CHECK_EQUAL(cf_spill_write(seg, data, sizes[i], &places[i]), CF_OK);
        CHECK_EQUAL(places[i].size, sizes[i]);
        CHECK_EQUAL(places[i].where, CF_WHERE_SPILL);
        CHECK(cf_place_valid(view, &places[i]));
    }
    CHECK(memory_of(seg->fd) >= before + 3 * MIB);
    for (int i = 0; i < COUNT; i++) {
        memset(data, 'a' + i, sizes[i]);
        CHECK_EQUAL(cf_spill_read(view, &places[i], back), CF_OK);
        CHECK_EQUAL(memcmp(data, back, sizes[i]), 0);
        cf_spill_free(view, &places[i]);
    }
    CHECK_EQUAL(memory_of(seg->fd), before);
    free(data);
    free(back);
    cf_segment_decref(view);
    cf_segment_decref(seg);
}

typedef struct {
    cf_segment *seg;
    uint32_t name;
} spiller;

static int
spill_and_read(cf_segment *seg, uint32_t name, prng *r)
{
    enum { AT_ONCE = 8, WORDS = 3000 };
    cf_place places[AT_ONCE];
    uint32_t data[WORDS], back[WORDS], bad = 0;
    for (int round = rounds(100); round > 0; round--) {
        for (uint32_t i = 0; i < AT_ONCE; i++) {
            uint32_t words = prng_below(r, WORDS);
            for (uint32_t k = 0; k < words; k++) {
                data[k] = name * 1000 + i;
            }
            bad += cf_spill_write(seg, data, words * 4, &places[i]) != CF_OK;
        }
        for (uint32_t i = 0; i < AT_ONCE; i++) {
            bad += cf_spill_read(seg, &places[i], back) != CF_OK;
            for (uint32_t k = 0; k < places[i].size / 4; k++) {
                bad += back[k] != name * 1000 + i;
            }
            cf_spill_free(seg, &places[i]);
        }
    }
    return bad != 0;
}

static void *
spill(void *arg)
{
    spiller *s = arg;
    prng r = prng_new();
    CHECK_EQUAL(spill_and_read(s->seg, s->name, &r), 0);
    return NULL;
}

static void
threads_and_processes_spill_at_once(void)
{
    cf_segment *seg = create(&tiny);
    uint64_t before = memory_of(seg->fd);
    fflush(NULL);
    pid_t children[2];
    for (uint32_t i = 0; i < 2; i++) {
        prng r = prng_new();
        children[i] = fork();
        if (children[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            cf_segment *view;
            _exit(cf_segment_attach(seg->fd, &view) != CF_OK
                  || spill_and_read(view, i, &r) != 0);
        }
    }
    spiller spillers[3];
    pthread_t threads[3];
    for (uint32_t i = 0; i < 3; i++) {
        spillers[i] = (spiller){seg, 10 + i};
        threads[i] = start(spill, &spillers[i]);
    }
    for (int i = 0; i < 3; i++) {
        join(threads[i]);
    }
    for (int i = 0; i < 2; i++) {
        int status = -1;
        CHECK_EQUAL(waitpid(children[i], &status, 0), children[i]);
        CHECK_EQUAL(status, 0);
    }
    CHECK_EQUAL(memory_of(seg->fd), before);
    cf_segment_decref(seg);
}

static void
what_is_no_spill_is_neither_read_nor_given_back(void)
{
    cf_segment *seg = create(&tiny);
    uint64_t page = cf_shm_page(), end = seg->file.length;
    char byte = 'x';
    CHECK_EQUAL(cf_segment_write(seg, seg->arenas, &byte, 1), CF_OK);
    uint64_t before = memory_of(seg->fd);
    const cf_place bad[] = {
        {seg->arenas, page, CF_WHERE_SPILL, 0}, {0, page, CF_WHERE_SPILL, 0},
        {0, UINT64_MAX, CF_WHERE_SPILL, 0}, {seg->arenas, end, CF_WHERE_SPILL, 0},
        {seg->bytes - page, 2 * page, CF_WHERE_SPILL, 0},
        {seg->bytes + 1, 1, CF_WHERE_SPILL, 0}, {end + page, 1, CF_WHERE_SPILL, 0},
        {end - page, page + 1, CF_WHERE_SPILL, 0}, {seg->bytes, end, CF_WHERE_SPILL, 0},
        {end, 1, CF_WHERE_SPILL, 0}, {UINT64_MAX / page * page, page, CF_WHERE_SPILL, 0},
        {seg->bytes, UINT64_MAX, CF_WHERE_SPILL, 0},
        {seg->bytes, UINT64_MAX - seg->bytes + 2, CF_WHERE_SPILL, 0},
        {seg->bytes, page, CF_WHERE_INLINE, 0}, {seg->bytes, page, 1, 0}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char back[1];
        CHECK(!cf_place_valid(seg, &bad[i]));
        CHECK_EQUAL(cf_spill_read(seg, &bad[i], back), CF_CORRUPT);
        cf_spill_free(seg, &bad[i]);
    }
    CHECK_EQUAL(memory_of(seg->fd), before);
    CHECK_EQUAL(*(char *)cf_segment_at(seg, seg->arenas), 'x');
    cf_segment_decref(seg);
}

static void
a_scribbled_cursor_is_no_room(void)
{
    enum { SPILL = 48 };
    cf_segment *seg = create(&tiny);
    const uint64_t cursors[] = {0, 1, seg->arenas, seg->bytes - 4096, seg->bytes + 1,
                                seg->file.length, UINT64_MAX - 4095, UINT64_MAX};
    for (size_t i = 0; i < sizeof cursors / sizeof *cursors; i++) {
        memcpy(cf_segment_at(seg, SPILL), &cursors[i], sizeof *cursors);
        cf_place place;
        errno = 0;
        CHECK_EQUAL(cf_spill_write(seg, "x", 1, &place), CF_SYSTEM);
        CHECK_EQUAL(errno, ENOSPC);
    }
    cf_place place;
    memcpy(cf_segment_at(seg, SPILL), &seg->bytes, sizeof seg->bytes);
    CHECK_EQUAL(cf_spill_write(seg, "x", UINT64_MAX, &place), CF_SYSTEM);
    CHECK_EQUAL(errno, ENOSPC);
    CHECK_EQUAL(cf_spill_write(seg, "x", 1, &place), CF_OK);
    CHECK_EQUAL(place.offset, seg->bytes);
    cf_segment_decref(seg);
}

/* ---- places in arenas ---- */

static void
places_outside_their_block_are_corrupt(void)
{
    cf_segment *seg = create(&tiny), *view;
    CHECK_EQUAL(cf_segment_attach(seg->fd, &view), CF_OK);
    cf_arena *arena = NULL;
    CHECK_EQUAL(cf_arena_open(seg, 2, &arena), CF_OK);
    cf_place good, other;
    bool warm;
    CHECK_EQUAL(cf_arena_alloc(arena, 1000, &good, &warm), CF_OK);
    CHECK_EQUAL(cf_arena_alloc(arena, 1000, &other, &warm), CF_OK);
    uint64_t room = cf_arena_room(arena, good.block);
    CHECK(cf_place_valid(view, &good));
    cf_place place = good;
    place.size = room;
    CHECK(cf_place_valid(view, &place));
    place.offset += room;
    place.size = 0;
    CHECK(cf_place_valid(view, &place));
#define CORRUPT(field, value) \
    do { \
        place = good; \
        place.field = (value); \
        CHECK(!cf_place_valid(view, &place)); \
    } while (0)
    CORRUPT(size, room + 1);
    CORRUPT(size, UINT64_MAX);
    CORRUPT(size, UINT64_MAX - good.offset + 1);
    CORRUPT(offset, good.offset - 1);
    CORRUPT(offset, good.offset + room - 999);
    CORRUPT(offset, other.offset);
    CORRUPT(offset, 0);
    CORRUPT(offset, UINT64_MAX);
    CORRUPT(offset, UINT64_MAX - 999);
    CORRUPT(offset, seg->bytes);
    CORRUPT(where, CF_WHERE_INLINE);
    CORRUPT(where, CF_WHERE_SPILL);
    CORRUPT(where, good.where + 1);
    CORRUPT(where, good.where - 1);
    CORRUPT(where, tiny.arenas + 1);
    CORRUPT(where, CF_WHERE_SPILL - 1);
    CORRUPT(block, other.block);
    CORRUPT(block, good.block + 2);
    CORRUPT(block, seg->arena_blocks - 1);
    CORRUPT(block, seg->arena_blocks);
    CORRUPT(block, UINT32_MAX);
#undef CORRUPT
    cf_arena_free(arena, good.block);
    CHECK(!cf_place_valid(view, &good));
    cf_arena_close(arena);
    cf_segment_decref(view);
    cf_segment_decref(seg);
}

/* Whatever is in the table: a place that is found valid is inside the arena's data. */
static void
a_scribbled_table_makes_no_place_outside(void)
{
    cf_segment *seg = create(&tiny);
    prng r = prng_new();
    const uint32_t edges[] = {0, 1, 2, 0x3fff, 0x4000, 0x7fffffff, 0x80000000u, UINT32_MAX,
                              (uint32_t)(seg->arena_data / 64), (uint32_t)(MIB / 64)};
    uint32_t valid = 0;
    for (int i = rounds(300000); i > 0; i--) {
        uint32_t number = prng_below(&r, tiny.arenas);
        cf_place place = {.where = number + 1, .block = prng_below(&r, seg->arena_blocks)};
        cf_block *block = cf_arena_table(seg, number) + place.block;
        cf_word *fields[] = {&block->word, &block->next, &block->at, &block->room};
        for (int k = 0; k < 4; k++) {
            uint32_t value = edges[prng_below(&r, sizeof edges / sizeof *edges)];
            cf_store_relaxed(fields[k], value + prng_below(&r, 5) - 2);
        }
        uint64_t begin = cf_arena_offset(seg, number);
        uint64_t near[] = {begin, begin + seg->arena_data, begin + MIB, 0, UINT64_MAX};
        place.offset = near[prng_below(&r, 5)] + prng_below(&r, 300) * 64 - 150 * 64;
        place.size = prng_below(&r, 3) == 0 ? near[prng_below(&r, 5)] : prng_below(&r, 9999);
        if (cf_place_valid(seg, &place)) {
            valid++;
            CHECK(place.offset >= begin + seg->arena_data
                  && place.offset <= begin + MIB
                  && place.size <= begin + MIB - place.offset);
        }
    }
    CHECK(valid > 0);
    cf_segment_decref(seg);
}

int
main(void)
{
    RUN(all_parts_have_their_room);
    RUN(the_usual_size);
    RUN(senseless_geometries_are_refused);
    RUN(where_address_space_is_short_it_is_smaller);
    RUN(where_files_are_limited_it_is_smaller);
    RUN(no_descriptors_are_an_error);
    RUN(an_attached_one_is_the_same);
    RUN(another_process_attaches);
    RUN(a_fork_disowns_all_whatever_other_threads_do);
    RUN(foreign_files_are_corrupt);
    RUN(every_altered_header_is_corrupt);
    RUN(the_last_reference_unmaps_and_closes);
    RUN(threads_share_references);
    RUN(a_descriptor_that_was_lost_is_noticed);
    RUN(spills_come_back_as_they_were);
    RUN(threads_and_processes_spill_at_once);
    RUN(what_is_no_spill_is_neither_read_nor_given_back);
    RUN(a_scribbled_cursor_is_no_room);
    RUN(places_outside_their_block_are_corrupt);
    RUN(a_scribbled_table_makes_no_place_outside);
    return finish_tests();
}
