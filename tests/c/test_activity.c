/* base/activity.h: what the intervals of several add up to. */
#include <pthread.h>

#include "base/activity.h"
#include "check.h"
#include "plat/clock.h"

static void
intervals_that_overlap_count_once(void)
{
    cf_activity a = {0, 0};
    CHECK_EQUAL(cf_activity_total(&a, 100, 0), 0);
    cf_activity_begin(&a, 100);
    CHECK_EQUAL(cf_activity_total(&a, 130, 0), 30);
    cf_activity_begin(&a, 140);
    cf_activity_end(&a, 150);
    CHECK_EQUAL(cf_activity_total(&a, 160, 0), 60);
    cf_activity_end(&a, 170);
    CHECK_EQUAL(cf_activity_total(&a, 500, 0), 70);
    cf_activity_begin(&a, 600);
    cf_activity_end(&a, 605);
    CHECK_EQUAL(cf_activity_total(&a, 700, 0), 75);
}

static void
a_total_is_never_more_than_there_was(void)
{
    cf_activity a = {-1000, 1};
    CHECK_EQUAL(cf_activity_total(&a, 50, 20), 0);
    cf_activity b = {1000, 1};
    CHECK_EQUAL(cf_activity_total(&b, 50, 20), 30);
}

#define THREADS 4
static cf_activity shared;
static _Atomic int64_t now;

static void *
come_and_go(void *unused)
{
    for (int i = rounds(20000); i > 0; i--) {
        cf_activity_begin(&shared, atomic_fetch_add(&now, 1));
        cf_activity_end(&shared, atomic_fetch_add(&now, 1));
    }
    return unused;
}

static void
nothing_is_lost_however_they_cross(void)
{
    pthread_t threads[THREADS];
    atomic_store(&now, 1);
    cf_activity_begin(&shared, 0);      /* somebody is there all the time */
    for (int i = 0; i < THREADS; i++) {
        threads[i] = start(come_and_go, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        join(threads[i]);
    }
    int64_t end = atomic_load(&now);
    CHECK_EQUAL(cf_activity_total(&shared, end, 0), end);
    cf_activity_end(&shared, end);
    CHECK_EQUAL(cf_activity_total(&shared, end + 99, 0), end);
}

static void
a_stamp_is_never_0_and_does_not_go_back(void)
{
    uint32_t before = cf_now_stamp();
    for (int i = 0; i < 1000; i++) {
        uint32_t stamp = cf_now_stamp();
        CHECK(stamp != 0);
        CHECK((int32_t)(stamp - before) >= 0);
        before = stamp;
    }
}

int
main(void)
{
    RUN(intervals_that_overlap_count_once);
    RUN(a_total_is_never_more_than_there_was);
    RUN(nothing_is_lost_however_they_cross);
    RUN(a_stamp_is_never_0_and_does_not_go_back);
    return finish_tests();
}
