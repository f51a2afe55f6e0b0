/* _core.Checks: procs/checks.h for Python.  It keeps alive all that it looks at. */
#include "procs/checks.h"
#include "procs/code.h"

typedef struct {
    PyObject_HEAD
    cf_checks *checks;          /* set once */
} ChecksObject;

static PyObject *
checks_py_hold(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(cf_checks_hold(((ChecksObject *)self)->checks));
}

static PyObject *
checks_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *list;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "Checks() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O!:Checks", &PyList_Type, &list)) {
        return NULL;
    }
    cf_checks *checks = cf_checks_new(list, NULL);
    if (checks == NULL) {
        return NULL;
    }
    PyObject *self = type->tp_alloc(type, 0);
    if (self == NULL) {
        cf_checks_decref(checks);
        return NULL;
    }
    CF_BORN(checks_object);
    ((ChecksObject *)self)->checks = checks;
    return self;
}

static int
checks_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    cf_checks *checks = ((ChecksObject *)self)->checks;
    Py_VISIT(Py_TYPE(self));
    return checks == NULL ? 0 : cf_checks_traverse(checks, visit, arg);
}

/* There is no tp_clear: whatever it refers to can be cleared. */
static void
checks_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (((ChecksObject *)self)->checks != NULL) {
        cf_checks_decref(((ChecksObject *)self)->checks);
    }
    CF_GONE(checks_object);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef checks_methods[] = {
    {"hold", checks_py_hold, METH_NOARGS, PyDoc_STR(
     "hold($self, /)\n--\n\nWhether everything is as it was.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot checks_slots[] = {
    {Py_tp_doc, PyDoc_STR(
     "Checks(list, /)\n--\n\n"
     "What must be as it is for something to be true.\n\n"
     "list: of tuples (kind, container, key, value).")},
    {Py_tp_new, checks_tp_new},
    {Py_tp_dealloc, checks_tp_dealloc},
    {Py_tp_traverse, checks_tp_traverse},
    {Py_tp_methods, checks_methods},
    {0, NULL},
};

static PyType_Spec checks_spec = {
    .name = "cfutures._core.Checks",
    .basicsize = sizeof(ChecksObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = checks_slots,
};

int
cf_checks_add_type(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &checks_spec, NULL);
    int r = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return r;
}
