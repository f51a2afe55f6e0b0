#include "py/state.h"

PyObject *
cf_state_configure(PyObject *module, PyObject *args, PyObject *kwargs)
{
    cf_state *st = cf_state_of_module(module);
    if (PyTuple_GET_SIZE(args) != 0 || kwargs == NULL) {
        PyErr_SetString(PyExc_TypeError, "_configure() takes keyword arguments only");
        return NULL;
    }
    PyObject *key, *value;
    Py_ssize_t pos = 0;
    while (PyDict_Next(kwargs, &pos, &key, &value)) {
#define X(name)                                                     \
        if (PyUnicode_CompareWithASCIIString(key, #name) == 0) {    \
            Py_XSETREF(st->name, Py_NewRef(value));                 \
            continue;                                               \
        }
        CF_STATE_OBJECTS(X)
#undef X
        PyErr_Format(PyExc_TypeError, "_configure() knows no %R", key);
        return NULL;
    }
    Py_RETURN_NONE;
}

int
cf_state_init(cf_state *st)
{
    st->str_submit = PyUnicode_InternFromString("submit");
    st->str_invoke_callbacks = PyUnicode_InternFromString("_invoke_callbacks");
    st->str_result = PyUnicode_InternFromString("result");
    st->str_cancel = PyUnicode_InternFromString("cancel");
    st->str_spawn = PyUnicode_InternFromString("_spawn");
    st->str_grow = PyUnicode_InternFromString("_grow");
    st->str_class = PyUnicode_InternFromString("__class__");
    st->str_name = PyUnicode_InternFromString("__name__");
    if (st->str_submit == NULL || st->str_class == NULL || st->str_name == NULL
        || st->str_invoke_callbacks == NULL
        || st->str_result == NULL || st->str_cancel == NULL || st->str_spawn == NULL
        || st->str_grow == NULL)
    {
        return -1;
    }
    return 0;
}

int
cf_state_traverse(cf_state *st, visitproc visit, void *arg)
{
#define X(name) Py_VISIT(st->name);
    CF_STATE_TYPES(X)
    CF_STATE_OBJECTS(X)
#undef X
    return 0;
}

void
cf_state_clear(cf_state *st)
{
#define X(name) Py_CLEAR(st->name);
    CF_STATE_TYPES(X)
    CF_STATE_OBJECTS(X)
#undef X
}
