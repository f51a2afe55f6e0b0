/* Messages of simple values: None, bool, int, float, str, bytes, of exactly these types.

   They arrive as pickle would deliver them.  Pickle knows str and bytes objects by their
   identity within a message, so f(a, a) gets one object twice; it does so for no int and
   no float. */
#include "procs/codec_parts.h"

/* ---- sending ---- */

static const uint8_t kind_of_strings[] = {
    [PyUnicode_1BYTE_KIND] = CF_VALUE_LATIN,
    [PyUnicode_2BYTE_KIND] = CF_VALUE_UCS2,
    [PyUnicode_4BYTE_KIND] = CF_VALUE_UCS4,
};

/* The number of the earlier value that is the same object, or `index`. */
static size_t
earlier(PyObject *const *values, size_t index)
{
    size_t i = 0;
    while (i < index && values[i] != values[index]) {
        i++;
    }
    return i;
}

static cf_status
write_text(cf_frame *frame, PyObject *const *values, size_t index)
{
    PyObject *value = values[index];
    size_t first = earlier(values, index);
    if (first < index) {
        return cf_frame_same(frame, (unsigned)first);
    }
    if (PyBytes_CheckExact(value)) {
        return cf_frame_text(frame, CF_VALUE_BYTES, PyBytes_AS_STRING(value),
                             (uint64_t)PyBytes_GET_SIZE(value));
    }
    unsigned kind = PyUnicode_IS_ASCII(value) ? CF_VALUE_ASCII
                                              : kind_of_strings[PyUnicode_KIND(value)];
    return cf_frame_text(frame, kind, PyUnicode_DATA(value),
                         (uint64_t)PyUnicode_GET_LENGTH(value));
}

/* CF_OK, CF_SYSTEM; CF_AGAIN: it is not simple. */
static cf_status
write_value(cf_frame *frame, PyObject *const *values, size_t index)
{
    PyObject *value = values[index];
    if (PyLong_CheckExact(value)) {
        int overflow;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
        return overflow ? CF_AGAIN : cf_frame_int(frame, number);
    }
    if (PyUnicode_CheckExact(value) || PyBytes_CheckExact(value)) {
        return write_text(frame, values, index);
    }
    if (PyFloat_CheckExact(value)) {
        return cf_frame_float(frame, PyFloat_AS_DOUBLE(value));
    }
    if (value == Py_None) {
        return cf_frame_constant(frame, CF_VALUE_NONE);
    }
    if (value == Py_True || value == Py_False) {
        return cf_frame_constant(frame, value == Py_True ? CF_VALUE_TRUE : CF_VALUE_FALSE);
    }
    return CF_AGAIN;
}

int
cf_simple_encode(cf_codec *codec, PyObject *const *values, size_t count,
                 cf_message *message)
{
    cf_frame frame;
    cf_frame_init(&frame, message->inlined, CF_SLOT_INLINE);
    cf_status status = CF_OK;
    for (size_t i = 0; i < count && status == CF_OK; i++) {
        status = write_value(&frame, values, i);
    }
    int r = 0;
    if (status == CF_OK) {
        message->codec = CF_CODEC_SIMPLE;
        message->count = (uint8_t)count;
        message->flags = 0;
        message->buffers = CF_NO_BLOCK;
        r = cf_codec_send(codec, &frame, message) < 0 ? -1 : 1;
    }
    else if (status == CF_SYSTEM) {
        PyErr_NoMemory();
        r = -1;
    }
    cf_frame_clear(&frame);
    return r;
}

/* ---- receiving ---- */

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
read_value(cf_codec *codec, cf_reader *reader, PyObject *const *values)
{
    cf_value value;
    if (cf_reader_next(reader, &value) != CF_OK) {
        return cf_codec_corrupt(codec);
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
    case CF_VALUE_BYTES:
        return read_bytes(&value);
    case CF_VALUE_SAME:
        return Py_NewRef(values[value.as.same]);
    default:
        return read_string(codec, &value);
    }
}

int
cf_simple_decode(cf_codec *codec, const cf_received *received, size_t count,
                 PyObject **values)
{
    cf_reader reader;
    cf_reader_init(&reader, received->data, received->size);
    for (size_t i = 0; i < count; i++) {
        values[i] = read_value(codec, &reader, values);
        if (values[i] == NULL) {
            count = i;
            goto failed;
        }
    }
    if (cf_reader_end(&reader) == CF_OK) {
        return 0;
    }
    cf_codec_corrupt(codec);
failed:
    for (size_t i = 0; i < count; i++) {
        Py_DECREF(values[i]);
    }
    return -1;
}
