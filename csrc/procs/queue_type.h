/* The Python type of a queue between processes: _core.Queue. */
#ifndef CF_PROCS_QUEUE_TYPE_H
#define CF_PROCS_QUEUE_TYPE_H

#include "py/state.h"

int cf_queue_add_type(PyObject *module, cf_state *st);

#endif
