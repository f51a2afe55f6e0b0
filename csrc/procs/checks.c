#include "procs/checks.h"

#include "procs/code.h"

typedef struct {
    uint8_t kind;
    bool owns_container, owns_value;
    PyObject *container;
    PyObject *key;              /* owned; NULL: none */
    PyObject *value;            /* UNSENT: its type */
    Py_ssize_t number;          /* of a cell; how many items */
    uintptr_t address;          /* UNSENT */
} check;

/* Nothing in it changes but `refs`. */
struct cf_checks {
    cf_word refs;
    Py_ssize_t count;
    check items[];
};

/* ---- life ---- */

static bool
kind_fits(int kind, PyObject *container, PyObject *key, PyObject *value)
{
    switch (kind) {
    case CF_CHECK_ITEM:
    case CF_CHECK_NO_ITEM:
    case CF_CHECK_UNSENT:
        return PyDict_Check(container) && PyUnicode_CheckExact(key);
    case CF_CHECK_CELL:
    case CF_CHECK_EMPTY_CELL:
        return PyFunction_Check(container) && PyLong_CheckExact(key);
    case CF_CHECK_CODE:
    case CF_CHECK_DEFAULTS:
    case CF_CHECK_KWDEFAULTS:
        return PyFunction_Check(container);
    case CF_CHECK_ATTRIBUTES:
        return PyFunction_Check(container) && PyLong_CheckExact(value);
    case CF_CHECK_CLASS_ITEM:
        return PyType_Check(container) && PyUnicode_CheckExact(key);
    case CF_CHECK_CLASS_SIZE:
        return PyType_Check(container) && PyLong_CheckExact(value);
    case CF_CHECK_SIZE:
        return PyDict_Check(container) && PyLong_CheckExact(value);
    default:
        return false;
    }
}

static int
check_init(check *c, PyObject *tuple, PyObject *fn)
{
    int kind;
    PyObject *container, *key, *value;
    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "a check is a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(tuple, "iOOO", &kind, &container, &key, &value)) {
        return -1;
    }
    if (!kind_fits(kind, container, key, value)) {
        PyErr_Format(PyExc_TypeError, "this is no check: %R", tuple);
        return -1;
    }
    c->kind = (uint8_t)kind;
    if (kind == CF_CHECK_CELL || kind == CF_CHECK_EMPTY_CELL) {
        c->number = PyLong_AsSsize_t(key);
    }
    else if (kind == CF_CHECK_ATTRIBUTES || kind == CF_CHECK_CLASS_SIZE
             || kind == CF_CHECK_SIZE)
    {
        c->number = PyLong_AsSsize_t(value);
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    if (kind == CF_CHECK_UNSENT) {
        c->address = (uintptr_t)value;
        value = (PyObject *)Py_TYPE(value);
    }
    c->container = container;
    c->key = key == Py_None ? NULL : Py_NewRef(key);
    c->value = value;
    /* The table must not keep the function alive whose death it waits for. */
    c->owns_container = container != fn;
    c->owns_value = value != fn;
    if (c->owns_container) {
        Py_INCREF(container);
    }
    if (c->owns_value) {
        Py_INCREF(value);
    }
    return 0;
}

cf_checks *
cf_checks_new(PyObject *list, PyObject *fn)
{
    if (!PyList_Check(list)) {
        PyErr_SetString(PyExc_TypeError, "checks come in a list");
        return NULL;
    }
    Py_ssize_t count = PyList_GET_SIZE(list);
    cf_checks *checks = PyMem_Malloc(sizeof *checks + (size_t)count * sizeof(check));
    if (checks == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    CF_BORN(checks);
    cf_store_relaxed(&checks->refs, 1);
    checks->count = 0;
    for (; checks->count < count; checks->count++) {
        if (check_init(&checks->items[checks->count],
                       PyList_GET_ITEM(list, checks->count), fn) < 0)
        {
            cf_checks_decref(checks);
            return NULL;
        }
    }
    return checks;
}

void
cf_checks_incref(cf_checks *checks)
{
    atomic_fetch_add_explicit(&checks->refs, 1, memory_order_relaxed);
}

void
cf_checks_decref(cf_checks *checks)
{
    if (atomic_fetch_sub_explicit(&checks->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (Py_ssize_t i = 0; i < checks->count; i++) {
        check *c = &checks->items[i];
        Py_XDECREF(c->key);
        if (c->owns_container) {
            Py_DECREF(c->container);
        }
        if (c->owns_value) {
            Py_DECREF(c->value);
        }
    }
    CF_GONE(checks);
    PyMem_Free(checks);
}

int
cf_checks_traverse(cf_checks *checks, visitproc visit, void *arg)
{
    for (Py_ssize_t i = 0; i < checks->count; i++) {
        check *c = &checks->items[i];
        Py_VISIT(c->key);
        if (c->owns_container) {
            Py_VISIT(c->container);
        }
        if (c->owns_value) {
            Py_VISIT(c->value);
        }
    }
    return 0;
}

/* ---- looking ----

   Only the addresses of what is found are of interest; what is expected is alive.  Keys are
   str, so looking calls no __eq__ unless a dictionary has keys of the user's own kind. */

static PyObject *
class_dict(PyObject *cls)           /* new */
{
#if PY_VERSION_HEX >= 0x030c0000
    return PyType_GetDict((PyTypeObject *)cls);
#else
    return Py_XNewRef(((PyTypeObject *)cls)->tp_dict);
#endif
}

static bool
attribute_is(PyObject *found, PyObject *value)
{
    return found == value || (found == NULL && value == Py_None);
}

static bool
cell_is(const check *c, PyObject *value)
{
    PyObject *closure = PyFunction_GetClosure(c->container);
    if (closure == NULL || c->number < 0 || c->number >= PyTuple_GET_SIZE(closure)) {
        return false;
    }
    PyObject *found = PyCell_Get(PyTuple_GET_ITEM(closure, c->number));
    bool same = found == value;
    Py_XDECREF(found);
    return same;
}

static Py_ssize_t
attribute_count(PyObject *fn)
{
    PyObject *dict = PyObject_GenericGetDict(fn, NULL);
    if (dict == NULL) {
        PyErr_Clear();
        return -1;
    }
    Py_ssize_t count = PyDict_Size(dict);
    Py_DECREF(dict);
    return count;
}

static bool
unsent_is(const check *c)
{
    PyObject *found = cf_dict_peek(c->container, c->key);
    bool same = (uintptr_t)found == c->address && (PyObject *)Py_TYPE(found) == c->value;
    Py_XDECREF(found);
    return same;
}

static bool
holds(const check *c)
{
    PyObject *dict;
    bool same;
    switch (c->kind) {
    case CF_CHECK_ITEM:
        return cf_dict_item_is(c->container, c->key, c->value);
    case CF_CHECK_NO_ITEM:
        return cf_dict_item_is(c->container, c->key, NULL);
    case CF_CHECK_UNSENT:
        return unsent_is(c);
    case CF_CHECK_CELL:
        return cell_is(c, c->value);
    case CF_CHECK_EMPTY_CELL:
        return cell_is(c, NULL);
    case CF_CHECK_CODE:
        return PyFunction_GetCode(c->container) == c->value;
    case CF_CHECK_DEFAULTS:
        return attribute_is(PyFunction_GetDefaults(c->container), c->value);
    case CF_CHECK_KWDEFAULTS:
        return attribute_is(PyFunction_GetKwDefaults(c->container), c->value);
    case CF_CHECK_ATTRIBUTES:
        return attribute_count(c->container) == c->number;
    case CF_CHECK_SIZE:
        return PyDict_Size(c->container) == c->number;
    case CF_CHECK_CLASS_ITEM:
        dict = class_dict(c->container);
        same = dict != NULL && cf_dict_item_is(dict, c->key, c->value);
        Py_XDECREF(dict);
        return same;
    case CF_CHECK_CLASS_SIZE:
        dict = class_dict(c->container);
        same = dict != NULL && PyDict_Size(dict) == c->number;
        Py_XDECREF(dict);
        return same;
    default:
        return false;
    }
}

bool
cf_checks_hold(const cf_checks *checks)
{
    for (Py_ssize_t i = 0; i < checks->count; i++) {
        if (!holds(&checks->items[i])) {
            return false;
        }
    }
    return true;
}
