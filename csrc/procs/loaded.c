/* A worker's cache of functions that it has loaded: most recently used first.

   A function whose globals or classes were set by loading it (procs/defs.h,
   cfutures._byvalue) may find other values there when it is used again, because another
   definition has set them since.  _byvalue.EPOCH[0] is another object after each such
   change; then the entry's `is_current` looks closer, and if it says no, the function is
   loaded again.

   All of it is the main thread's. */
#include "procs/defs.h"

#include <string.h>

#define ENTRIES 128
#define BYTES (256u << 20)          /* of definitions; what they load to may be more */

typedef struct {
    uint64_t number, key, size;
    PyObject *fn;
    PyObject *is_current;           /* NULL: it always is */
    PyObject *epoch;                /* EPOCH[0] when it was current; NULL: not known */
} loaded_entry;

struct cf_loaded {
    cf_state *st;
    cf_segment *seg;                /* the worker's */
    PyObject *epoch;                /* list: _byvalue.EPOCH; NULL: nothing needs it so far */
    uint32_t count;
    uint64_t bytes;
    loaded_entry entries[ENTRIES];
};

cf_loaded *
cf_loaded_new(cf_state *st, cf_segment *seg)
{
    cf_loaded *loaded = PyMem_Calloc(1, sizeof *loaded);
    if (loaded == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    CF_BORN(loaded);
    loaded->st = st;
    loaded->seg = seg;
    return loaded;
}

/* What is dropped may run Python code, which cannot come back here. */
static void
remove_at(cf_loaded *loaded, uint32_t i)
{
    loaded_entry e = loaded->entries[i];
    loaded->count--;
    loaded->bytes -= e.size;
    memmove(&loaded->entries[i], &loaded->entries[i + 1],
            (loaded->count - i) * sizeof(loaded_entry));
    Py_DECREF(e.fn);
    Py_XDECREF(e.is_current);
    Py_XDECREF(e.epoch);
}

void
cf_loaded_free(cf_loaded *loaded)
{
    while (loaded->count > 0) {
        remove_at(loaded, loaded->count - 1);
    }
    Py_XDECREF(loaded->epoch);
    CF_GONE(loaded);
    PyMem_Free(loaded);
}

static void
move_to_front(cf_loaded *loaded, uint32_t i)
{
    loaded_entry e = loaded->entries[i];
    memmove(&loaded->entries[1], &loaded->entries[0], i * sizeof(loaded_entry));
    loaded->entries[0] = e;
}

/* 1, 0; -1 with an exception. */
static int
entry_is_current(cf_loaded *loaded, loaded_entry *e)
{
    if (e->is_current == NULL) {
        return 1;
    }
    PyObject *epoch = PyList_GetItem(loaded->epoch, 0);     /* borrowed */
    if (epoch == NULL) {
        return -1;
    }
    if (epoch == e->epoch) {
        return 1;
    }
    PyObject *answer = PyObject_CallNoArgs(e->is_current);
    if (answer == NULL) {
        return -1;
    }
    int current = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    if (current > 0) {
        Py_XSETREF(e->epoch, Py_XNewRef(PyList_GetItem(loaded->epoch, 0)));
        return e->epoch == NULL ? -1 : 1;
    }
    return current;
}

/* ---- loading ---- */

/* The bytes of a definition: the address is the parent's word, but other processes could
   have written over it. */
static const char *
find_bytes(const cf_segment *seg, uint64_t at, uint64_t *key, uint64_t *size)
{
    uint64_t head[2];
    if (at >= seg->arenas && at % sizeof head[0] == 0 && at <= seg->bytes - sizeof head) {
        const char *data = cf_segment_at(seg, at);
        memcpy(head, data, sizeof head);
        if (head[0] <= seg->bytes - sizeof head - at) {
            *size = head[0];
            *key = head[1];
            return data + sizeof head;
        }
    }
    PyErr_SetString(PyExc_RuntimeError,
                    "the function in the memory shared by the processes of the "
                    "pool is damaged; something wrote over it");
    return NULL;
}

static PyObject *
load(cf_loaded *loaded, const char *data, uint64_t size)
{
    /* The block is the parent's, who keeps it as long as the task is not done. */
    PyObject *view = PyMemoryView_FromMemory((char *)data, (Py_ssize_t)size, PyBUF_READ);
    if (view == NULL) {
        return NULL;
    }
    PyObject *made = PyObject_CallOneArg(loaded->st->load_definition, view);
    Py_DECREF(view);
    return made;
}

static int
entry_init(cf_loaded *loaded, loaded_entry *e, PyObject *made)      /* steals */
{
    if (PyTuple_CheckExact(made)) {
        PyObject *fn, *is_current, *epoch;
        if (!PyArg_ParseTuple(made, "OOO!", &fn, &is_current, &PyList_Type, &epoch)) {
            Py_DECREF(made);
            return -1;
        }
        Py_XSETREF(loaded->epoch, Py_NewRef(epoch));
        e->fn = Py_NewRef(fn);
        e->is_current = Py_NewRef(is_current);
        Py_DECREF(made);
        return 0;
    }
    e->fn = made;
    return 0;
}

static PyObject *
load_entry(cf_loaded *loaded, uint64_t number, uint64_t at)
{
    loaded_entry e = {.number = number};
    const char *data = find_bytes(loaded->seg, at, &e.key, &e.size);
    PyObject *made = data == NULL ? NULL : load(loaded, data, e.size);
    if (made == NULL || entry_init(loaded, &e, made) < 0) {
        return NULL;
    }
    /* An older definition of the same function will not be wanted again, as a rule. */
    for (uint32_t i = loaded->count; i-- > 0; ) {
        if (loaded->entries[i].key == e.key) {
            remove_at(loaded, i);
        }
    }
    while (loaded->count == ENTRIES
           || (loaded->count > 0 && loaded->bytes + e.size > BYTES))
    {
        remove_at(loaded, loaded->count - 1);
    }
    memmove(&loaded->entries[1], &loaded->entries[0],
            loaded->count * sizeof(loaded_entry));
    loaded->entries[0] = e;
    loaded->count++;
    loaded->bytes += e.size;
    return Py_NewRef(e.fn);
}

PyObject *
cf_loaded_get(cf_loaded *loaded, uint64_t number, uint64_t at)
{
    for (uint32_t i = 0; i < loaded->count; i++) {
        if (loaded->entries[i].number != number) {
            continue;
        }
        if (i != 0) {
            move_to_front(loaded, i);
        }
        int current = entry_is_current(loaded, &loaded->entries[0]);
        if (current < 0) {
            return NULL;
        }
        if (current) {
            return Py_NewRef(loaded->entries[0].fn);
        }
        remove_at(loaded, 0);
        break;
    }
    return load_entry(loaded, number, at);
}
