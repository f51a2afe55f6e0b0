/* reducer_override of cfutures._pickle.Pickler.

   pickle calls it for every object that is not a plain builtin value: each array, each
   instance, and each class and function that they mention.  Almost always the answer is
   NotImplemented, do as you would; that is found out here.  Everything else is asked of
   the Python function `slow`. */
#include "procs/code.h"

#include <stddef.h>

#if PY_VERSION_HEX < 0x030c0000
#  include <structmember.h>
#  define Py_T_PYSSIZET T_PYSSIZET
#  define Py_READONLY READONLY
#endif

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *slow;             /* (pickler, object) */
    PyObject *tables;           /* tuple of dicts: types that somebody has a reducer for */
    PyObject *main_names;       /* frozenset: modules that are never imported by name */
    PyObject *str_module, *str_qualname, *str_cloudpickle, *str_registry;
} ReducerObject;

/* Has the user told cloudpickle to send some modules by value?  Then `slow` knows. */
static bool
anything_registered(ReducerObject *self, PyObject *modules)
{
    PyObject *cloudpickle = cf_dict_peek(modules, self->str_cloudpickle);
    if (cloudpickle == NULL) {
        return false;
    }
    PyObject *registry = PyModule_Check(cloudpickle)
        ? cf_dict_peek(PyModule_GetDict(cloudpickle), self->str_registry) : NULL;
    bool any = registry == NULL || !PyAnySet_Check(registry) || PySet_Size(registry) != 0;
    Py_XDECREF(registry);
    Py_DECREF(cloudpickle);
    return any;
}

static bool
is_found(ReducerObject *self, PyObject *obj, PyObject *module_name, PyObject *name)
{
    PyObject *modules = PyImport_GetModuleDict();
    if (!PyUnicode_CheckExact(module_name) || !PyUnicode_CheckExact(name)
        || PySet_Contains(self->main_names, module_name) != 0)
    {
        return false;
    }
    PyObject *module = cf_dict_peek(modules, module_name);
    /* A dotted name is not found like this. */
    bool found = module != NULL && PyModule_Check(module)
                 && cf_dict_item_is(PyModule_GetDict(module), name, obj)
                 && !anything_registered(self, modules);
    Py_XDECREF(module);
    return found;
}

/* A function or class that pickle can write as a reference; if in doubt, no. */
static bool
is_importable(ReducerObject *self, PyObject *obj)
{
    PyObject *module_name = PyObject_GetAttr(obj, self->str_module);
    PyObject *name = module_name == NULL ? NULL : PyObject_GetAttr(obj, self->str_qualname);
    bool found = name != NULL && is_found(self, obj, module_name, name);
    Py_XDECREF(module_name);
    Py_XDECREF(name);
    PyErr_Clear();
    return found;
}

static bool
is_in_tables(ReducerObject *self, PyTypeObject *type)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->tables); i++) {
        if (!cf_dict_item_is(PyTuple_GET_ITEM(self->tables, i), (PyObject *)type, NULL)) {
            return true;
        }
    }
    return false;
}

static PyObject *
reducer_vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf,
                   PyObject *kwnames)
{
    ReducerObject *self = (ReducerObject *)callable;
    if (PyVectorcall_NARGS(nargsf) == 2 && kwnames == NULL) {
        PyObject *obj = args[1];
        bool plain = PyFunction_Check(obj) || PyType_Check(obj)
            ? is_importable(self, obj) : !is_in_tables(self, Py_TYPE(obj));
        if (plain) {
            Py_RETURN_NOTIMPLEMENTED;
        }
    }
    return PyObject_Vectorcall(self->slow, args, nargsf, kwnames);
}

/* As a function in a class: a method of its instances. */
static PyObject *
reducer_tp_descr_get(PyObject *self, PyObject *instance, PyObject *Py_UNUSED(owner))
{
    return instance == NULL ? Py_NewRef(self) : PyMethod_New(self, instance);
}

static int
reducer_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    ReducerObject *r = (ReducerObject *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(r->slow);
    Py_VISIT(r->tables);
    Py_VISIT(r->main_names);
    return 0;
}

static int
reducer_tp_clear(PyObject *self)
{
    ReducerObject *r = (ReducerObject *)self;
    Py_CLEAR(r->slow);
    Py_CLEAR(r->tables);
    Py_CLEAR(r->main_names);
    return 0;
}

static void
reducer_tp_dealloc(PyObject *self)
{
    ReducerObject *r = (ReducerObject *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)reducer_tp_clear(self);
    Py_XDECREF(r->str_module);
    Py_XDECREF(r->str_qualname);
    Py_XDECREF(r->str_cloudpickle);
    Py_XDECREF(r->str_registry);
    CF_GONE(reducer);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
reducer_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *slow, *tables, *main_names;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "Reducer() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "OO!O!:Reducer", &slow, &PyTuple_Type, &tables,
                          &PyFrozenSet_Type, &main_names))
    {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tables); i++) {
        if (!PyDict_Check(PyTuple_GET_ITEM(tables, i))) {
            PyErr_SetString(PyExc_TypeError, "Reducer() wants a tuple of dicts");
            return NULL;
        }
    }
    ReducerObject *self = (ReducerObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    CF_BORN(reducer);
    self->vectorcall = reducer_vectorcall;
    self->slow = Py_NewRef(slow);
    self->tables = Py_NewRef(tables);
    self->main_names = Py_NewRef(main_names);
    self->str_module = PyUnicode_InternFromString("__module__");
    self->str_qualname = PyUnicode_InternFromString("__qualname__");
    self->str_cloudpickle = PyUnicode_InternFromString("cloudpickle.cloudpickle");
    self->str_registry = PyUnicode_InternFromString("_PICKLE_BY_VALUE_MODULES");
    if (self->str_module == NULL || self->str_qualname == NULL
        || self->str_cloudpickle == NULL || self->str_registry == NULL)
    {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyMemberDef reducer_members[] = {
    {"__vectorcalloffset__", Py_T_PYSSIZET, offsetof(ReducerObject, vectorcall),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot reducer_slots[] = {
    {Py_tp_doc, PyDoc_STR(
     "Reducer(slow, tables, main_names, /)\n--\n\n"
     "reducer_override for a subclass of pickle.Pickler.\n\n"
     "slow: called as (pickler, object) unless the object is a function or class that is\n"
     "found by its name in a module not in main_names, or something else whose type is in\n"
     "none of the tables.")},
    {Py_tp_new, reducer_tp_new},
    {Py_tp_dealloc, reducer_tp_dealloc},
    {Py_tp_traverse, reducer_tp_traverse},
    {Py_tp_clear, reducer_tp_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, reducer_tp_descr_get},
    {Py_tp_members, reducer_members},
    {0, NULL},
};

static PyType_Spec reducer_spec = {
    .name = "cfutures._core.Reducer",
    .basicsize = sizeof(ReducerObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL
             | Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = reducer_slots,
};

int
cf_reducer_add_type(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &reducer_spec, NULL);
    int r = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return r;
}
