/* ipc/frame.h: what is written is read, and nothing else is. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "ipc/frame.h"

/* ---- helpers ---- */

/* The whole frame in memory of exactly its size, so that AddressSanitizer sees a step
   beyond it. */
static unsigned char *
joined(const cf_frame *f)
{
    unsigned char *whole = malloc(cf_frame_size(f)), *at = whole;
    const void *data;
    uint64_t size;
    for (cf_frame_cursor c = {0, 0}; cf_frame_next(f, &c, &data, &size); at += size) {
        memcpy(at, data, size);
    }
    CHECK_EQUAL(at - whole, cf_frame_size(f));
    return whole;
}

/* Make any value, from a generator; `texts` has what text values point to. */
static void
random_value(prng *r, const char *texts, uint32_t room, uint64_t kept, cf_value *v)
{
    do {
        v->kind = 1 + prng_below(r, CF_VALUE_KINDS - 1);
    } while (v->kind >= CF_VALUE_INT1 && v->kind <= CF_VALUE_INT4);
    v->kept = false;
    if (v->kind == CF_VALUE_SAME && kept == 0) {
        v->kind = CF_VALUE_NONE;
    }
    switch (v->kind) {
    case CF_VALUE_INT:
        v->as.integer = (int64_t)((uint64_t)prng_below(r, UINT32_MAX) << 32
                                  | prng_below(r, UINT32_MAX)) >> prng_below(r, 64);
        break;
    case CF_VALUE_FLOAT:
        v->as.real = prng_below(r, 1000) / 7.0 - 50;
        break;
    case CF_VALUE_SAME:
        v->as.same = prng_below(r, (uint32_t)kept);
        break;
    case CF_VALUE_TUPLE: case CF_VALUE_LIST: case CF_VALUE_DICT:
        /* The reader asks only for so many bytes behind it: the test writes them. */
        v->as.count = prng_below(r, 400);
        break;
    default:
        if (cf_value_is_text(v->kind)) {
            uint32_t most = prng_below(r, 4) == 0 ? room : 300;
            v->as.text.length = prng_below(r, most / cf_value_unit(v->kind) + 1);
            v->as.text.bytes = v->as.text.length * cf_value_unit(v->kind);
            v->as.text.data = texts + prng_below(r, room - (uint32_t)v->as.text.bytes + 1);
            v->kept = prng_below(r, 2);
        }
    }
}

static cf_status
write_value(cf_frame *f, const cf_value *v)
{
    switch (v->kind) {
    case CF_VALUE_INT:
        return cf_frame_int(f, v->as.integer);
    case CF_VALUE_FLOAT:
        return cf_frame_float(f, v->as.real);
    case CF_VALUE_SAME:
        return cf_frame_same(f, v->as.same);
    case CF_VALUE_TUPLE: case CF_VALUE_LIST: case CF_VALUE_DICT:
        return cf_frame_container(f, v->kind, v->as.count);
    default:
        if (!cf_value_is_text(v->kind)) {
            return cf_frame_constant(f, v->kind);
        }
        return (v->as.text.length % 2 ? cf_frame_text : cf_frame_lasting_text)(
            f, v->kind, v->kept, v->as.text.data, v->as.text.length);
    }
}

static bool
equal(const cf_value *a, const cf_value *b)
{
    if (a->kind != b->kind) {
        return false;
    }
    switch (a->kind) {
    case CF_VALUE_INT:
        return a->as.integer == b->as.integer;
    case CF_VALUE_FLOAT:
        return memcmp(&a->as.real, &b->as.real, sizeof(double)) == 0;
    case CF_VALUE_SAME:
        return a->as.same == b->as.same;
    case CF_VALUE_TUPLE: case CF_VALUE_LIST: case CF_VALUE_DICT:
        return a->as.count == b->as.count;
    default:
        return !cf_value_is_text(a->kind)
               || (a->kept == b->kept && a->as.text.length == b->as.text.length
                   && a->as.text.bytes == b->as.text.bytes
                   && memcmp(a->as.text.data, b->as.text.data, a->as.text.bytes) == 0);
    }
}

/* ---- values ---- */

static char texts[20000];

static void
values_come_back_as_they_were(void)
{
    prng r = prng_new();
    for (size_t i = 0; i < sizeof(texts); i++) {
        texts[i] = (char)prng_below(&r, 256);
    }
    for (int round = rounds(3000); round > 0; round--) {
        cf_value values[64];
        uint32_t count = prng_below(&r, 65);
        uint64_t kept = 0, filling = 2 * 400;
        char given[72];
        cf_frame f;
        cf_frame_init(&f, given, prng_below(&r, sizeof(given) + 1));
        for (uint32_t i = 0; i < count; i++) {
            random_value(&r, texts, sizeof(texts), kept, &values[i]);
            kept += values[i].kept;
            CHECK_EQUAL(write_value(&f, &values[i]), CF_OK);
        }
        for (uint64_t i = 0; i < filling; i++) {
            CHECK_EQUAL(cf_frame_constant(&f, CF_VALUE_NONE), CF_OK);
        }
        unsigned char *whole = joined(&f);
        cf_reader reader;
        cf_value value;
        cf_reader_init(&reader, whole, cf_frame_size(&f));
        for (uint32_t i = 0; i < count; i++) {
            CHECK_EQUAL(cf_reader_next(&reader, &value), CF_OK);
            CHECK(equal(&value, &values[i]));
        }
        for (uint64_t i = 0; i < filling; i++) {
            CHECK(cf_reader_end(&reader) != CF_OK);
            CHECK_EQUAL(cf_reader_next(&reader, &value), CF_OK);
        }
        CHECK_EQUAL(cf_reader_end(&reader), CF_OK);
        free(whole);
        cf_frame_clear(&f);
    }
}

static void
ints_take_the_bytes_they_need(void)
{
    static const struct { int64_t value; unsigned size; } cases[] = {
        {0, 1}, {127, 1}, {-128, 1}, {128, 2}, {-129, 2}, {32767, 2}, {-32768, 2},
        {32768, 4}, {-32769, 4}, {INT32_MAX, 4}, {INT32_MIN, 4},
        {(int64_t)INT32_MAX + 1, 8}, {(int64_t)INT32_MIN - 1, 8}, {INT64_MAX, 8},
        {INT64_MIN, 8},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char given[72];
        cf_frame f;
        cf_reader reader;
        cf_value value;
        cf_frame_init(&f, given, sizeof(given));
        CHECK_EQUAL(cf_frame_int(&f, cases[i].value), CF_OK);
        CHECK_EQUAL(cf_frame_size(&f), 1 + cases[i].size);
        cf_reader_init(&reader, given, cf_frame_size(&f));
        CHECK_EQUAL(cf_reader_next(&reader, &value), CF_OK);
        CHECK_EQUAL(value.as.integer, cases[i].value);
        /* Inline: the short ones, where it need not look for the end. */
        cf_reader_init(&reader, given, sizeof(given));
        bool is_short = cf_reader_int(&reader, &value.as.integer);
        CHECK_EQUAL(is_short, cases[i].size < 8);
        CHECK_EQUAL(value.as.integer, cases[i].value);
        CHECK_EQUAL(reader.at - (unsigned char *)given, is_short ? 1 + cases[i].size : 0);
        cf_frame_clear(&f);
    }
}

static void
small_frames_stay_where_they_were_given(void)
{
    char given[72], filler[72] = {0};
    cf_frame f;
    cf_frame_init(&f, given, sizeof(given));
    CHECK_EQUAL(cf_frame_append(&f, filler, sizeof(given)), CF_OK);
    CHECK(f.own == given);
    CHECK_EQUAL(cf_frame_append(&f, filler, 1), CF_OK);
    CHECK(f.own != given);
    CHECK_EQUAL(cf_frame_size(&f), 73);
    cf_frame_clear(&f);
}

static void
large_texts_are_not_copied(void)
{
    static char large[3 * CF_FRAME_APART];
    char given[8];
    cf_frame f;
    cf_frame_init(&f, given, sizeof(given));
    /* More than the pieces that a frame has room for at first. */
    for (int i = 0; i < 3 * CF_FRAME_PIECES; i++) {
        memset(large, i, 1);
        CHECK_EQUAL(cf_frame_lasting_text(&f, CF_VALUE_BYTES, false, large, sizeof(large)),
                    CF_OK);
        CHECK_EQUAL(cf_frame_lasting_text(&f, CF_VALUE_BYTES, false, large,
                                          CF_FRAME_APART - 1), CF_OK);
    }
    CHECK_EQUAL(f.apart, 3 * CF_FRAME_PIECES * sizeof(large));
    const void *data;
    uint64_t size, total = 0;
    int pieces = 0;
    for (cf_frame_cursor c = {0, 0}; cf_frame_next(&f, &c, &data, &size); total += size) {
        pieces += data == large;
    }
    CHECK_EQUAL(pieces, 3 * CF_FRAME_PIECES);
    CHECK_EQUAL(total, cf_frame_size(&f));
    cf_frame_clear(&f);
}

static void
what_cannot_be_that_large_is_an_error(void)
{
    char given[8];
    cf_frame f;
    cf_frame_init(&f, given, sizeof(given));
    errno = 0;
    CHECK_EQUAL(cf_frame_text(&f, CF_VALUE_UCS4, false, given, UINT64_MAX / 3), CF_SYSTEM);
    CHECK_EQUAL(errno, ENOMEM);
    CHECK_EQUAL(cf_frame_refer(&f, given, UINT64_MAX), CF_SYSTEM);
    CHECK_EQUAL(cf_frame_append(&f, given, SIZE_MAX), CF_SYSTEM);
    CHECK_EQUAL(cf_frame_size(&f), 0);
    cf_frame_clear(&f);
}

/* ---- damage ---- */

/* A frame with every kind of value in it, and its number of values. */
static unsigned char *
one_of_each(uint64_t *size, uint32_t *count)
{
    static const char units[1200] = "some text of which some units are taken";
    char given[72];
    cf_frame f;
    cf_frame_init(&f, given, sizeof(given));
    cf_frame_constant(&f, CF_VALUE_NONE);
    cf_frame_constant(&f, CF_VALUE_TRUE);
    cf_frame_constant(&f, CF_VALUE_FALSE);
    cf_frame_int(&f, -1);
    cf_frame_int(&f, 1000);
    cf_frame_int(&f, -100000);
    cf_frame_int(&f, INT64_MIN);
    cf_frame_float(&f, 2.5);
    for (unsigned kind = CF_VALUE_BYTES; kind <= CF_VALUE_UCS4; kind++) {
        cf_frame_text(&f, kind, kind % 2, units, 3);
    }
    cf_frame_text(&f, CF_VALUE_BYTES, true, units, 254);
    cf_frame_text(&f, CF_VALUE_ASCII, false, units, 255);
    cf_frame_text(&f, CF_VALUE_UCS4, true, units, 260);
    cf_frame_text(&f, CF_VALUE_LATIN, true, units, 0);
    cf_frame_same(&f, 0);
    cf_frame_same(&f, 4);
    *count = 19;
    static const unsigned containers[] = {CF_VALUE_TUPLE, CF_VALUE_LIST, CF_VALUE_DICT};
    for (unsigned i = 0; i < 3; i++) {
        cf_frame_container(&f, containers[i], 2);
        cf_frame_container(&f, containers[i], 0);
    }
    *count += 6;
    for (unsigned i = 0; i < 2; i++) {
        cf_frame_constant(&f, CF_VALUE_NONE);
        *count += 1;
    }
    *size = cf_frame_size(&f);
    unsigned char *whole = joined(&f);
    cf_frame_clear(&f);
    return whole;
}

/* The number of values that can be read, and whether that is the frame's end. */
static uint32_t
read_all(const void *frame, uint64_t size, bool *end)
{
    cf_reader reader;
    cf_value value;
    cf_reader_init(&reader, frame, size);
    uint32_t count = 0;
    for (; cf_reader_end(&reader) != CF_OK; count++) {
        if (cf_reader_next(&reader, &value) != CF_OK) {
            *end = false;
            return count;
        }
        if (cf_value_is_text(value.kind)) {
            /* All of it is there to be read. */
            volatile unsigned char sum = 0;
            for (uint64_t i = 0; i < value.as.text.bytes; i++) {
                sum ^= ((const unsigned char *)value.as.text.data)[i];
            }
        }
    }
    *end = true;
    return count;
}

static void
a_frame_cut_anywhere_has_fewer_values(void)
{
    uint64_t size;
    uint32_t count;
    bool end;
    unsigned char *whole = one_of_each(&size, &count);
    CHECK_EQUAL(read_all(whole, size, &end), count);
    CHECK(end);
    for (uint64_t cut = 0; cut < size; cut++) {
        unsigned char *part = malloc(cut == 0 ? 1 : cut);
        memcpy(part, whole, cut);
        CHECK(read_all(part, cut, &end) < count);
        free(part);
    }
    free(whole);
}

static void
any_byte_may_be_anything(void)
{
    uint64_t size;
    uint32_t count;
    bool end;
    unsigned char *whole = one_of_each(&size, &count);
    int refused = 0;
    for (uint64_t at = 0; at < size; at++) {
        unsigned char was = whole[at];
        for (unsigned byte = 0; byte < 256; byte++) {
            whole[at] = (unsigned char)byte;
            read_all(whole, size, &end);
            refused += !end;
        }
        whole[at] = was;
    }
    CHECK(refused > 1000);
    free(whole);
}

static void
unknown_tags_are_corrupt(void)
{
    unsigned char frame[16] = {0};
    int known = 0;
    for (unsigned tag = 0; tag < 256; tag++) {
        cf_reader reader;
        cf_value value;
        memset(frame, 0x7f, sizeof(frame));
        frame[0] = (unsigned char)tag;
        frame[1] = 3;
        cf_reader_init(&reader, frame, sizeof(frame));
        known += cf_reader_next(&reader, &value) == CF_OK;
    }
    /* None, True, False, four ints, float, bytes and four kinds of strings, kept and not,
       three containers; and no text that could be the same. */
    CHECK_EQUAL(known, 3 + 4 + 1 + 2 * (1 + 4) + 3);
}

static void
only_the_writers_form_is_read(void)
{
    static const struct { unsigned char bytes[16]; size_t size; } cases[] = {
        {{CF_VALUE_INT2, 5, 0}, 3},                        /* 5 in two bytes */
        {{CF_VALUE_INT2, 0xff, 0xff}, 3},                  /* -1 */
        {{CF_VALUE_INT4, 0, 1, 0, 0}, 5},                  /* 256 in four */
        {{CF_VALUE_INT, 0, 0, 0, 1, 0, 0, 0, 0}, 9},            /* 2**24 in eight */
        {{CF_VALUE_BYTES, 255, 2, 0, 0, 0, 0, 0, 0, 0, 1, 2}, 12},      /* a long length */
        {{CF_VALUE_BYTES | 0x80, 0, CF_VALUE_SAME, 1}, 4},      /* the same as the next */
        {{CF_VALUE_BYTES, 0, CF_VALUE_SAME, 0}, 4},             /* as one not kept */
        {{CF_VALUE_NONE, CF_VALUE_SAME, 0}, 3},                 /* the same as no text */
        {{CF_VALUE_NONE | 0x80}, 1},                            /* a number for None */
        {{CF_VALUE_LIST | 0x80, 0}, 2},
        {{CF_VALUE_LIST, 2, CF_VALUE_NONE}, 3},                 /* more items than bytes */
        {{CF_VALUE_DICT, 1, CF_VALUE_NONE}, 3},
        {{CF_VALUE_TUPLE, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}, 11},
        {{CF_VALUE_BYTES, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0}, 11},
        {{CF_VALUE_UCS4, 255, 255, 255, 255, 255, 255, 255, 255, 0x3f, 0}, 11},
        {{CF_VALUE_UCS2, 255, 0, 0, 0, 0, 0, 0, 0, 0x80, 0}, 11},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        unsigned char *frame = malloc(cases[i].size);
        bool end;
        memcpy(frame, cases[i].bytes, cases[i].size);
        read_all(frame, cases[i].size, &end);
        CHECK(!end);
        free(frame);
    }
}

static void
strings_are_in_the_kind_that_they_need(void)
{
    unsigned char bytes[40];
    uint16_t two[40];
    uint32_t four[40];
    for (uint64_t length = 0; length <= 33; length++) {
        for (uint64_t at = 0; at < length; at++) {
            memset(bytes, 'a', sizeof(bytes));
            for (int i = 0; i < 40; i++) {
                two[i] = four[i] = 'a';
            }
            bytes[at] = 0x7f;
            CHECK(cf_text_fits(CF_VALUE_ASCII, bytes, length));
            CHECK(!cf_text_fits(CF_VALUE_LATIN, bytes, length));
            CHECK(!cf_text_fits(CF_VALUE_UCS2, two, length));
            CHECK(!cf_text_fits(CF_VALUE_UCS4, four, length));
            bytes[at] = 0x80;
            CHECK(!cf_text_fits(CF_VALUE_ASCII, bytes, length));
            CHECK(cf_text_fits(CF_VALUE_LATIN, bytes, length));
            two[at] = 0xff;
            CHECK(!cf_text_fits(CF_VALUE_UCS2, two, length));
            two[at] = 0x100;
            CHECK(cf_text_fits(CF_VALUE_UCS2, two, length));
            four[at] = 0xffff;
            CHECK(!cf_text_fits(CF_VALUE_UCS4, four, length));
            four[at] = 0x10000;
            CHECK(cf_text_fits(CF_VALUE_UCS4, four, length));
            four[(at + 1) % length] = 0x110000;
            CHECK(!cf_text_fits(CF_VALUE_UCS4, four, length));
        }
    }
    CHECK(cf_text_fits(CF_VALUE_ASCII, bytes, 0));
    CHECK(!cf_text_fits(CF_VALUE_LATIN, bytes, 0));
    CHECK(!cf_text_fits(CF_VALUE_UCS2, two, 0));
    CHECK(!cf_text_fits(CF_VALUE_UCS4, four, 0));
    CHECK(cf_text_fits(CF_VALUE_BYTES, bytes, 40));
    CHECK(!cf_text_fits(CF_VALUE_INT, bytes, 0));
}

/* ---- tables ---- */

static cf_place
some_place(uint32_t i)
{
    return (cf_place){(uint64_t)i * 0x123456789u, (uint64_t)i << 30, i + 1, i * 7};
}

static void
tables_come_back_as_they_were(void)
{
    for (uint32_t count = 1; count < 200; count += count < 5 ? 1 : 31) {
        char given[72];
        cf_frame f;
        cf_frame_init(&f, given, sizeof(given));
        CHECK_EQUAL(cf_frame_append(&f, "pickle", 6), CF_OK);
        for (uint32_t i = 0; i < count; i++) {
            cf_place place = some_place(i);
            CHECK_EQUAL(cf_frame_buffer(&f, &place, i % 3 == 0), CF_OK);
        }
        CHECK_EQUAL(cf_frame_table_end(&f, count), CF_OK);
        uint64_t size = cf_frame_size(&f);
        unsigned char *whole = joined(&f);
        uint32_t found = 0;
        CHECK_EQUAL(cf_table_count(whole + size - CF_TABLE_END, size, &found), CF_OK);
        CHECK_EQUAL(found, count);
        CHECK_EQUAL(size, 6 + cf_table_size(count));
        for (uint32_t i = 0; i < count; i++) {
            cf_place place, expected = some_place(i);
            bool readonly;
            CHECK_EQUAL(cf_table_entry(whole + 6, i, &place, &readonly), CF_OK);
            CHECK(memcmp(&place, &expected, sizeof(place)) == 0);
            CHECK_EQUAL(readonly, i % 3 == 0);
        }
        free(whole);
        cf_frame_clear(&f);
    }
}

static void
tables_larger_than_their_frame_are_corrupt(void)
{
    char given[200];
    cf_frame f;
    cf_place place = some_place(1);
    cf_frame_init(&f, given, sizeof(given));
    cf_frame_buffer(&f, &place, false);
    cf_frame_buffer(&f, &place, false);
    cf_frame_table_end(&f, 2);
    const char *end = given + 2 * CF_TABLE_ENTRY;
    uint32_t count;
    CHECK_EQUAL(cf_table_count(end, 2 * CF_TABLE_ENTRY + CF_TABLE_END, &count), CF_OK);
    for (uint64_t size = 0; size < 2 * CF_TABLE_ENTRY + CF_TABLE_END; size++) {
        CHECK_EQUAL(cf_table_count(end, size, &count), CF_CORRUPT);
    }
    static const uint32_t wrong[] = {0, 3, 1u << 27, 1u << 31, UINT32_MAX};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        memcpy(given + 2 * CF_TABLE_ENTRY, &wrong[i], 4);
        CHECK_EQUAL(cf_table_count(end, 2 * CF_TABLE_ENTRY + CF_TABLE_END, &count),
                    CF_CORRUPT);
    }
    cf_frame_clear(&f);
}

static void
damaged_ends_and_entries_are_corrupt(void)
{
    char given[200];
    cf_frame f;
    cf_place place = some_place(1);
    uint32_t count;
    bool readonly;
    cf_frame_init(&f, given, sizeof(given));
    cf_frame_buffer(&f, &place, false);
    cf_frame_table_end(&f, 1);
    uint64_t size = CF_TABLE_ENTRY + CF_TABLE_END;
    int refused = 0;
    for (uint64_t at = 24; at < size; at++) {
        char was = given[at];
        for (int byte = 0; byte < 256; byte++) {
            given[at] = (char)byte;
            refused += cf_table_count(given + CF_TABLE_ENTRY, size, &count) != CF_OK
                       || cf_table_entry(given, 0, &place, &readonly) != CF_OK;
        }
        given[at] = was;
    }
    /* Of each byte one value is right; of the access two are. */
    CHECK_EQUAL(refused, 16 * 255 - 1);
    cf_frame_clear(&f);
}

int
main(void)
{
    RUN(values_come_back_as_they_were);
    RUN(ints_take_the_bytes_they_need);
    RUN(small_frames_stay_where_they_were_given);
    RUN(large_texts_are_not_copied);
    RUN(what_cannot_be_that_large_is_an_error);
    RUN(a_frame_cut_anywhere_has_fewer_values);
    RUN(any_byte_may_be_anything);
    RUN(unknown_tags_are_corrupt);
    RUN(only_the_writers_form_is_read);
    RUN(strings_are_in_the_kind_that_they_need);
    RUN(tables_come_back_as_they_were);
    RUN(tables_larger_than_their_frame_are_corrupt);
    RUN(damaged_ends_and_entries_are_corrupt);
    return finish_tests();
}
