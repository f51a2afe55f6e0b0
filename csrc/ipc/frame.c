#include "ipc/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ---- */

void
cf_frame_init(cf_frame *f, char *given, size_t room)
{
    f->own = f->given = given;
    f->used = 0;
    f->room = room;
    f->pieces = f->few;
    f->count = 0;
    f->space = CF_FRAME_PIECES;
    f->apart = 0;
}

void
cf_frame_clear(cf_frame *f)
{
    if (f->own != f->given) {
        free(f->own);
    }
    if (f->pieces != f->few) {
        free(f->pieces);
    }
    cf_frame_init(f, NULL, 0);
}

static cf_status
no_memory(void)
{
    errno = ENOMEM;
    return CF_SYSTEM;
}

cf_status
cf_frame_grow(cf_frame *f, size_t size)
{
    size_t room = f->room < 512 ? 1024 : f->room + f->room / 2;
    if (size > SIZE_MAX / 2 - f->used) {
        return no_memory();
    }
    if (room < f->used + size) {
        room = f->used + size;
    }
    char *own = realloc(f->own == f->given ? NULL : f->own, room);
    if (own == NULL) {
        return no_memory();
    }
    if (f->own == f->given && f->used != 0) {
        memcpy(own, f->given, f->used);
    }
    f->own = own;
    f->room = room;
    return CF_OK;
}

cf_status
cf_frame_append(cf_frame *f, const void *data, size_t size)
{
    cf_status status = cf_frame_reserve(f, size);
    if (status == CF_OK && size != 0) {
        memcpy(f->own + f->used, data, size);
        f->used += size;
    }
    return status;
}

cf_status
cf_frame_refer(cf_frame *f, const void *data, uint64_t size)
{
    if (size > UINT64_MAX / 2 - cf_frame_size(f)) {
        return no_memory();
    }
    if (f->count == f->space) {
        size_t space = f->space * 2;
        cf_piece *pieces = realloc(f->pieces == f->few ? NULL : f->pieces,
                                   space * sizeof(cf_piece));
        if (pieces == NULL) {
            return no_memory();
        }
        if (f->pieces == f->few) {
            memcpy(pieces, f->few, sizeof(f->few));
        }
        f->pieces = pieces;
        f->space = space;
    }
    f->pieces[f->count++] = (cf_piece){f->used, data, size};
    f->apart += size;
    return CF_OK;
}

bool
cf_frame_next(const cf_frame *f, cf_frame_cursor *cursor, const void **data, uint64_t *size)
{
    bool piece = cursor->piece < f->count;
    size_t until = piece ? f->pieces[cursor->piece].before : f->used;
    if (cursor->own < until) {
        *data = f->own + cursor->own;
        *size = until - cursor->own;
        cursor->own = until;
        return true;
    }
    if (piece) {
        *data = f->pieces[cursor->piece].data;
        *size = f->pieces[cursor->piece].size;
        cursor->piece++;
    }
    return piece;
}

/* ---- values ---- */

/* A value begins with its tag: its kind, and whether it is a kept text (frame.h writes
   the ones that are always short). */
#define TAG_KEPT 0x80u
#define LONG_LENGTH 255

/* A tag and a length. */
static cf_status
frame_length(cf_frame *f, unsigned tag, uint64_t length)
{
    cf_status status = cf_frame_reserve(f, 10);
    if (status != CF_OK) {
        return status;
    }
    char *at = f->own + f->used;
    at[0] = (char)tag;
    if (length < LONG_LENGTH) {
        at[1] = (char)length;
        f->used += 2;
    }
    else {
        at[1] = (char)LONG_LENGTH;
        memcpy(at + 2, &length, 8);
        f->used += 10;
    }
    return CF_OK;
}

cf_status
cf_frame_same(cf_frame *f, uint64_t index)
{
    return frame_length(f, CF_VALUE_SAME, index);
}

cf_status
cf_frame_container(cf_frame *f, unsigned kind, uint64_t count)
{
    return frame_length(f, kind, count);
}

static cf_status
frame_text(cf_frame *f, unsigned kind, bool kept, const void *data, uint64_t length,
           uint64_t apart)
{
    unsigned unit = cf_value_unit(kind);
    if (length > (UINT64_MAX >> 2) / unit) {
        return no_memory();
    }
    uint64_t size = length * unit;
    cf_status status = frame_length(f, kind | (kept ? TAG_KEPT : 0), length);
    if (status != CF_OK) {
        return status;
    }
    return size < apart ? cf_frame_append(f, data, (size_t)size)
                        : cf_frame_refer(f, data, size);
}

cf_status
cf_frame_text(cf_frame *f, unsigned kind, bool kept, const void *data, uint64_t length)
{
    return frame_text(f, kind, kept, data, length, UINT64_MAX);
}

cf_status
cf_frame_lasting_text(cf_frame *f, unsigned kind, bool kept, const void *data,
                      uint64_t length)
{
    return frame_text(f, kind, kept, data, length, CF_FRAME_APART);
}

/* ---- reading values ---- */

void
cf_reader_init(cf_reader *r, const void *frame, uint64_t size)
{
    r->at = frame;
    r->end = r->at + size;
    r->kept = 0;
}

static inline uint64_t
reader_left(const cf_reader *r)
{
    return (uint64_t)(r->end - r->at);
}

static cf_status
reader_number(cf_reader *r, void *number, size_t size)
{
    if (reader_left(r) < size) {
        return CF_CORRUPT;
    }
    memcpy(number, r->at, size);
    r->at += size;
    return CF_OK;
}

/* The int behind this tag; a writer takes the shortest form. */
static cf_status
reader_int(cf_reader *r, unsigned tag, int64_t *value)
{
    if (tag == CF_VALUE_INT) {
        cf_status status = reader_number(r, value, 8);
        return status == CF_OK && *value == (int32_t)*value ? CF_CORRUPT : status;
    }
    unsigned size = 1u << (tag - CF_VALUE_INT1);
    if (reader_left(r) < size || cf_int_behind(tag, r->at, value) == 0) {
        return CF_CORRUPT;
    }
    r->at += size;
    return CF_OK;
}

static cf_status
reader_length(cf_reader *r, uint64_t *length)
{
    if (reader_left(r) < 1) {
        return CF_CORRUPT;
    }
    *length = *r->at++;
    return *length != LONG_LENGTH
           || (reader_number(r, length, 8) == CF_OK && *length >= LONG_LENGTH)
           ? CF_OK : CF_CORRUPT;
}

static cf_status
reader_text(cf_reader *r, cf_value *value)
{
    uint64_t length;
    unsigned unit = cf_value_unit(value->kind);
    if (reader_length(r, &length) != CF_OK || length > reader_left(r) / unit) {
        return CF_CORRUPT;
    }
    value->as.text.data = r->at;
    value->as.text.length = length;
    value->as.text.bytes = length * unit;
    r->at += length * unit;
    r->kept += value->kept;
    return CF_OK;
}

/* An item has at least one byte. */
static cf_status
reader_container(cf_reader *r, cf_value *value)
{
    unsigned least = value->kind == CF_VALUE_DICT ? 2 : 1;
    return reader_length(r, &value->as.count) == CF_OK
           && value->as.count <= reader_left(r) / least ? CF_OK : CF_CORRUPT;
}

cf_status
cf_reader_next(cf_reader *r, cf_value *value)
{
    if (r->at == r->end) {
        return CF_CORRUPT;
    }
    unsigned tag = *r->at++;
    value->kind = tag & ~TAG_KEPT;
    value->kept = (tag & TAG_KEPT) != 0;
    if (value->kept && !cf_value_is_text(value->kind)) {
        return CF_CORRUPT;
    }
    switch (value->kind) {
    case CF_VALUE_NONE: case CF_VALUE_TRUE: case CF_VALUE_FALSE:
        return CF_OK;
    case CF_VALUE_INT1: case CF_VALUE_INT2: case CF_VALUE_INT4: case CF_VALUE_INT:
        value->kind = CF_VALUE_INT;
        return reader_int(r, tag, &value->as.integer);
    case CF_VALUE_FLOAT:
        return reader_number(r, &value->as.real, 8);
    case CF_VALUE_BYTES: case CF_VALUE_ASCII: case CF_VALUE_LATIN:
    case CF_VALUE_UCS2: case CF_VALUE_UCS4:
        return reader_text(r, value);
    case CF_VALUE_SAME:
        return reader_length(r, &value->as.same) == CF_OK && value->as.same < r->kept
               ? CF_OK : CF_CORRUPT;
    case CF_VALUE_TUPLE: case CF_VALUE_LIST: case CF_VALUE_DICT:
        return reader_container(r, value);
    default:
        return CF_CORRUPT;
    }
}

cf_status
cf_reader_end(const cf_reader *r)
{
    return r->at == r->end ? CF_OK : CF_CORRUPT;
}

/* The bits that are set in any unit. */
static uint64_t
bits_of_bytes(const unsigned char *units, uint64_t length)
{
    uint64_t bits = 0, word, i = 0;
    for (; i + 8 <= length; i += 8) {
        memcpy(&word, units + i, 8);
        bits |= word;
    }
    for (; i < length; i++) {
        bits |= units[i];
    }
    return bits;
}

bool
cf_text_fits(unsigned kind, const void *units, uint64_t length)
{
    uint32_t bits = 0, highest = 0;
    switch (kind) {
    case CF_VALUE_BYTES:
        return true;
    case CF_VALUE_ASCII:
        return !(bits_of_bytes(units, length) & 0x8080808080808080u);
    case CF_VALUE_LATIN:
        return (bits_of_bytes(units, length) & 0x8080808080808080u) != 0;
    case CF_VALUE_UCS2:
        for (uint64_t i = 0; i < length; i++) {
            bits |= ((const uint16_t *)units)[i];
        }
        return bits > 0xff;
    case CF_VALUE_UCS4:
        for (uint64_t i = 0; i < length; i++) {
            uint32_t unit = ((const uint32_t *)units)[i];
            highest = unit > highest ? unit : highest;
        }
        return highest > 0xffff && highest <= 0x10ffff;
    default:
        return false;
    }
}

/* ---- the table ---- */

#define TABLE_MAGIC 0x62754643u
#define ENTRY_READONLY 0x52u
#define ENTRY_WRITABLE 0x57u

typedef struct {
    cf_place place;
    uint32_t access, reserved;
} table_entry;
_Static_assert(sizeof(table_entry) == CF_TABLE_ENTRY, "no holes");

cf_status
cf_frame_buffer(cf_frame *f, const cf_place *place, bool readonly)
{
    table_entry entry = {*place, readonly ? ENTRY_READONLY : ENTRY_WRITABLE, 0};
    return cf_frame_append(f, &entry, sizeof(entry));
}

cf_status
cf_frame_table_end(cf_frame *f, uint32_t count)
{
    uint32_t end[2] = {count, TABLE_MAGIC};
    _Static_assert(sizeof(end) == CF_TABLE_END, "no holes");
    return cf_frame_append(f, end, sizeof(end));
}

cf_status
cf_table_count(const void *end, uint64_t size, uint32_t *count)
{
    uint32_t words[2];
    if (size < CF_TABLE_END) {
        return CF_CORRUPT;
    }
    memcpy(words, end, sizeof(words));
    *count = words[0];
    return words[1] == TABLE_MAGIC && words[0] != 0 && cf_table_size(words[0]) <= size
           ? CF_OK : CF_CORRUPT;
}

cf_status
cf_table_entry(const void *table, uint32_t index, cf_place *place, bool *readonly)
{
    table_entry entry;
    memcpy(&entry, (const char *)table + (uint64_t)index * CF_TABLE_ENTRY, sizeof(entry));
    *place = entry.place;
    *readonly = entry.access == ENTRY_READONLY;
    return (entry.access == ENTRY_READONLY || entry.access == ENTRY_WRITABLE)
           && entry.reserved == 0 ? CF_OK : CF_CORRUPT;
}
