/* What _core says of the objects that are alive; see base/live.h. */
#ifndef CF_MODULE_LIVE_H
#define CF_MODULE_LIVE_H

#include "base/live.h"
#include "py/compat.h"

/* _core._live() -> {kind: how many}; only with -DCF_COUNT_LIVE. */
PyObject *cf_py_live(PyObject *module, PyObject *ignored);

#endif
