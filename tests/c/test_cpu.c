/* plat/cpu.h: affinity, control groups, and how much runs.

   The file is compiled in here with the two calls by which it looks at the machine
   replaced, so that it sees a machine that each test describes. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "check.h"
#include "plat/cpu.h"

/* ---- the machine ---- */

typedef struct {
    const char *path, *text;
} fake_file;

static const fake_file *files;           /* to one without a path */
static int machine_cpus;            /* in the affinity mask */
static int mask_size;               /* bits that the kernel insists on */

static FILE *
fake_fopen(const char *path, const char *mode)
{
    (void)mode;
    for (const fake_file *f = files; f->path != NULL; f++) {
        if (strcmp(f->path, path) == 0) {
            return fmemopen((void *)(uintptr_t)f->text, strlen(f->text), "r");
        }
    }
    errno = ENOENT;
    return NULL;
}

static int
fake_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    (void)pid;
    if (size * 8 < (size_t)mask_size) {
        errno = EINVAL;
        return -1;
    }
    memset(set, 0, size);
    for (int i = 0; i < machine_cpus; i++) {
        /* not the first ones */
        CPU_SET_S((size_t)(mask_size - 1 - i), size, set);
    }
    return 0;
}

int fake_cpu_count(void);
bool fake_cpu_may_be_free(void);

#define cf_cpu_count fake_cpu_count
#define cf_cpu_may_be_free fake_cpu_may_be_free
#define fopen fake_fopen
#define sched_getaffinity fake_getaffinity
#include "../../csrc/plat/cpu_linux.c"
#undef cf_cpu_count
#undef cf_cpu_may_be_free
#undef fopen
#undef sched_getaffinity

static void
machine(int cpus, const fake_file *the_files)
{
    machine_cpus = cpus;
    mask_size = CPU_SETSIZE;
    files = the_files;
}

static int
count_on(int cpus, const fake_file *the_files)
{
    machine(cpus, the_files);
    return fake_cpu_count();
}

#define FILES(...) ((const fake_file[]){__VA_ARGS__, {NULL, NULL}})

/* ---- affinity ---- */

static void
without_control_groups_affinity_counts(void)
{
    static const fake_file none[] = {{NULL, NULL}};
    CHECK_EQUAL(count_on(1, none), 1);
    CHECK_EQUAL(count_on(6, none), 6);
}

static void
a_machine_with_more_processors_than_a_cpu_set(void)
{
    static const fake_file none[] = {{NULL, NULL}};
    machine_cpus = 3000;
    mask_size = 8192;
    files = none;
    CHECK_EQUAL(fake_cpu_count(), 3000);
}

/* ---- control groups, version 2 ---- */

#define V2 "/sys/fs/cgroup"

static void
a_quota_is_rounded_up(void)
{
    CHECK_EQUAL(count_on(8, FILES({"/proc/self/cgroup", "0::/\n"},
                                  {V2 "/cpu.max", "200000 100000\n"})), 2);
    CHECK_EQUAL(count_on(8, FILES({"/proc/self/cgroup", "0::/\n"},
                                  {V2 "/cpu.max", "200001 100000\n"})), 3);
    CHECK_EQUAL(count_on(8, FILES({"/proc/self/cgroup", "0::/\n"},
                                  {V2 "/cpu.max", "1000 100000\n"})), 1);
}

static void
no_quota_and_a_generous_one_limit_nothing(void)
{
    CHECK_EQUAL(count_on(8, FILES({"/proc/self/cgroup", "0::/\n"},
                                  {V2 "/cpu.max", "max 100000\n"})), 8);
    CHECK_EQUAL(count_on(2, FILES({"/proc/self/cgroup", "0::/\n"},
                                  {V2 "/cpu.max", "800000 100000\n"})), 2);
    CHECK_EQUAL(count_on(8, FILES({"/proc/self/cgroup", "0::/a/b\n"})), 8);
}

static void
the_tightest_ancestor_counts(void)
{
    const fake_file group[] = {
        {"/proc/self/cgroup", "0::/user.slice/job.scope\n"},
        {V2 "/user.slice/job.scope/cpu.max", "600000 100000\n"},
        {V2 "/user.slice/cpu.max", "300000 100000\n"},
        {V2 "/cpu.max", "500000 100000\n"},
        {NULL, NULL}};
    CHECK_EQUAL(count_on(8, group), 3);
    CHECK_EQUAL(count_on(2, group), 2);
}

/* A container sees its own group as the root of the mount, but without a namespace of
   its own /proc names the path outside. */
static void
a_path_that_is_not_mounted_falls_back_to_the_root(void)
{
    CHECK_EQUAL(count_on(8, FILES({"/proc/self/cgroup", "0::/docker/0123abc\n"},
                                  {V2 "/cpu.max", "200000 100000\n"})), 2);
    CHECK_EQUAL(count_on(8, FILES({"/proc/self/cgroup", "0::/../sibling\n"},
                                  {V2 "/cpu.max", "200000 100000\n"})), 2);
}

static void
nonsense_limits_nothing(void)
{
    static const char *const texts[] = {
        "", "\n", "max\n", "200000\n", "-5 100000\n", "200000 0\n", "200000 -1\n", "x y\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        /* fmemopen() takes no empty buffer: that file is not there at all. */
        const char *path = *texts[i] ? V2 "/cpu.max" : "/nowhere";
        CHECK_EQUAL(count_on(4, FILES({"/proc/self/cgroup", "0::/\n"},
                                      {path, texts[i]})), 4);
    }
    CHECK_EQUAL(count_on(4, FILES({"/proc/self/cgroup", "no colons here\n:\n1:\n"})), 4);
}

static void
a_path_too_long_to_look_at_limits_nothing(void)
{
    static char line[6000] = "0::/";
    memset(line + 4, 'a', sizeof line - 6);
    CHECK_EQUAL(count_on(4, FILES({"/proc/self/cgroup", line})), 4);
}

/* ---- control groups, version 1 ---- */

#define V1 "/sys/fs/cgroup/cpu"

static void
version_one_is_found_among_its_controllers(void)
{
    static const char *const lines[] = {
        "12:cpuset:/x\n4:cpu,cpuacct:/job\n0::/\n",
        "4:cpuacct,cpu:/job\n",
        "4:a,cpu,b:/job\n",
        "4:cpu:/job\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        CHECK_EQUAL(count_on(8, FILES({"/proc/self/cgroup", lines[i]},
                                      {V1 "/job/cpu.cfs_quota_us", "250000\n"},
                                      {V1 "/job/cpu.cfs_period_us", "100000\n"})), 3);
    }
}

static void
other_controllers_do_not_count(void)
{
    CHECK_EQUAL(count_on(8, FILES({"/proc/self/cgroup", "4:cpuset:/job\n1:name=cpu:/job\n"},
                                  {V1 "/job/cpu.cfs_quota_us", "250000\n"},
                                  {V1 "/job/cpu.cfs_period_us", "100000\n"})), 8);
}

static void
version_one_without_a_quota(void)
{
    CHECK_EQUAL(count_on(8, FILES({"/proc/self/cgroup", "4:cpu:/job\n"},
                                  {V1 "/job/cpu.cfs_quota_us", "-1\n"},
                                  {V1 "/job/cpu.cfs_period_us", "100000\n"})), 8);
    CHECK_EQUAL(count_on(8, FILES({"/proc/self/cgroup", "4:cpu:/job\n"},
                                  {V1 "/job/cpu.cfs_quota_us", "100000\n"})), 8);
    CHECK_EQUAL(count_on(8, FILES({"/proc/self/cgroup", "4:cpu:/job\n"},
                                  {V1 "/cpu.cfs_quota_us", "100000\n"},
                                  {V1 "/cpu.cfs_period_us", "100000\n"})), 1);
}

/* ---- how much runs ---- */

static bool
may_be_free(int cpus, const fake_file *the_files)
{
    machine(cpus, the_files);
    return fake_cpu_may_be_free();
}

static void
processors_are_taken_by_more_threads_than_there_are(void)
{
    CHECK(may_be_free(2, FILES({"/proc/loadavg", "0.20 0.18 0.12 1/80 11206\n"})));
    CHECK(may_be_free(2, FILES({"/proc/loadavg", "0.20 0.18 0.12 2/80 11206\n"})));
    CHECK(!may_be_free(2, FILES({"/proc/loadavg", "0.20 0.18 0.12 3/80 11206\n"})));
    CHECK(may_be_free(16, FILES({"/proc/loadavg", "11.0 9.00 8.00 16/900 7\n"})));
    CHECK(!may_be_free(16, FILES({"/proc/loadavg", "11.0 9.00 8.00 117/900 7\n"})));
}

static void
only_processor_is_the_caller_s(void)
{
    CHECK(!may_be_free(1, FILES({"/proc/loadavg", "0.20 0.18 0.12 1/80 11206\n"})));
    CHECK(!may_be_free(1, FILES({"/nowhere", "x"})));
}

static void
processor_may_be_free_where_nothing_is_told(void)
{
    CHECK(may_be_free(2, FILES({"/nowhere", "x"})));
    CHECK(may_be_free(2, FILES({"/proc/loadavg", "0.20 0.18\n"})));
    CHECK(may_be_free(2, FILES({"/proc/loadavg", "\n"})));
}

/* ---- this machine, through the real thing ---- */

static void
a_narrower_affinity_is_seen_at_once(void)
{
    cpu_set_t all, one;
    int before = cf_cpu_count();
    CHECK(before >= 1);
    if (!CHECK(sched_getaffinity(0, sizeof all, &all) == 0)) {
        return;
    }
    CHECK(before <= CPU_COUNT(&all));
    int first = 0;
    while (!CPU_ISSET(first, &all)) {
        first++;
    }
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    CHECK_EQUAL(sched_setaffinity(0, sizeof one, &one), 0);
    CHECK_EQUAL(cf_cpu_count(), 1);
    CHECK_EQUAL(sched_setaffinity(0, sizeof all, &all), 0);
    CHECK_EQUAL(cf_cpu_count(), before);
}

int
main(void)
{
    RUN(without_control_groups_affinity_counts);
    RUN(a_machine_with_more_processors_than_a_cpu_set);
    RUN(a_quota_is_rounded_up);
    RUN(no_quota_and_a_generous_one_limit_nothing);
    RUN(the_tightest_ancestor_counts);
    RUN(a_path_that_is_not_mounted_falls_back_to_the_root);
    RUN(nonsense_limits_nothing);
    RUN(a_path_too_long_to_look_at_limits_nothing);
    RUN(version_one_is_found_among_its_controllers);
    RUN(other_controllers_do_not_count);
    RUN(version_one_without_a_quota);
    RUN(processors_are_taken_by_more_threads_than_there_are);
    RUN(only_processor_is_the_caller_s);
    RUN(processor_may_be_free_where_nothing_is_told);
    RUN(a_narrower_affinity_is_seen_at_once);
    return finish_tests();
}
