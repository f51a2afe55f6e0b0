#include "plat/clock.h"

#include <time.h>

static int64_t
read_clock(clockid_t which)
{
    struct timespec ts;
    clock_gettime(which, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t
cf_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t
cf_now_coarse(void)
{
    return read_clock(CLOCK_MONOTONIC_COARSE);
}

uint32_t
cf_now_stamp(void)
{
    uint32_t stamp = (uint32_t)(cf_now_coarse() / 1000000);
    return stamp == 0 ? 1 : stamp;
}
