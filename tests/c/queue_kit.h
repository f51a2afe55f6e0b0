/* What the tests of queues share: small queues, items of plain bytes. */
#ifndef CF_TESTS_QUEUE_KIT_H
#define CF_TESTS_QUEUE_KIT_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "ipc/frame.h"
#include "ipc/queue_parts.h"

#define BUFFER_BYTES 70000u

/* A member of this process. */
typedef struct {
    cf_queue *queue;
    cf_arena *arena;
    pthread_mutex_t lock;       /* guards the arena */
} member;

static inline member *
member_of(cf_queue *queue)
{
    member *m = calloc(1, sizeof *m);
    m->queue = queue;
    pthread_mutex_init(&m->lock, NULL);
    if (!CHECK_EQUAL(cf_queue_join(queue, &m->arena), CF_OK)) {
        abort();
    }
    return m;
}

/* 1 << first entries in the first ring. */
static inline member *
member_new(uint64_t maxsize, unsigned first)
{
    cf_queue *queue;
    cf_queue_sizes sizes = {first, 4, 2, (uint64_t)16 << 20};
    if (!CHECK_EQUAL(cf_queue_make(maxsize, &sizes, &queue), CF_OK)) {
        abort();
    }
    return member_of(queue);
}

static inline member *
member_attach(int fd)
{
    cf_queue *queue;
    if (!CHECK_EQUAL(cf_queue_attach(fd, &queue), CF_OK)) {
        abort();
    }
    return member_of(queue);
}

static inline void
member_leave(member *m)
{
    cf_arena_close(m->arena);
    cf_queue_leave(m->queue);
    cf_queue_free(m->queue);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* Bytes of this member's arena that are in use. */
static inline uint64_t
member_live(member *m)
{
    uint64_t live, idle;
    pthread_mutex_lock(&m->lock);
    cf_arena_usage(m->arena, &live, &idle);
    pthread_mutex_unlock(&m->lock);
    return live;
}

/* An item that says `value`, with buffers that say it, too: its block. */
static inline uint32_t
item_new(member *m, uint64_t value, uint32_t buffers)
{
    cf_place place;
    cf_frame frame;
    bool warm, enough = true;
    char own[64 + 4 * CF_TABLE_ENTRY];
    cf_frame_init(&frame, own, sizeof own);
    cf_frame_append(&frame, &value, sizeof value);
    pthread_mutex_lock(&m->lock);
    for (uint32_t i = 0; i < buffers && enough; i++) {
        cf_place buffer;
        enough = cf_arena_alloc(m->arena, BUFFER_BYTES, &buffer, &warm) == CF_OK;
        if (enough) {
            memcpy(cf_segment_at(m->queue->seg, buffer.offset), &value, sizeof value);
            cf_frame_buffer(&frame, &buffer, false);
        }
    }
    if (buffers != 0) {
        cf_frame_table_end(&frame, buffers);
    }
    cf_item item = {.size = cf_frame_size(&frame), .table = buffers != 0};
    enough = enough
        && cf_arena_alloc(m->arena, sizeof item + item.size, &place, &warm) == CF_OK;
    pthread_mutex_unlock(&m->lock);
    if (!CHECK(enough)) {
        abort();
    }
    char *at = cf_segment_at(m->queue->seg, place.offset);
    memcpy(at, &item, sizeof item);
    memcpy(at + sizeof item, frame.own, (size_t)item.size);
    cf_frame_clear(&frame);
    return place.block;
}

typedef struct {
    uint64_t value;
    bool same;
} expectation;

static inline bool
check_buffer(cf_segment *seg, const cf_place *buffer, void *arg)
{
    expectation *e = arg;
    uint64_t value;
    memcpy(&value, cf_segment_at(seg, buffer->offset), sizeof value);
    e->same = e->same && value == e->value;
    cf_block_return(seg, buffer);
    return true;
}

/* Read an item that was taken, and give all of it back. */
static inline uint64_t
item_read(member *m, const cf_taken *taken)
{
    expectation e = {0, true};
    memcpy(&e.value, (char *)cf_segment_at(m->queue->seg, taken->place.offset)
           + sizeof(cf_item), sizeof e.value);
    CHECK(cf_item_buffers(m->queue->seg, &taken->item, &taken->place, check_buffer, &e));
    CHECK(e.same);
    cf_taken_return(m->queue, taken);
    return e.value;
}

/* CF_OK or CF_AGAIN. */
static inline cf_status
put_value(member *m, uint64_t value, uint32_t buffers)
{
    uint32_t block = item_new(m, value, buffers);
    cf_status status = cf_queue_put(m->queue, block);
    if (status != CF_OK) {
        cf_item_drop(m->queue, block);
    }
    return status;
}

static inline cf_status
take_value(member *m, uint64_t *value)
{
    cf_taken taken;
    cf_status status = cf_queue_take(m->queue, &taken);
    if (status == CF_OK) {
        *value = item_read(m, &taken);
    }
    return status;
}

/* Wait, spinning or not, as the type in Python does.  false: the time is over. */
static inline bool
wait_for(member *m, cf_queue_event event, bool spin, cf_deadline until)
{
    if (spin && cf_queue_spin(m->queue, event)) {
        return true;
    }
    cf_status status = cf_queue_sleep(m->queue, event, until);
    if (status == CF_AGAIN) {
        cf_queue_tend(m->queue);
    }
    CHECK(status != CF_SYSTEM);
    return status != CF_TIMEDOUT;
}

static inline void
put_waiting(member *m, uint64_t value, uint32_t buffers, bool spin)
{
    uint32_t block = item_new(m, value, buffers);
    while (cf_queue_put(m->queue, block) != CF_OK) {
        wait_for(m, CF_QUEUE_ROOM, spin, CF_FOREVER);
    }
}

static inline uint64_t
take_waiting(member *m, bool spin)
{
    uint64_t value = 0;
    while (take_value(m, &value) != CF_OK) {
        wait_for(m, CF_QUEUE_ITEM, spin, CF_FOREVER);
    }
    return value;
}

#endif
