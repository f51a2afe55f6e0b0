/* Quotas: cgroup v2 has "cpu.max" in every group up to the root ("QUOTA PERIOD" or
   "max PERIOD"), v1 has cpu.cfs_quota_us and cpu.cfs_period_us; see cgroups(7) and
   the kernel's admin-guide/cgroup-v2.  The tightest of the ancestors counts.

   Threads that run: /proc/loadavg, "0.20 0.18 0.12 RUNNING/ALL ...", see proc(5). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "plat/cpu.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE 4096

static int
affinity_count(void)
{
    /* The mask of a machine with more than CPU_SETSIZE processors needs a larger
       buffer; sched_getaffinity says EINVAL until it is large enough. */
    for (int cpus = CPU_SETSIZE; cpus <= (1 << 20); cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC(cpus);
        if (set == NULL) {
            return 1;
        }
        size_t size = CPU_ALLOC_SIZE(cpus);
        int count = -1;
        if (sched_getaffinity(0, size, set) == 0) {
            count = CPU_COUNT_S(size, set);
        }
        else if (errno != EINVAL) {
            count = 1;
        }
        CPU_FREE(set);
        if (count > 0) {
            return count;
        }
    }
    return 1;
}

static bool
read_line(const char *path, char *buffer, int size)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    bool ok = fgets(buffer, size, file) != NULL;
    fclose(file);
    return ok;
}

/* The quota as a number of processors, rounded up; 0 where there is none. */
static int
quota_cpus(long long quota, long long period)
{
    if (quota <= 0 || period <= 0) {
        return 0;
    }
    return (int)((quota + period - 1) / period);
}

static int
v2_limit(const char *dir)
{
    char path[PATH_SIZE + 64], line[128];
    long long quota, period;
    snprintf(path, sizeof path, "%s/cpu.max", dir);
    if (!read_line(path, line, sizeof line)
        || sscanf(line, "%lld %lld", &quota, &period) != 2)
    {
        return 0;
    }
    return quota_cpus(quota, period);
}

static int
v1_limit(const char *dir)
{
    char path[PATH_SIZE + 64], line[128];
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", dir);
    if (!read_line(path, line, sizeof line)) {
        return 0;
    }
    long long quota = atoll(line);
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", dir);
    if (!read_line(path, line, sizeof line)) {
        return 0;
    }
    return quota_cpus(quota, atoll(line));
}

/* The tightest limit of a group and its ancestors, whose files lie under `mount`. */
static int
tightest(const char *mount, const char *group, int (*limit)(const char *dir))
{
    char dir[PATH_SIZE];
    int best = 0;
    if (snprintf(dir, sizeof dir, "%s%s", mount, group) >= (int)sizeof dir) {
        return 0;
    }
    size_t root = strlen(mount);
    for (;;) {
        int cpus = limit(dir);
        if (cpus > 0 && (best == 0 || cpus < best)) {
            best = cpus;
        }
        char *slash = strrchr(dir, '/');
        if (strlen(dir) <= root || slash == NULL) {
            return best;
        }
        *slash = '\0';
        if ((size_t)(slash - dir) < root) {
            return best;
        }
    }
}

static int
cgroup_count(void)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (file == NULL) {
        return 0;
    }
    char line[PATH_SIZE];
    int best = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        /* hierarchy:controllers:path, where v2 is "0::path" */
        char *controllers = strchr(line, ':');
        char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (group == NULL) {
            continue;
        }
        *group++ = '\0';
        controllers++;
        int cpus = 0;
        if (*controllers == '\0') {
            cpus = tightest("/sys/fs/cgroup", group, v2_limit);
        }
        else if (strcmp(controllers, "cpu") == 0
                 || strncmp(controllers, "cpu,", 4) == 0
                 || strstr(controllers, ",cpu,") != NULL
                 || (strlen(controllers) > 4
                     && strcmp(controllers + strlen(controllers) - 4, ",cpu") == 0))
        {
            cpus = tightest("/sys/fs/cgroup/cpu", group, v1_limit);
        }
        if (cpus > 0 && (best == 0 || cpus < best)) {
            best = cpus;
        }
    }
    fclose(file);
    return best;
}

int
cf_cpu_count(void)
{
    int cpus = affinity_count();
    int quota = cgroup_count();
    if (quota > 0 && quota < cpus) {
        cpus = quota;
    }
    return cpus < 1 ? 1 : cpus;
}

bool
cf_cpu_may_be_free(void)
{
    char line[128];
    int running, cpus = affinity_count();
    return cpus > 1
        && (!read_line("/proc/loadavg", line, sizeof line)
            || sscanf(line, "%*s %*s %*s %d/", &running) != 1
            || running <= cpus);
}
