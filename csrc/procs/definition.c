#include "procs/definition.h"

#include <errno.h>

#include "py/block.h"

#define LARGE_COPY (256 * 1024)         /* from here on without the GIL */

/* ---- blocks ---- */

typedef struct {
    uint64_t size;
    uint32_t block;
    cf_place place;
    bool warm;
    cf_arena *arena;
    cf_status status;
} arena_request;

static void
arena_alloc(cf_arena *arena, void *arg)
{
    arena_request *r = arg;
    r->arena = arena;
    r->status = arena == NULL ? CF_AGAIN
                              : cf_arena_alloc(arena, r->size, &r->place, &r->warm);
}

static void
arena_free(cf_arena *arena, void *arg)
{
    cf_arena_free(arena, ((arena_request *)arg)->block);
}

void
cf_definition_free(cf_codec *codec, cf_definition_block *d)
{
    if (codec != NULL) {
        arena_request r = {.block = d->block};
        cf_codec_with_arena(codec, arena_free, &r);
    }
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
fill(const arena_request *r, uint64_t key, const content *c)
{
    uint64_t head[2] = {c->size, key}, at = sizeof head;
    /* The arena is there as long as its pool, which the caller keeps. */
    PyThreadState *ts = c->size >= LARGE_COPY ? cf_gil_release() : NULL;
    cf_status status = cf_arena_fill(r->arena, &r->place, r->warm, 0, head, sizeof head);
    for (Py_ssize_t i = 0; status == CF_OK && i < c->count; i++) {
        uint64_t size = (uint64_t)c->views[i].len;
        status = cf_arena_fill(r->arena, &r->place, r->warm, at, c->views[i].buf, size);
        at += size;
    }
    int saved_errno = errno;
    if (ts != NULL) {
        cf_gil_take(ts);
    }
    if (status != CF_OK) {
        errno = saved_errno;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
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
    d->size = sizeof(uint64_t[2]) + c->size;
    arena_request r = {.size = d->size};
    cf_codec_with_arena(codec, arena_alloc, &r);
    if (r.status != CF_OK) {
        PyMem_Free(d);
        return 0;
    }
    d->block = r.place.block;
    d->holds = 1;
    d->public.at = r.place.offset;
    d->public.name = Py_NewRef(name);
    if (fill(&r, key, c) < 0) {
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
