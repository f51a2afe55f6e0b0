/* What must still be so for a definition to be true, and looking whether it is.

   A list of (kind, container, key, value), made by cfutures._byvalue.Survey.  Looking runs
   no Python code and takes some ns for each.  The list is counted, so that it can be looked
   at while the table it is in changes; it never changes itself.

   The function that the definition is of is not owned by its list (the table only has a
   weak reference to it, too); everything else in the list is. */
#ifndef CF_PROCS_CHECKS_H
#define CF_PROCS_CHECKS_H

#include "base/atomic.h"
#include "py/compat.h"

/* As in cfutures/_byvalue.py. */
enum {
    CF_CHECK_ITEM,          /* dict `container` has `value` under `key` */
    CF_CHECK_NO_ITEM,       /* dict `container` has nothing under `key` */
    CF_CHECK_CELL,          /* cell number `key` of function `container` has `value` */
    CF_CHECK_EMPTY_CELL,    /* ... is empty */
    CF_CHECK_CODE,          /* function `container` */
    CF_CHECK_DEFAULTS,      /* ... None if there are none */
    CF_CHECK_KWDEFAULTS,
    CF_CHECK_ATTRIBUTES,    /* function `container` has `value` attributes of its own */
    CF_CHECK_CLASS_ITEM,    /* the dictionary of class `container` has `value` under `key` */
    CF_CHECK_CLASS_SIZE,    /* the dictionary of class `container` has `value` items */
    CF_CHECK_SIZE,          /* dict `container` has `value` items */
    /* As CF_CHECK_ITEM for a value that is not sent, which the list does not keep alive:
       the executor itself, as often as not.  Another object of the same type at the same
       address would not be sent, either. */
    CF_CHECK_UNSENT,
    CF_CHECK_KINDS
};

typedef struct cf_checks cf_checks;

/* From a list of tuples.  `fn` is the function that the definition is of.  NULL with an
   exception: a TypeError, if the list is not as described above. */
cf_checks *cf_checks_new(PyObject *list, PyObject *fn);
void cf_checks_incref(cf_checks *checks);
/* Drops what is in the list with the last reference: that may run Python code. */
void cf_checks_decref(cf_checks *checks);
int cf_checks_traverse(cf_checks *checks, visitproc visit, void *arg);

/* Do all of them hold?  The caller has a reference. */
bool cf_checks_hold(const cf_checks *checks);

#endif
