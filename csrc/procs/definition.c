#include "procs/definition.h"

#include "procs/codec_parts.h"

void
cf_definition_free(cf_codec *codec, cf_definition_block *d)
{
    if (codec != NULL) {
        cf_codec_free_block(codec, &d->place);
    }
    CF_GONE(definition_block);
    Py_DECREF(d->public.name);
    PyMem_Free(d);
}

/* ---- their content ---- */

/* The bytes of a definition: one object, or a tuple of parts. */
typedef struct {
    Py_ssize_t count;
    uint64_t size;
    Py_buffer views[];
} content;

static void
content_free(content *c)
{
    while (c->count > 0) {
        PyBuffer_Release(&c->views[--c->count]);
    }
    CF_GONE(definition_content);
    PyMem_Free(c);
}

static content *
content_open(PyObject *bytes)
{
    Py_ssize_t count = PyTuple_Check(bytes) ? PyTuple_GET_SIZE(bytes) : 1;
    content *c = PyMem_Malloc(sizeof *c + (size_t)count * sizeof(Py_buffer));
    if (c == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    CF_BORN(definition_content);
    c->size = 0;
    for (c->count = 0; c->count < count; c->count++) {
        Py_buffer *view = &c->views[c->count];
        PyObject *part = PyTuple_Check(bytes) ? PyTuple_GET_ITEM(bytes, c->count) : bytes;
        if (PyObject_GetBuffer(part, view, PyBUF_ANY_CONTIGUOUS) < 0) {
            content_free(c);
            return NULL;
        }
        c->size += (uint64_t)view->len;
    }
    return c;
}

/* In memory: size, the entry's key, bytes.  0; or -1 with an exception. */
static int
fill(cf_codec *codec, const cf_place *place, bool warm, uint64_t key, const content *c)
{
    uint64_t head[2] = {c->size, key}, at = sizeof head;
    int r = cf_codec_fill(codec, place, warm, 0, head, sizeof head);
    for (Py_ssize_t i = 0; r == 0 && i < c->count; i++) {
        uint64_t size = (uint64_t)c->views[i].len;
        r = cf_codec_fill(codec, place, warm, at, c->views[i].buf, size);
        at += size;
    }
    return r;
}

/* ---- definitions ---- */

static int
definition_make(cf_codec *codec, uint64_t key, const content *c, PyObject *name,
                cf_definition_block **out)
{
    cf_definition_block *d = PyMem_Calloc(1, sizeof *d);
    if (d == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    CF_BORN(definition_block);
    bool warm;
    if (cf_codec_alloc(codec, sizeof(uint64_t[2]) + c->size, &d->place, &warm) != CF_OK) {
        CF_GONE(definition_block);
        PyMem_Free(d);
        return 0;
    }
    d->holds = 1;
    d->public.at = d->place.offset;
    d->public.name = Py_NewRef(name);
    if (fill(codec, &d->place, warm, key, c) < 0) {
        cf_definition_free(codec, d);
        return -1;
    }
    *out = d;
    return 0;
}

int
cf_definition_new(cf_codec *codec, uint64_t key, PyObject *bytes, PyObject *name,
                  cf_definition_block **out)
{
    *out = NULL;
    content *c = content_open(bytes);
    if (c == NULL) {
        return -1;
    }
    int r = definition_make(codec, key, c, name, out);
    content_free(c);
    return r;
}
