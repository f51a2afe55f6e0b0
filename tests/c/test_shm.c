/* plat/shm.h: memory that processes share. */
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
#include "plat/shm.h"

#define MIB ((uint64_t)1 << 20)

static uint64_t page;

static int
create(void)
{
    int fd = -1;
    CHECK_EQUAL(cf_shm_create(&fd), CF_OK);
    return fd;
}

static char *
map(int fd, size_t bytes)
{
    void *at = NULL;
    if (cf_shm_map(fd, bytes, &at) != CF_OK) {
        perror("cf_shm_map");
        abort();
    }
    return at;
}

static uint64_t
length_of(int fd)
{
    cf_shm_identity identity = {0, 0, 0};
    CHECK_EQUAL(cf_shm_identify(fd, &identity), CF_OK);
    return identity.length;
}

static uint64_t
memory_of(int fd)
{
    struct stat st;
    CHECK_EQUAL(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* Run `body` in a child, where it may limit what it likes; its status. */
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

static void
limit(int what, rlim_t to)
{
    struct rlimit l = {to, RLIM_INFINITY};
    getrlimit(what, &l);
    l.rlim_cur = to;
    setrlimit(what, &l);
}

/* ---- the file ---- */

static void
a_new_one_is_long_and_empty(void)
{
    int fd = create();
    CHECK(length_of(fd) >= (uint64_t)1 << 40);
    CHECK_EQUAL(memory_of(fd), 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
}

static void
it_cannot_be_executed(void)
{
    int fd = create(), probe = memfd_create("probe", MFD_CLOEXEC | 8 /* MFD_NOEXEC_SEAL */);
    if (probe < 0) {
        printf("    skipped: this kernel cannot say so\n");
    }
    else {
        struct stat st;
        CHECK_EQUAL(fstat(fd, &st), 0);
        CHECK_EQUAL(st.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH), 0);
        close(probe);
    }
    close(fd);
}

static void
its_length_cannot_be_changed(void)
{
    int fd = create();
    uint64_t length = length_of(fd);
    CHECK_EQUAL(ftruncate(fd, 0), -1);
    CHECK_EQUAL(ftruncate(fd, (off_t)length + 4096), -1);
    CHECK_EQUAL(length_of(fd), length);
    close(fd);
}

static void
who_it_is(void)
{
    cf_shm_identity a, b;
    int fd = create(), same = dup(fd), other = create(), ends[2];
    CHECK_EQUAL(cf_shm_identify(fd, &a), CF_OK);
    CHECK_EQUAL(cf_shm_identify(same, &b), CF_OK);
    CHECK(a.device == b.device && a.inode == b.inode);
    CHECK_EQUAL(cf_shm_identify(other, &b), CF_OK);
    CHECK(a.device != b.device || a.inode != b.inode);
    CHECK_EQUAL(pipe(ends), 0);
    CHECK_EQUAL(length_of(ends[0]), 0);
    close(ends[0]);
    close(ends[1]);
    close(other);
    close(same);
    close(fd);
}

static int
with_a_file_limit_of_8_mib(void)
{
    /* SIGXFSZ is not ignored here: it would kill. */
    limit(RLIMIT_FSIZE, 8 * MIB + 12345);
    int fd;
    if (cf_shm_create(&fd) != CF_OK) {
        return 2;
    }
    uint64_t length = length_of(fd);
    return length == 8 * MIB ? 0 : 3;
}

static int
with_no_files_at_all(void)
{
    limit(RLIMIT_FSIZE, 4096);
    int fd = 7;
    return cf_shm_create(&fd) == CF_SYSTEM && errno == EFBIG && fd == -1 ? 0 : 2;
}

static int
without_descriptors(void)
{
    limit(RLIMIT_NOFILE, 3);
    int fd;
    return cf_shm_create(&fd) == CF_SYSTEM && errno == EMFILE ? 0 : 2;
}

static void
limits_shorten_it_or_are_reported(void)
{
    CHECK_EQUAL(in_child(with_a_file_limit_of_8_mib), 0);
    CHECK_EQUAL(in_child(with_no_files_at_all), 0);
    CHECK_EQUAL(in_child(without_descriptors), 0);
}

/* ---- mappings ---- */

static void
mappings_show_the_same_memory(void)
{
    int fd = create();
    char *a = map(fd, 64 * page), *b = map(fd, 8 * page);
    CHECK(a != b);
    strcpy(a + 3 * page, "from the first");
    CHECK_EQUAL(strcmp(b + 3 * page, "from the first"), 0);
    CHECK_EQUAL(memory_of(fd), page);
    cf_shm_unmap(a, 64 * page);
    CHECK_EQUAL(strcmp(b + 3 * page, "from the first"), 0);
    close(fd);                          /* the mapping keeps the memory */
    CHECK_EQUAL(strcmp(b + 3 * page, "from the first"), 0);
    cf_shm_unmap(b, 8 * page);
}

static void
another_process_sees_it(void)
{
    int fd = create();
    char *a = map(fd, page);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        void *own;
        bool ok = cf_shm_map(fd, page, &own) == CF_OK;
        if (ok) {
            strcpy(own, "from the child");
        }
        _exit(!ok);
    }
    int status = -1;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(strcmp(a, "from the child"), 0);
    cf_shm_unmap(a, page);
    close(fd);
}

static void
terabytes_can_be_mapped_and_are_not_dumped(void)
{
    int fd = create();
    uint64_t bytes = MIB << 20;
    void *at;
    if (cf_shm_map(fd, bytes, &at) != CF_OK) {
        CHECK_EQUAL(errno, ENOMEM);
        printf("    skipped: the address space is limited here\n");
        close(fd);
        return;
    }
    ((char *)at)[bytes - 1] = 1;
    CHECK_EQUAL(memory_of(fd), page);
    char line[512], range[64];
    bool inside = false, dumped = true;
    snprintf(range, sizeof range, "%lx-", (unsigned long)at);
    FILE *smaps = fopen("/proc/self/smaps", "r");
    while (smaps != NULL && fgets(line, sizeof line, smaps) != NULL) {
        if (strncmp(line, range, strlen(range)) == 0) {
            inside = true;
        }
        else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            dumped = strstr(line, " dd") == NULL;
            break;
        }
    }
    if (smaps != NULL) {
        fclose(smaps);
    }
    CHECK(inside && !dumped);
    cf_shm_unmap(at, bytes);
    close(fd);
}

static void
what_cannot_be_mapped_is_an_error(void)
{
    int fd = create(), ends[2];
    void *at;
    CHECK_EQUAL(cf_shm_map(fd, (size_t)1 << 62, &at), CF_SYSTEM);
    CHECK_EQUAL(errno, ENOMEM);
    CHECK_EQUAL(pipe(ends), 0);
    CHECK_EQUAL(cf_shm_map(ends[0], page, &at), CF_SYSTEM);
    close(ends[0]);
    close(ends[1]);
    close(fd);
}

/* ---- through the file ---- */

static void
the_file_and_the_mapping_agree(void)
{
    int fd = create();
    size_t room = 40 * page;
    char *at = map(fd, room), *model = calloc(1, room), *copy = malloc(room);
    prng r = prng_new();
    for (int i = rounds(2000); i > 0; i--) {
        uint32_t offset = prng_below(&r, (uint32_t)room);
        uint32_t size = prng_below(&r, (uint32_t)room - offset + 1);
        if (prng_below(&r, 2)) {
            size %= 100;
        }
        memset(copy, (int)prng_below(&r, 256), size);
        memcpy(model + offset, copy, size);
        if (prng_below(&r, 2)) {
            CHECK_EQUAL(cf_shm_write(fd, offset, copy, size), CF_OK);
        }
        else {
            memcpy(at + offset, copy, size);
        }
        offset = prng_below(&r, (uint32_t)room);
        size = prng_below(&r, (uint32_t)room - offset + 1);
        CHECK_EQUAL(cf_shm_read(fd, offset, copy, size), CF_OK);
        CHECK_EQUAL(memcmp(copy, model + offset, size), 0);
    }
    CHECK_EQUAL(memcmp(at, model, room), 0);
    free(copy);
    free(model);
    cf_shm_unmap(at, room);
    close(fd);
}

static void
the_far_end_and_behind_it(void)
{
    int fd = create();
    uint64_t length = length_of(fd);
    char byte = 7;
    CHECK_EQUAL(cf_shm_write(fd, length - 1, &byte, 1), CF_OK);
    byte = 0;
    CHECK_EQUAL(cf_shm_read(fd, length - 1, &byte, 1), CF_OK);
    CHECK_EQUAL(byte, 7);
    CHECK_EQUAL(cf_shm_read(fd, length, &byte, 1), CF_SYSTEM);
    CHECK_EQUAL(errno, EIO);
    char two[2];
    CHECK_EQUAL(cf_shm_read(fd, length - 1, two, 2), CF_SYSTEM);
    CHECK_EQUAL(cf_shm_write(fd, length - 1, two, 2), CF_SYSTEM);
    CHECK_EQUAL(cf_shm_read(fd, UINT64_MAX, &byte, 1), CF_SYSTEM);
    CHECK_EQUAL(cf_shm_read(fd, 0, two, 0), CF_OK);
    close(fd);
}

static void
a_closed_descriptor_is_an_error_everywhere(void)
{
    int fd = create();
    close(fd);
    char byte = 0;
    void *at;
    cf_shm_identity identity;
    CHECK_EQUAL(cf_shm_map(fd, page, &at), CF_SYSTEM);
    CHECK_EQUAL(errno, EBADF);
    CHECK_EQUAL(cf_shm_write(fd, 0, &byte, 1), CF_SYSTEM);
    CHECK_EQUAL(errno, EBADF);
    CHECK_EQUAL(cf_shm_read(fd, 0, &byte, 1), CF_SYSTEM);
    CHECK_EQUAL(errno, EBADF);
    CHECK_EQUAL(cf_shm_discard(fd, 0, page), CF_SYSTEM);
    CHECK_EQUAL(errno, EBADF);
    CHECK_EQUAL(cf_shm_identify(fd, &identity), CF_SYSTEM);
    CHECK_EQUAL(errno, EBADF);
}

/* ---- memory comes and goes ---- */

static void
whole_pages_are_given_back_and_read_as_zeros(void)
{
    int fd = create();
    char *at = map(fd, 8 * page);
    memset(at, 'x', 8 * page);
    CHECK_EQUAL(memory_of(fd), 8 * page);
    CHECK_EQUAL(cf_shm_discard(fd, page + 1, 3 * page), CF_OK);      /* 2 and 3 are whole */
    CHECK_EQUAL(memory_of(fd), 6 * page);
    char *copy = malloc(8 * page);
    CHECK_EQUAL(cf_shm_read(fd, 0, copy, 8 * page), CF_OK);         /* makes no pages */
    for (uint64_t i = 0; i < 8 * page; i++) {
        if (copy[i] != (i / page == 2 || i / page == 3 ? 0 : 'x')) {
            CHECK_EQUAL(i, -1);
            break;
        }
    }
    CHECK_EQUAL(cf_shm_discard(fd, 5 * page + 1, page), CF_OK);      /* not a whole one */
    CHECK_EQUAL(cf_shm_discard(fd, 5 * page, page - 1), CF_OK);
    CHECK_EQUAL(cf_shm_discard(fd, 5 * page, 0), CF_OK);
    CHECK_EQUAL(memory_of(fd), 6 * page);
    at[2 * page + 1] = 'y';
    CHECK_EQUAL(at[2 * page], 0);
    CHECK_EQUAL(at[3 * page - 1], 0);
    CHECK_EQUAL(memory_of(fd), 7 * page);
    free(copy);
    cf_shm_unmap(at, 8 * page);
    close(fd);
}

static void
pages_are_made_in_one_step(void)
{
    int fd = create();
    char *at = map(fd, 64 * page);
    if (cf_shm_prefault(at + page + 5, 9 * page) != CF_OK) {
        CHECK_EQUAL(errno, EINVAL);
        printf("    skipped: this kernel has no MADV_POPULATE_WRITE\n");
    }
    else {
        CHECK_EQUAL(memory_of(fd), 10 * page);
        CHECK_EQUAL(at[5 * page], 0);
    }
    cf_shm_unmap(at, 64 * page);
    CHECK_EQUAL(cf_shm_prefault(at, page), CF_SYSTEM);
    close(fd);
}

int
main(void)
{
    page = cf_shm_page();
    RUN(a_new_one_is_long_and_empty);
    RUN(it_cannot_be_executed);
    RUN(its_length_cannot_be_changed);
    RUN(who_it_is);
    RUN(limits_shorten_it_or_are_reported);
    RUN(mappings_show_the_same_memory);
    RUN(another_process_sees_it);
    RUN(terabytes_can_be_mapped_and_are_not_dumped);
    RUN(what_cannot_be_mapped_is_an_error);
    RUN(the_file_and_the_mapping_agree);
    RUN(the_far_end_and_behind_it);
    RUN(a_closed_descriptor_is_an_error_everywhere);
    RUN(whole_pages_are_given_back_and_read_as_zeros);
    RUN(pages_are_made_in_one_step);
    return finish_tests();
}
