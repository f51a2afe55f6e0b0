/* Sending simple values: None, bool, int, float, str, bytes, and tuples, lists and dicts
   of simple values, of exactly these types.

   They arrive as pickle would deliver them.  Pickle knows objects by their identity within
   a message: f(a, a) gets one object twice (but for ints and floats, where nobody can
   tell).  Strings and bytes that come again are therefore written as references to the
   first.  A container that comes again, which may be a cycle, is left to pickle, as is
   what is nested deeply.

   No Python code runs here, so a build with a GIL sees each container as it is at one
   instant.  Without a GIL that would take locks: containers are left to pickle there. */
#include "procs/memo.h"
#include "procs/simple.h"

/* The number of a container in the memo; texts count from 0. */
#define CONTAINER UINT64_MAX
/* A text that is not an argument itself is copied at once, for another thread could drop
   it while the frame is sent; not if it is as large as this (64 KiB). */
#define NESTED_TEXT_MAX (64 * 1024)

typedef struct {
    cf_frame frame;
    cf_memo memo;
    uint64_t kept;                  /* texts that have a number */
    bool single;                    /* the message is of one value: if a text, it is alone */
} writer;

static const uint8_t kind_of_strings[] = {
    [PyUnicode_1BYTE_KIND] = CF_VALUE_LATIN,
    [PyUnicode_2BYTE_KIND] = CF_VALUE_UCS2,
    [PyUnicode_4BYTE_KIND] = CF_VALUE_UCS4,
};

/* Could the object come again?  A container has a reference of its own to each item; a
   caller's arguments may be borrowed. */
static inline bool
may_repeat(PyObject *value, unsigned depth)
{
    return depth == 0 || Py_REFCNT(value) > 1;
}

static cf_status
write_text(writer *w, PyObject *value, unsigned depth)
{
    bool kept = may_repeat(value, depth) && !(depth == 0 && w->single);
    if (kept) {
        uint64_t number = w->kept;
        cf_status status = cf_memo_find_or_add(&w->memo, value, &number);
        if (status == CF_OK) {
            return cf_frame_same(&w->frame, number);
        }
        if (status != CF_AGAIN) {
            return status;
        }
        w->kept++;
    }
    unsigned kind;
    const void *data;
    Py_ssize_t length;
    if (PyBytes_CheckExact(value)) {
        kind = CF_VALUE_BYTES;
        data = PyBytes_AS_STRING(value);
        length = PyBytes_GET_SIZE(value);
    }
    else {
        kind = PyUnicode_IS_ASCII(value) ? CF_VALUE_ASCII
                                         : kind_of_strings[PyUnicode_KIND(value)];
        data = PyUnicode_DATA(value);
        length = PyUnicode_GET_LENGTH(value);
    }
    if (depth == 0) {
        return cf_frame_lasting_text(&w->frame, kind, kept, data, (uint64_t)length);
    }
    return (uint64_t)length * cf_value_unit(kind) >= NESTED_TEXT_MAX ? CF_AGAIN
           : cf_frame_text(&w->frame, kind, kept, data, (uint64_t)length);
}

static cf_status write_other(writer *w, PyObject *value, unsigned depth);

/* CF_OK, CF_SYSTEM; CF_AGAIN: it is not simple.  Inline for ints: a list may have a million. */
static inline cf_status
write_value(writer *w, PyObject *value, unsigned depth)
{
    int64_t number;
    return PyLong_CheckExact(value) && cf_short_int(value, &number)
           ? cf_frame_int(&w->frame, number) : write_other(w, value, depth);
}

static cf_status
write_items(writer *w, unsigned kind, PyObject *const *items, Py_ssize_t count,
            unsigned depth)
{
    cf_status status = cf_frame_container(&w->frame, kind, (uint64_t)count);
    for (Py_ssize_t i = 0; i < count && status == CF_OK; i++) {
        status = write_value(w, items[i], depth + 1);
    }
    return status;
}

static cf_status
write_dict(writer *w, PyObject *dict, unsigned depth)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    cf_status status = cf_frame_container(&w->frame, CF_VALUE_DICT,
                                          (uint64_t)PyDict_GET_SIZE(dict));
    while (status == CF_OK && PyDict_Next(dict, &at, &key, &value)) {
        status = write_value(w, key, depth + 1);
        if (status == CF_OK) {
            status = write_value(w, value, depth + 1);
        }
    }
    return status;
}

static cf_status
write_container(writer *w, PyObject *value, unsigned depth)
{
    bool tuple = PyTuple_CheckExact(value), list = PyList_CheckExact(value);
    if (!CF_CONTAINERS_STAY || depth >= CF_SIMPLE_DEPTH
        || !(tuple || list || PyDict_CheckExact(value)))
    {
        return CF_AGAIN;
    }
    /* There is one empty tuple, which no memo knows. */
    if (may_repeat(value, depth) && !(tuple && PyTuple_GET_SIZE(value) == 0)) {
        uint64_t number = CONTAINER;
        cf_status status = cf_memo_find_or_add(&w->memo, value, &number);
        if (status != CF_AGAIN) {
            return status == CF_OK ? CF_AGAIN : status;
        }
    }
    if (tuple) {
        return write_items(w, CF_VALUE_TUPLE, ((PyTupleObject *)value)->ob_item,
                           PyTuple_GET_SIZE(value), depth);
    }
    if (list) {
        return write_items(w, CF_VALUE_LIST, ((PyListObject *)value)->ob_item,
                           PyList_GET_SIZE(value), depth);
    }
    return write_dict(w, value, depth);
}

static cf_status
write_other(writer *w, PyObject *value, unsigned depth)
{
    if (PyLong_CheckExact(value)) {
        int overflow;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
        return overflow ? CF_AGAIN : cf_frame_int(&w->frame, number);
    }
    if (PyUnicode_CheckExact(value) || PyBytes_CheckExact(value)) {
        return write_text(w, value, depth);
    }
    if (PyFloat_CheckExact(value)) {
        return cf_frame_float(&w->frame, PyFloat_AS_DOUBLE(value));
    }
    if (value == Py_None) {
        return cf_frame_constant(&w->frame, CF_VALUE_NONE);
    }
    if (value == Py_True || value == Py_False) {
        return cf_frame_constant(&w->frame,
                                 value == Py_True ? CF_VALUE_TRUE : CF_VALUE_FALSE);
    }
    return write_container(w, value, depth);
}

/* Keyword arguments: a dict behind the positional ones. */
static cf_status
write_keywords(writer *w, PyObject *const *values, PyObject *names)
{
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    cf_status status = cf_frame_container(&w->frame, CF_VALUE_DICT, (uint64_t)count);
    for (Py_ssize_t i = 0; i < count && status == CF_OK; i++) {
        status = write_value(w, PyTuple_GET_ITEM(names, i), 0);
        if (status == CF_OK) {
            status = write_value(w, values[i], 0);
        }
    }
    return status;
}

int
cf_simple_encode(cf_codec *codec, PyObject *const *values, size_t count, PyObject *names,
                 cf_message *message)
{
    writer w;       /* not `= {0}`: most of it is never looked at */
    w.kept = 0;
    w.single = count == 1 && names == NULL;
    cf_frame_init(&w.frame, message->inlined, CF_SLOT_INLINE);
    cf_memo_init(&w.memo);
    cf_status status = CF_OK;
    for (size_t i = 0; i < count && status == CF_OK; i++) {
        status = write_value(&w, values[i], 0);
    }
    if (status == CF_OK && names != NULL) {
        status = write_keywords(&w, values + count, names);
    }
    cf_memo_clear(&w.memo);
    int r = 0;
    if (status == CF_OK) {
        message->codec = CF_CODEC_SIMPLE;
        message->count = (uint8_t)count;
        message->flags = names != NULL ? CF_CALL_WITH_KWARGS : 0;
        message->buffers = CF_NO_BLOCK;
        r = cf_codec_send(codec, &w.frame, message) < 0 ? -1 : 1;
    }
    else if (status == CF_SYSTEM) {
        PyErr_NoMemory();
        r = -1;
    }
    cf_frame_clear(&w.frame);
    return r;
}
