/* Until defs.c is there. */
#include "procs/defs.h"
#define WEAK __attribute__((weak))
WEAK cf_defs *cf_defs_new(cf_state *st, cf_segment *seg, cf_codec *codec)
{ (void)st; (void)seg; (void)codec; return PyMem_Calloc(1, 8); }
WEAK void cf_defs_free(cf_defs *defs) { PyMem_Free(defs); }
WEAK int cf_defs_hold(cf_defs *defs, PyObject *fn, cf_definition **out)
{ (void)defs; (void)fn; *out = NULL; return 0; }
WEAK void cf_defs_release(cf_defs *defs, cf_definition *d) { (void)defs; (void)d; }
WEAK cf_loaded *cf_loaded_new(cf_state *st, cf_segment *seg)
{ (void)st; (void)seg; return PyMem_Calloc(1, 8); }
WEAK void cf_loaded_free(cf_loaded *l) { PyMem_Free(l); }
WEAK PyObject *cf_loaded_get(cf_loaded *l, uint64_t n, uint64_t at)
{ (void)l; (void)n; (void)at; PyErr_SetString(PyExc_RuntimeError, "stub"); return NULL; }
