/* Receiving simple values.  The frame may be damaged: whatever it says is checked, and
   what no sender can have written is refused. */
#include <stdlib.h>
#include <string.h>

#include "procs/simple.h"

/* The kept texts so far, each with a reference. */
#define FEW 16
typedef struct {
    cf_codec *codec;
    cf_reader reader;
    PyObject **kept;            /* `few`, or from malloc */
    size_t used, room;
    PyObject *few[FEW];
} simple_reader;

static int
keep(simple_reader *r, PyObject *text)
{
    if (r->used == r->room) {
        size_t room = 2 * r->room;
        PyObject **kept = realloc(r->kept == r->few ? NULL : r->kept,
                                  room * sizeof(PyObject *));
        if (kept == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        if (r->kept == r->few) {
            memcpy(kept, r->few, sizeof(r->few));
        }
        r->kept = kept;
        r->room = room;
    }
    r->kept[r->used++] = Py_NewRef(text);
    return 0;
}

static PyObject *
read_bytes(const cf_value *value)
{
    Py_ssize_t length = (Py_ssize_t)value->as.text.length;
    if (length < CF_LARGE_COPY) {
        return PyBytes_FromStringAndSize(value->as.text.data, length);
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, length);
    if (bytes != NULL) {
        cf_codec_copy(PyBytes_AS_STRING(bytes), value->as.text.data, value->as.text.bytes);
    }
    return bytes;
}

/* The string is checked where nobody else can write, and nobody has seen it before. */
static PyObject *
read_string(cf_codec *codec, const cf_value *value)
{
    static const Py_UCS4 highest[] = {
        [CF_VALUE_ASCII] = 0x7f, [CF_VALUE_LATIN] = 0xff,
        [CF_VALUE_UCS2] = 0xffff, [CF_VALUE_UCS4] = 0x10ffff,
    };
    uint64_t length = value->as.text.length;
    if (length == 1 && value->kind <= CF_VALUE_LATIN) {
        /* CPython has each of these once. */
        unsigned char unit = *(const unsigned char *)value->as.text.data;
        return cf_text_fits(value->kind, &unit, 1) ? PyUnicode_FromOrdinal(unit)
                                                   : cf_codec_corrupt(codec);
    }
    if (length == 0 && value->kind != CF_VALUE_ASCII) {
        return cf_codec_corrupt(codec);
    }
    PyObject *string = PyUnicode_New((Py_ssize_t)length, highest[value->kind]);
    if (string == NULL || length == 0) {
        return string;
    }
    void *units = PyUnicode_DATA(string);
    cf_codec_copy(units, value->as.text.data, value->as.text.bytes);
    if (!cf_text_fits(value->kind, units, length)) {
        Py_DECREF(string);
        return cf_codec_corrupt(codec);
    }
    return string;
}

static PyObject *
read_text(simple_reader *r, const cf_value *value)
{
    PyObject *text = value->kind == CF_VALUE_BYTES ? read_bytes(value)
                                                   : read_string(r->codec, value);
    if (text != NULL && value->kept && keep(r, text) < 0) {
        Py_CLEAR(text);
    }
    return text;
}

static PyObject *read_value(simple_reader *r, unsigned depth);

static PyObject *
read_tuple(simple_reader *r, Py_ssize_t count, unsigned depth)
{
    PyObject *tuple = PyTuple_New(count);
    for (Py_ssize_t i = 0; tuple != NULL && i < count; i++) {
        PyObject *item = read_value(r, depth);
        if (item == NULL) {
            Py_CLEAR(tuple);
            break;
        }
        PyTuple_SET_ITEM(tuple, i, item);
    }
    return tuple;
}

static PyObject *
read_list(simple_reader *r, Py_ssize_t count, unsigned depth)
{
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        PyObject *item = read_value(r, depth);
        if (item == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, item);
    }
    return list;
}

/* A key without a hash comes from no sender. */
static int
set_item(simple_reader *r, PyObject *dict, PyObject *key, PyObject *value)
{
    int status = PyDict_SetItem(dict, key, value);
    if (status < 0 && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        cf_codec_corrupt(r->codec);
    }
    return status;
}

/* Room for `count` items at once spares the dict from growing step by step.  Not for
   strings as keys: CPython has a smaller table for these, which only grows. */
static PyObject *
new_dict(PyObject *first_key, Py_ssize_t count)
{
    return PyUnicode_CheckExact(first_key) ? PyDict_New() : cf_new_dict(count);
}

static PyObject *
read_dict(simple_reader *r, Py_ssize_t count, unsigned depth)
{
    if (count == 0) {
        return PyDict_New();
    }
    PyObject *dict = NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *key = read_value(r, depth);
        PyObject *value = key == NULL ? NULL : read_value(r, depth);
        bool done = value != NULL && (i > 0 || (dict = new_dict(key, count)) != NULL)
                    && set_item(r, dict, key, value) == 0;
        Py_XDECREF(key);
        Py_XDECREF(value);
        if (!done) {
            Py_XDECREF(dict);
            return NULL;
        }
    }
    return dict;
}

static PyObject *
read_value(simple_reader *r, unsigned depth)
{
    cf_value value;
    if (cf_reader_int(&r->reader, &value.as.integer)) {
        return PyLong_FromLong(value.as.integer);
    }
    if (cf_reader_next(&r->reader, &value) != CF_OK) {
        return cf_codec_corrupt(r->codec);
    }
    switch (value.kind) {
    case CF_VALUE_NONE:
        Py_RETURN_NONE;
    case CF_VALUE_TRUE:
        Py_RETURN_TRUE;
    case CF_VALUE_FALSE:
        Py_RETURN_FALSE;
    case CF_VALUE_INT:
        return PyLong_FromLongLong(value.as.integer);
    case CF_VALUE_FLOAT:
        return PyFloat_FromDouble(value.as.real);
    case CF_VALUE_SAME:
        return Py_NewRef(r->kept[value.as.same]);
    default:
        break;
    }
    if (cf_value_is_text(value.kind)) {
        return read_text(r, &value);
    }
    if (depth == CF_SIMPLE_DEPTH) {
        return cf_codec_corrupt(r->codec);
    }
    /* Not more than the bytes that are left, so it fits. */
    Py_ssize_t count = (Py_ssize_t)value.as.count;
    return value.kind == CF_VALUE_TUPLE ? read_tuple(r, count, depth + 1)
           : value.kind == CF_VALUE_LIST ? read_list(r, count, depth + 1)
                                         : read_dict(r, count, depth + 1);
}

int
cf_simple_decode(cf_codec *codec, const cf_received *received, size_t count,
                 PyObject **values)
{
    simple_reader r;
    r.codec = codec;
    r.kept = r.few;
    r.used = 0;
    r.room = FEW;
    cf_reader_init(&r.reader, received->data, received->size);
    size_t got = 0;
    while (got < count && (values[got] = read_value(&r, 0)) != NULL) {
        got++;
    }
    bool whole = got == count && cf_reader_end(&r.reader) == CF_OK;
    if (!whole) {
        if (got == count) {
            cf_codec_corrupt(codec);
        }
        while (got > 0) {
            Py_DECREF(values[--got]);
        }
    }
    while (r.used > 0) {
        Py_DECREF(r.kept[--r.used]);
    }
    if (r.kept != r.few) {
        free(r.kept);
    }
    return whole ? 0 : -1;
}
