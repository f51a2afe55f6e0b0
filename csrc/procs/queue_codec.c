#include "procs/queue_codec.h"

#include <string.h>

#include "procs/codec_parts.h"

/* Pickles up to this size are copied before they are read: cheaper than an object that
   refers to them. */
#define SMALL_PICKLE 2048

cf_codec *
cf_queue_codec_new(cf_state *st, cf_queue *queue, cf_arena *arena, uint64_t threshold)
{
    cf_codec *codec = cf_codec_new(st, queue->seg, arena, queue->number, threshold);
    if (codec == NULL) {
        return NULL;
    }
    codec->head_room = sizeof(cf_item);
    Py_XSETREF(codec->new_pickler, Py_XNewRef(st->queue_pickler));
    if (codec->new_pickler == NULL) {
        cf_codec_free(codec);
        PyErr_SetString(PyExc_RuntimeError, "cfutures._core has no pickler yet");
        return NULL;
    }
    return codec;
}

cf_state *
cf_codec_state(cf_codec *codec)
{
    return codec->st;
}

bool
cf_codec_is_pinned(cf_codec *codec)
{
    for (uint32_t i = 0; i < codec->pins->arenas; i++) {
        if (cf_load_acquire(&codec->pins->views[i]) != 0) {
            return true;
        }
    }
    return false;
}

int
cf_item_encode(cf_codec *codec, cf_queue *queue, PyObject *value, uint32_t *block)
{
    cf_message message;
    if (cf_encode_result(codec, value, &message) < 0) {
        return -1;
    }
    cf_item item = {
        .codec = message.codec, .count = message.count, .flags = message.flags,
        .table = (message.flags & CF_WITH_BUFFERS) != 0};
    cf_place place = message.place;
    if (place.where == CF_WHERE_SPILL) {
        bool warm;
        item.size = place.size;
        item.spill = place.offset;
        if (cf_codec_alloc(codec, sizeof item, &place, &warm) != CF_OK) {
            cf_spill_free(codec->seg, &message.place);
            PyErr_SetString(PyExc_MemoryError,
                            "too many items of this process are in the queue");
            return -1;
        }
    }
    else {
        item.size = place.size - sizeof item;
    }
    memcpy(cf_segment_at(queue->seg, place.offset), &item, sizeof item);
    *block = place.block;
    return 0;
}

PyObject *
cf_item_decode(cf_codec *codec, cf_queue *queue, const cf_taken *taken)
{
    const cf_item *item = &taken->item;
    cf_received received = {.size = item->size, .place = taken->place};
    PyObject *value = NULL;
    if (item->spill != 0) {
        cf_slot copy = {.place = {.offset = item->spill, .size = item->size,
                                  .where = CF_WHERE_SPILL}};
        if (cf_received_open(codec, &copy, &received) < 0) {
            goto done;
        }
    }
    else {
        received.place.offset += sizeof *item;
        received.place.size = item->size;
        received.data = cf_segment_at(queue->seg, received.place.offset);
        if (item->size <= SMALL_PICKLE) {
            received.place.where = CF_WHERE_INLINE;
        }
    }
    value = cf_received_value(codec, &received, item->codec, item->flags);
    cf_received_close(&received);
done:
    cf_taken_return(queue, taken);
    return value;
}
