/* Frames: the bytes of a message.

   Two kinds of content, never mixed in one frame:

     values    one after the other, each a tag and what belongs to it; a container's items
               come behind it, those of a dict as key, value, key, value
     a pickle, and behind it, if some of its buffers travel apart, a table of where they
               are: entries of CF_TABLE_ENTRY bytes, then their number and a magic word
               (CF_TABLE_END bytes)

   Numbers are in the order of bytes of the machine: a frame never leaves it.  Lengths,
   counts and numbers of texts are one byte, or 255 and eight bytes.

   What is written is gathered: small things are copied into the frame's own bytes, large
   ones stay where they are and are only referred to (`pieces`), so that who puts the frame
   into its final place copies them once.

   The reader trusts nothing: a frame may have been scribbled over, even while it is
   read, so each byte that decides something is read once.  It returns CF_CORRUPT for
   whatever a writer here cannot have written. */
#ifndef CF_IPC_FRAME_H
#define CF_IPC_FRAME_H

#include <string.h>

#include "ipc/segment.h"

/* ---- writing ---- */

/* Comes after the first `before` of the frame's own bytes. */
typedef struct {
    size_t before;
    const void *data;           /* borrowed until the frame is cleared */
    uint64_t size;
} cf_piece;

#define CF_FRAME_APART 4096     /* bytes from which on a text becomes a piece */
#define CF_FRAME_PIECES 8

/* Private to one thread. */
typedef struct {
    char *own;                  /* `given`, or from malloc */
    char *given;
    size_t used, room;
    cf_piece *pieces;           /* `few`, or from malloc */
    size_t count, space;
    uint64_t apart;             /* sum of the sizes of the pieces */
    cf_piece few[CF_FRAME_PIECES];
} cf_frame;

/* An empty frame whose first `room` own bytes lie in `given` (borrowed). */
void cf_frame_init(cf_frame *f, char *given, size_t room);
void cf_frame_clear(cf_frame *f);           /* frees; to be initialized again */

static inline uint64_t
cf_frame_size(const cf_frame *f)
{
    return f->used + f->apart;
}

/* All CF_OK, or CF_SYSTEM: out of memory (errno); then the frame is as it was, but for a
   beginning of what was to be appended, and good for nothing but cf_frame_clear(). */
cf_status cf_frame_append(cf_frame *f, const void *data, size_t size);
cf_status cf_frame_refer(cf_frame *f, const void *data, uint64_t size);
/* Make room for `size` more own bytes, where there is none. */
cf_status cf_frame_grow(cf_frame *f, size_t size);

static inline cf_status
cf_frame_reserve(cf_frame *f, size_t size)
{
    return f->room - f->used >= size ? CF_OK : cf_frame_grow(f, size);
}

/* Go through the finished frame from its beginning: *at is 0 at first, and true means
   that *data and *size are the next part of it. */
typedef struct {
    size_t own, piece;
} cf_frame_cursor;
bool cf_frame_next(const cf_frame *f, cf_frame_cursor *cursor, const void **data,
                   uint64_t *size);

/* ---- values ---- */

enum {
    CF_VALUE_NONE = 1, CF_VALUE_TRUE, CF_VALUE_FALSE,
    CF_VALUE_INT,               /* written in 1, 2, 4 or 8 bytes */
    CF_VALUE_FLOAT,
    /* Texts: a length in units, then the units.  Strings as CPython has them, in the
       narrowest kind; thus lone surrogates pass. */
    CF_VALUE_BYTES, CF_VALUE_ASCII, CF_VALUE_LATIN, CF_VALUE_UCS2, CF_VALUE_UCS4,
    CF_VALUE_SAME,              /* the number of an earlier kept text: the same object */
    CF_VALUE_INT1, CF_VALUE_INT2, CF_VALUE_INT4,    /* only as tags: short ints */
    CF_VALUE_TUPLE, CF_VALUE_LIST, CF_VALUE_DICT,   /* the number of items, of pairs */
    CF_VALUE_KINDS,
};

static inline bool
cf_value_is_container(unsigned kind)
{
    return kind >= CF_VALUE_TUPLE && kind <= CF_VALUE_DICT;
}

static inline bool
cf_value_is_text(unsigned kind)
{
    return kind >= CF_VALUE_BYTES && kind <= CF_VALUE_UCS4;
}

/* Bytes of one unit of a text. */
static inline unsigned
cf_value_unit(unsigned kind)
{
    return kind == CF_VALUE_UCS2 ? 2 : kind == CF_VALUE_UCS4 ? 4 : 1;
}

/* NONE, TRUE, FALSE */
static inline cf_status
cf_frame_constant(cf_frame *f, unsigned kind)
{
    cf_status status = cf_frame_reserve(f, 1);
    if (status == CF_OK) {
        f->own[f->used++] = (char)kind;
    }
    return status;
}

/* A tag and the `size` bytes of a number.  Inline, for a list may have a million. */
static inline void
cf_frame_number(cf_frame *f, unsigned tag, const void *number, size_t size)
{
    char *at = f->own + f->used;
    *at = (char)tag;
    memcpy(at + 1, number, size);
    f->used += 1 + size;
}

static inline cf_status
cf_frame_int(cf_frame *f, int64_t value)
{
    int8_t one = (int8_t)value;
    int16_t two = (int16_t)value;
    int32_t four = (int32_t)value;
    cf_status status = cf_frame_reserve(f, 9);
    if (status != CF_OK) {
        return status;
    }
    if (value == one) {
        cf_frame_number(f, CF_VALUE_INT1, &one, 1);
    }
    else if (value == two) {
        cf_frame_number(f, CF_VALUE_INT2, &two, 2);
    }
    else if (value == four) {
        cf_frame_number(f, CF_VALUE_INT4, &four, 4);
    }
    else {
        cf_frame_number(f, CF_VALUE_INT, &value, 8);
    }
    return CF_OK;
}

static inline cf_status
cf_frame_float(cf_frame *f, double value)
{
    cf_status status = cf_frame_reserve(f, 9);
    if (status == CF_OK) {
        cf_frame_number(f, CF_VALUE_FLOAT, &value, 8);
    }
    return status;
}

/* `kept`: the text gets the next number, and may come again as the same object. */
cf_status cf_frame_text(cf_frame *f, unsigned kind, bool kept, const void *data,
                        uint64_t length);
/* The same, for `data` that must stay until the frame is cleared: it may be referred to. */
cf_status cf_frame_lasting_text(cf_frame *f, unsigned kind, bool kept, const void *data,
                                uint64_t length);
cf_status cf_frame_same(cf_frame *f, uint64_t index);
cf_status cf_frame_container(cf_frame *f, unsigned kind, uint64_t count);

typedef struct {
    const unsigned char *at, *end;
    uint64_t kept;              /* texts so far that have a number */
} cf_reader;

typedef struct {
    unsigned kind;
    bool kept;                  /* of a text */
    union {
        int64_t integer;
        double real;
        uint64_t same;          /* less than the number of kept texts before it */
        uint64_t count;         /* so many items, or pairs, could be in the rest */
        struct {
            const void *data;   /* in the frame, not aligned */
            uint64_t length, bytes;
        } text;
    } as;
} cf_value;

void cf_reader_init(cf_reader *r, const void *frame, uint64_t size);
/* The next value.  CF_OK or CF_CORRUPT. */
cf_status cf_reader_next(cf_reader *r, cf_value *value);
/* The int of 1, 2 or 4 bytes behind this tag.  How many bytes; 0: another tag, or a writer
   would have taken a shorter form. */
static inline unsigned
cf_int_behind(unsigned tag, const unsigned char *at, int64_t *value)
{
    int8_t one;
    int16_t two;
    int32_t four;
    switch (tag) {
    case CF_VALUE_INT1:
        memcpy(&one, at, 1);
        *value = one;
        return 1;
    case CF_VALUE_INT2:
        memcpy(&two, at, 2);
        *value = two;
        return two == (int8_t)two ? 0 : 2;
    case CF_VALUE_INT4:
        memcpy(&four, at, 4);
        *value = four;
        return four == (int16_t)four ? 0 : 4;
    default:
        return 0;
    }
}

/* If such an int is next: it, read here, for a list may have a million.  False:
   cf_reader_next() is to look. */
static inline bool
cf_reader_int(cf_reader *r, int64_t *value)
{
    unsigned size = r->end - r->at < 5 ? 0 : cf_int_behind(*r->at, r->at + 1, value);
    r->at += size == 0 ? 0 : 1 + size;
    return size != 0;
}

/* Nothing may be left when all have been read.  CF_OK or CF_CORRUPT. */
cf_status cf_reader_end(const cf_reader *r);

/* Could CPython have made a string of this kind of these `length` aligned units?  (Not
   too wide, not too narrow, nothing behind U+10FFFF.)  `units` is a private copy. */
bool cf_text_fits(unsigned kind, const void *units, uint64_t length);

/* ---- the table of a pickle's buffers ---- */

#define CF_TABLE_ENTRY 32
#define CF_TABLE_END 8

cf_status cf_frame_buffer(cf_frame *f, const cf_place *place, bool readonly);
cf_status cf_frame_table_end(cf_frame *f, uint32_t count);

/* The last CF_TABLE_END bytes of a frame of `size` bytes say how many entries stand before
   them.  CF_OK or CF_CORRUPT. */
cf_status cf_table_count(const void *end, uint64_t size, uint32_t *count);

static inline uint64_t
cf_table_size(uint32_t count)
{
    return (uint64_t)count * CF_TABLE_ENTRY + CF_TABLE_END;
}

/* Entry `index` of a table that begins at `table`.  Where the place is is for the caller
   to check.  CF_OK or CF_CORRUPT. */
cf_status cf_table_entry(const void *table, uint32_t index, cf_place *place,
                         bool *readonly);

#endif
