/* _core._live(), in a build that counts (base/live.h). */
#include "module/live.h"

#ifdef CF_COUNT_LIVE

_Atomic int64_t cf_live[CF_LIVE_COUNT];

PyObject *
cf_py_live(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *counts = PyDict_New();
#define X(kind)                                                                     \
    if (counts != NULL) {                                                           \
        PyObject *count = PyLong_FromLongLong(cf_load_relaxed(&cf_live[CF_LIVE_##kind])); \
        if (count == NULL || PyDict_SetItemString(counts, #kind, count) < 0) {      \
            Py_CLEAR(counts);                                                       \
        }                                                                           \
        Py_XDECREF(count);                                                          \
    }
    CF_LIVE_KINDS(X)
#undef X
    return counts;
}

#endif
