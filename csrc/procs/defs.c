/* The parent's table of definitions.

   An entry belongs to a function object, which it does not keep alive: the callback of a
   weak reference removes it.  At most ENTRIES are kept, and at most BYTES in their blocks
   (but always the newest): the one that was used longest ago goes first.  So functions
   that are re-defined again and again, and are kept alive by each other, do not add up.

   Who describes a function (Python code, which can submit tasks and so come back here, and
   lets other threads run) holds nothing but references of its own; what it found out is
   put in the table as it is then. */
#include "procs/checks.h"
#include "procs/definition.h"

#define ENTRIES 256u
#define SPACE (2 * ENTRIES)             /* of the table; a power of two */
#define BYTES (256u << 20)

typedef cf_definition_block definition;     /* `holds`: the table's lock */

/* All of it belongs to the table's lock. */
typedef struct {
    PyObject *fn;                       /* borrowed, or owned if it takes no weak reference */
    PyObject *ref;                      /* weak reference, or NULL: `fn` is owned */
    definition *current;                /* one hold */
    cf_checks *checks;
    bool is_volatile;                   /* the checks do not tell everything */
    PyObject *survey;                   /* what describe() wants to see again; NULL: none */
    uint64_t key;                       /* the same for all definitions of this function */
    uint64_t used;                      /* when: the table's clock */
    uint64_t frozen;                    /* looked at during this freeze; 0: none */
} entry;

struct cf_defs {
    cf_state *st;
    cf_segment *seg;                    /* the pool's */
    cf_codec *codec;                    /* the pool's */
    PyObject *drop;                     /* callback of the weak references */
    /* In builds with a GIL that guards what follows; never held over Python code. */
    cf_spinlock lock;
    uint64_t last_number, last_key, clock;
    uint64_t freeze;                    /* counts cf_defs_freeze() */
    unsigned long freezer;              /* the thread that froze; 0: nobody */
    uint64_t bytes;                     /* in the blocks of the entries' definitions */
    uint32_t count;
    entry *table[SPACE];                /* open addressing, by address of `fn` */
};

static void
lock(cf_defs *defs)
{
    if (!CF_SERIALIZED) {
        cf_spinlock_lock(&defs->lock);
    }
}

static void
unlock(cf_defs *defs)
{
    if (!CF_SERIALIZED) {
        cf_spinlock_unlock(&defs->lock);
    }
}

/* ---- definitions ---- */

static void
definition_free(cf_defs *defs, definition *d)
{
    /* In a forked child the block is the parent's. */
    cf_definition_free(cf_load_relaxed(&defs->seg->mine) ? defs->codec : NULL, d);
}

static void
let_go(cf_defs *defs, definition *d)
{
    lock(defs);
    bool last = --d->holds == 0;
    unlock(defs);
    if (last) {
        definition_free(defs, d);
    }
}

void
cf_defs_release(cf_defs *defs, cf_definition *d)
{
    let_go(defs, cf_container_of(d, definition, public));
}

/* ---- freezing ---- */

bool
cf_defs_freeze(cf_defs *defs)
{
    lock(defs);
    bool mine = defs->freezer == 0;
    if (mine) {
        defs->freezer = PyThread_get_thread_ident();
        defs->freeze++;
    }
    unlock(defs);
    return mine;
}

void
cf_defs_thaw(cf_defs *defs)
{
    lock(defs);
    defs->freezer = 0;
    unlock(defs);
}

/* This thread's freeze, or 0.  The caller has the lock. */
static uint64_t
my_freeze(const cf_defs *defs)
{
    return defs->freezer != 0 && defs->freezer == PyThread_get_thread_ident()
           ? defs->freeze : 0;
}

/* ---- the table; the caller has the lock ---- */

static uint32_t
home_of(const PyObject *fn)
{
    /* Objects are aligned to 16; Fibonacci hashing spreads the rest. */
    return (uint32_t)((((uint64_t)(uintptr_t)fn >> 4) * 0x9e3779b97f4a7c15u) >> 32)
           & (SPACE - 1);
}

/* Where it is, or where it would go. */
static uint32_t
place_of(const cf_defs *defs, const PyObject *fn)
{
    uint32_t i = home_of(fn);
    while (defs->table[i] != NULL && defs->table[i]->fn != fn) {
        i = (i + 1) & (SPACE - 1);
    }
    return i;
}

static bool
is_alive(const entry *e)
{
    if (e->ref == NULL) {
        return true;
    }
#if PY_VERSION_HEX >= 0x030d0000
    PyObject *fn;
    bool alive = PyWeakref_GetRef(e->ref, &fn) > 0 && fn == e->fn;
    /* It is the caller's argument, or not looked at: this is never the last reference. */
    Py_XDECREF(fn);
    return alive;
#else
    return PyWeakref_GET_OBJECT(e->ref) == e->fn;
#endif
}

static entry *
find(cf_defs *defs, PyObject *fn)
{
    entry *e = defs->table[place_of(defs, fn)];
    return e != NULL && is_alive(e) ? e : NULL;
}

/* Take the entry at `i` out; what comes after it moves up where it may. */
static entry *
take_out(cf_defs *defs, uint32_t i)
{
    entry *e = defs->table[i];
    defs->table[i] = NULL;
    defs->count--;
    defs->bytes -= e->current->place.size;
    for (uint32_t j = (i + 1) & (SPACE - 1); defs->table[j] != NULL;
         j = (j + 1) & (SPACE - 1))
    {
        uint32_t home = home_of(defs->table[j]->fn);
        if (((j - home) & (SPACE - 1)) >= ((j - i) & (SPACE - 1))) {
            defs->table[i] = defs->table[j];
            defs->table[j] = NULL;
            i = j;
        }
    }
    return e;
}

/* An entry that has to go so that the table keeps to its limits, or NULL. */
static entry *
take_surplus(cf_defs *defs)
{
    if (defs->count <= ENTRIES && (defs->bytes <= BYTES || defs->count < 2)) {
        return NULL;
    }
    uint32_t oldest = SPACE;
    for (uint32_t i = 0; i < SPACE; i++) {
        if (defs->table[i] != NULL
            && (oldest == SPACE || defs->table[i]->used < defs->table[oldest]->used))
        {
            oldest = i;
        }
    }
    return take_out(defs, oldest);
}

/* ---- entries ---- */

/* It is in no table.  Can run Python code. */
static void
entry_free(cf_defs *defs, entry *e)
{
    if (e == NULL) {
        return;
    }
    if (e->ref == NULL) {
        Py_DECREF(e->fn);
    }
    Py_XDECREF(e->ref);
    Py_XDECREF(e->survey);
    if (e->checks != NULL) {
        cf_checks_decref(e->checks);
    }
    CF_GONE(definition_entry);
    if (e->current != NULL) {
        let_go(defs, e->current);
    }
    PyMem_Free(e);
}

static entry *
entry_new(cf_defs *defs, PyObject *fn)
{
    entry *e = PyMem_Calloc(1, sizeof *e);
    if (e == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    CF_BORN(definition_entry);
    e->fn = fn;
    e->ref = PyWeakref_NewRef(fn, defs->drop);
    if (e->ref == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
            CF_GONE(definition_entry);
            PyMem_Free(e);
            return NULL;
        }
        PyErr_Clear();          /* it takes none: a method of a built-in type */
        Py_INCREF(fn);
    }
    return e;
}

/* The callback: a function is garbage. */
static PyObject *
py_drop(PyObject *capsule, PyObject *ref)
{
    cf_defs *defs = PyCapsule_GetPointer(capsule, NULL);
    if (defs == NULL) {
        return NULL;
    }
    entry *e = NULL;
    lock(defs);
    for (uint32_t i = 0; e == NULL && i < SPACE; i++) {
        if (defs->table[i] != NULL && defs->table[i]->ref == ref) {
            e = take_out(defs, i);
        }
    }
    unlock(defs);
    entry_free(defs, e);
    Py_RETURN_NONE;
}

/* ---- life ---- */

cf_defs *
cf_defs_new(cf_state *st, cf_segment *seg, cf_codec *codec)
{
    static PyMethodDef drop = {"drop_definition", py_drop, METH_O, NULL};
    cf_defs *defs = PyMem_Calloc(1, sizeof *defs);
    if (defs == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    CF_BORN(definitions);
    defs->st = st;
    defs->seg = seg;
    defs->codec = codec;
    PyObject *capsule = PyCapsule_New(defs, NULL, NULL);
    if (capsule != NULL) {
        defs->drop = PyCFunction_New(&drop, capsule);
        Py_DECREF(capsule);
    }
    if (defs->drop == NULL) {
        CF_GONE(definitions);
        PyMem_Free(defs);
        return NULL;
    }
    return defs;
}

void
cf_defs_free(cf_defs *defs)
{
    for (uint32_t i = 0; i < SPACE; i++) {
        /* What is dropped here can take out others, through py_drop(). */
        while (defs->table[i] != NULL) {
            entry_free(defs, take_out(defs, i));
        }
    }
    CF_GONE(definitions);
    Py_DECREF(defs->drop);
    PyMem_Free(defs);
}

/* ---- describing ---- */

/* What describe() says; all but `checks` belongs to `whole`. */
typedef struct {
    PyObject *whole;            /* the tuple (owned) */
    PyObject *bytes;            /* or a tuple of parts; NULL: those of the last time */
    PyObject *name;
    PyObject *survey;           /* NULL: none */
    bool is_volatile;
    cf_checks *checks;          /* owned; NULL: handed on */
} description;

static void
description_clear(description *d)
{
    if (d->checks != NULL) {
        cf_checks_decref(d->checks);
    }
    Py_XDECREF(d->whole);
}

static int
description_read(description *d, PyObject *fn, PyObject *whole)     /* steals */
{
    PyObject *bytes, *checks, *survey;
    int is_volatile;
    *d = (description){.whole = whole};
    if (!PyTuple_Check(whole)) {
        PyErr_SetString(PyExc_TypeError, "describe() returned no tuple");
    }
    else if (PyArg_ParseTuple(whole, "OO!pUO", &bytes, &PyList_Type, &checks,
                              &is_volatile, &d->name, &survey))
    {
        d->bytes = bytes == Py_None ? NULL : bytes;
        d->is_volatile = is_volatile;
        d->survey = survey == Py_None ? NULL : survey;
        d->checks = cf_checks_new(checks, fn);
        if (d->checks != NULL) {
            return 0;
        }
    }
    description_clear(d);
    return -1;
}

/* Put what was found out in the table.  `current` is what `d` says, whose hold is the
   caller's; the entry has one of its own. */
static int
enter(cf_defs *defs, PyObject *fn, uint64_t key, description *d, definition *current)
{
    entry *fresh = entry_new(defs, fn);
    if (fresh == NULL) {
        return -1;
    }
    fresh->current = current;
    fresh->checks = d->checks;
    d->checks = NULL;
    fresh->is_volatile = d->is_volatile;
    fresh->survey = Py_XNewRef(d->survey);
    fresh->key = key;
    lock(defs);
    current->holds++;
    uint32_t i = place_of(defs, fn);
    entry *old = defs->table[i] == NULL ? NULL : take_out(defs, i);
    defs->table[place_of(defs, fn)] = fresh;
    defs->count++;
    defs->bytes += current->place.size;
    fresh->used = ++defs->clock;
    fresh->frozen = my_freeze(defs);
    unlock(defs);
    entry_free(defs, old);
    for (;;) {
        lock(defs);
        entry *surplus = take_surplus(defs);
        unlock(defs);
        if (surplus == NULL) {
            return 0;
        }
        entry_free(defs, surplus);
    }
}

static void
forget(cf_defs *defs, PyObject *fn)
{
    lock(defs);
    uint32_t i = place_of(defs, fn);
    entry *old = defs->table[i] == NULL ? NULL : take_out(defs, i);
    unlock(defs);
    entry_free(defs, old);
}

/* What the table knows of the function. */
typedef struct {
    definition *current;        /* held; NULL: nothing is known but `key` */
    cf_checks *checks;          /* owned, as is the survey */
    PyObject *survey;
    bool is_volatile;           /* and not frozen */
    uint64_t key;
} known;

static known
look_up(cf_defs *defs, PyObject *fn)
{
    known k = {0};
    lock(defs);
    entry *e = find(defs, fn);
    if (e != NULL) {
        e->used = ++defs->clock;
        k.current = e->current;
        k.current->holds++;
        k.checks = e->checks;
        cf_checks_incref(k.checks);
        k.survey = Py_XNewRef(e->survey);
        k.is_volatile = e->is_volatile && (e->frozen == 0 || e->frozen != my_freeze(defs));
        k.key = e->key;
    }
    else {
        k.key = ++defs->last_key;
    }
    unlock(defs);
    return k;
}

static void
known_clear(cf_defs *defs, known *k)
{
    if (k->checks != NULL) {
        cf_checks_decref(k->checks);
    }
    Py_XDECREF(k->survey);
    if (k->current != NULL) {
        let_go(defs, k->current);
    }
}

/* The definition, held: k->current, whose hold goes to the caller. */
static definition *
take_current(known *k)
{
    definition *d = k->current;
    k->current = NULL;
    return d;
}

/* Describe `fn`; the definition, held, in *out, or NULL there.  0 or -1. */
static int
renew(cf_defs *defs, PyObject *fn, known *k, bool checked, definition **out)
{
    PyObject *args[] = {NULL, fn, k->survey == NULL ? Py_None : k->survey,
                        checked ? Py_True : Py_False};
    PyObject *whole = PyObject_Vectorcall(defs->st->describe, args + 1,
                                          3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (whole == NULL) {
        return -1;
    }
    if (whole == Py_None) {
        Py_DECREF(whole);
        forget(defs, fn);
        return 0;
    }
    if (whole == k->survey) {
        Py_DECREF(whole);
        lock(defs);
        entry *e = find(defs, fn);
        if (e != NULL && e->current == k->current) {
            e->frozen = my_freeze(defs);
        }
        unlock(defs);
        *out = take_current(k);
        return 0;
    }
    description d;
    if (description_read(&d, fn, whole) < 0) {
        return -1;
    }
    int r = 0;
    if (d.bytes != NULL) {
        r = cf_definition_new(defs->codec, k->key, d.bytes, d.name, out);
        if (*out != NULL) {
            lock(defs);
            (*out)->public.number = ++defs->last_number;
            unlock(defs);
        }
    }
    else if (k->current != NULL) {
        *out = take_current(k);
    }
    if (*out != NULL && enter(defs, fn, k->key, &d, *out) < 0) {
        let_go(defs, *out);
        *out = NULL;
        r = -1;
    }
    description_clear(&d);
    return r;
}

/* ---- for each task ---- */

int
cf_defs_hold(cf_defs *defs, PyObject *fn, cf_definition **out)
{
    *out = NULL;
    if (PyMethod_Check(fn) || defs->st->describe == NULL) {
        return 0;
    }
    known k = look_up(defs, fn);
    definition *d = NULL;
    int r = 0;
    bool checked = k.checks != NULL && cf_checks_hold(k.checks);
    if (checked && !k.is_volatile) {
        d = take_current(&k);
    }
    else {
        r = renew(defs, fn, &k, checked, &d);
    }
    /* What is dropped may run Python code: with the exception put by. */
    PyObject *exc = r < 0 ? PyErr_GetRaisedException() : NULL;
    known_clear(defs, &k);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
    *out = d == NULL ? NULL : &d->public;
    return r;
}
