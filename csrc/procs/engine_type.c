/* _core.ProcessEngine, by which the manager of a process pool works on after the executor is
   gone.  Processes are started, watched and buried by Python (cfutures.process); tasks and
   results are C's. */
#include "procs/procpool_type.h"

#include "plat/peer.h"
#include "py/block.h"

/* ---- what cfutures.process asks for ---- */

static PyObject *
engine_py_want(PyObject *self, PyObject *arg)
{
    cf_procpool *pool = cf_procpool_of(self);
    unsigned long limit = PyLong_AsUnsignedLong(arg);
    if (pool == NULL || PyErr_Occurred()) {
        return NULL;
    }
    cf_store_relaxed(&pool->limit, limit > UINT32_MAX ? UINT32_MAX : (uint32_t)limit);
    Py_RETURN_NONE;
}

static PyObject *
engine_py_enlist(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = cf_procpool_of(self);
    uint32_t number, arena;
    if (pool == NULL) {
        return NULL;
    }
    if (!cf_roster_enlist(pool, &number, &arena)) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("II", number, arena);
}

/* The number of a worker, checked.  -1 with an exception. */
static int
parse_number(cf_procpool *pool, PyObject *arg, uint32_t *number)
{
    unsigned long n = PyLong_AsUnsignedLong(arg);
    if (n == (unsigned long)-1 && PyErr_Occurred()) {
        return -1;
    }
    if (n >= pool->seg->geometry.workers) {
        PyErr_SetString(PyExc_ValueError, "no such worker");
        return -1;
    }
    *number = (uint32_t)n;
    return 0;
}

static PyObject *
engine_py_delist(PyObject *self, PyObject *arg)
{
    cf_procpool *pool = cf_procpool_of(self);
    uint32_t number;
    if (pool == NULL || parse_number(pool, arg, &number) < 0) {
        return NULL;
    }
    cf_roster_delist(pool, number);
    Py_RETURN_NONE;
}

static PyObject *
engine_py_dismiss(PyObject *self, PyObject *arg)
{
    cf_procpool *pool = cf_procpool_of(self);
    uint32_t number;
    if (pool == NULL || parse_number(pool, arg, &number) < 0) {
        return NULL;
    }
    cf_board_dismiss(&pool->board, number);
    Py_RETURN_NONE;
}

static PyObject *
engine_py_segment(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = cf_procpool_of(self);
    return pool == NULL ? NULL : Py_BuildValue("ii", pool->seg->fd, pool->bell);
}

static PyObject *
engine_py_poll(PyObject *self, PyObject *args)
{
    cf_procpool *pool = cf_procpool_of(self);
    PyObject *fds, *timeout;
    cf_deadline until;
    if (pool == NULL || !PyArg_ParseTuple(args, "O!O:_poll", &PyList_Type, &fds, &timeout)
        || cf_deadline_from_timeout(timeout, &until) < 0)
    {
        return NULL;
    }
    return cf_procpool_poll(pool, fds, until);
}

static PyObject *
engine_py_wake(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = cf_procpool_of(self);
    if (pool == NULL) {
        return NULL;
    }
    cf_store_release(&pool->nudged, 1);
    cf_bell_ring(pool->bell);
    Py_RETURN_NONE;
}

static PyObject *
engine_py_lasts(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = cf_procpool_of(self);
    return pool == NULL ? NULL : cf_roster_lasts(pool);
}

static PyObject *
engine_py_names(PyObject *self, PyObject *arg)
{
    cf_procpool *pool = cf_procpool_of(self);
    uint32_t number;
    if (pool == NULL || parse_number(pool, arg, &number) < 0) {
        return NULL;
    }
    PyObject *list = PyList_New(0);
    for (uint32_t slot = 0; list != NULL && slot < pool->used; slot++) {
        uint32_t word = cf_load_acquire(cf_procpool_word(pool, slot));
        if (!(word & CF_SLOT_TAKEN) || CF_SLOT_WORKER(word) != number) {
            continue;
        }
        cf_definition *definition = pool->tasks[slot].definition;
        PyObject *name = definition == NULL ? NULL : definition->name;
        PyObject *text = name != NULL ? Py_NewRef(name) : PyUnicode_FromString("a task");
        if (text == NULL || PyList_Append(list, text) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(text);
    }
    return list;
}

static PyObject *
engine_py_bury(PyObject *self, PyObject *args)
{
    cf_procpool *pool = cf_procpool_of(self);
    PyObject *number_obj, *error;
    uint32_t number;
    if (pool == NULL || !PyArg_ParseTuple(args, "OO:_bury", &number_obj, &error)
        || parse_number(pool, number_obj, &number) < 0)
    {
        return NULL;
    }
    PyObject *made = error != Py_None ? Py_NewRef(error) : PyObject_CallFunction(
        pool->st->broken_process_pool, "s",
        "the worker process ended before the task did");
    if (made == NULL) {
        return NULL;
    }
    cf_roster_bury(pool, number, made);
    Py_DECREF(made);
    Py_RETURN_NONE;
}

static PyObject *
engine_py_break(PyObject *self, PyObject *args)
{
    cf_procpool *pool = cf_procpool_of(self);
    PyObject *error, *text;
    if (pool == NULL || !PyArg_ParseTuple(args, "OU:_break", &error, &text)) {
        return NULL;
    }
    if (pool->broken_text == NULL) {
        pool->broken_text = Py_NewRef(text);
    }
    cf_procpool_close(pool, CF_PROCS_BROKEN);
    cf_procpool_fail_all(pool, error);
    Py_RETURN_NONE;
}

static PyObject *
engine_py_close(PyObject *self, PyObject *args)
{
    cf_procpool *pool = cf_procpool_or_null(self);
    int cancel;
    unsigned int spared = 0;
    if (!PyArg_ParseTuple(args, "p|I:_close", &cancel, &spared)) {
        return NULL;
    }
    if (pool != NULL) {
        cf_procpool_close(pool, CF_PROCS_SHUTDOWN);
        if (cancel && !(cf_load_relaxed(&pool->state) & CF_PROCS_FORKED)) {
            cf_procpool_cancel_queued(pool, spared);
        }
    }
    Py_RETURN_NONE;
}

static PyObject *
count_in(PyObject *self, uint32_t states)
{
    cf_procpool *pool = cf_procpool_of(self);
    if (pool == NULL) {
        return NULL;
    }
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < pool->used; slot++) {
        count += (cf_load_relaxed(cf_procpool_word(pool, slot)) & states) != 0;
    }
    return PyLong_FromUnsignedLong(count);
}

static PyObject *
engine_py_unfinished(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return count_in(self, CF_SLOT_QUEUED | CF_SLOT_TAKEN);
}

static PyObject *
engine_py_queued(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return count_in(self, CF_SLOT_QUEUED);
}

static PyObject *
engine_py_busy(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return count_in(self, CF_SLOT_TAKEN);
}

static PyObject *
engine_py_counts(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = cf_procpool_of(self);
    if (pool == NULL) {
        return NULL;
    }
    if (cf_load_relaxed(&pool->state) & CF_PROCS_FORKED) {
        /* What its processes do is the parent's to know. */
        return Py_BuildValue("IIIKKKd", 0, 0, 0, 0ull, 0ull, 0ull, 0.0);
    }
    cf_board_tally tally = cf_board_count_up(&pool->board, pool->opened);
    uint64_t failed_here = cf_load_relaxed(&pool->failed_here);
    uint64_t cancelled = cf_load_relaxed(&pool->cancelled);
    /* Each was read at another moment. */
    uint64_t known = tally.ended + failed_here + cancelled + tally.running;
    uint64_t submitted = cf_load_relaxed(&pool->submitted);
    return Py_BuildValue("IKIKKKd", (unsigned int)cf_load_relaxed(&pool->running),
                         submitted > known ? submitted - known : 0ull,
                         (unsigned int)tally.running, tally.ended - tally.failed,
                         tally.failed + failed_here, cancelled, (double)tally.active / 1e9);
}

static PyObject *
engine_py_trim(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cf_procpool *pool = cf_procpool_of(self);
    return pool == NULL ? NULL : PyLong_FromUnsignedLongLong(cf_procpool_trim(pool, 0));
}

/* ---- of both types ---- */

static PyObject *
pool_get_shutdown(PyObject *self, void *Py_UNUSED(closure))
{
    cf_procpool *pool = cf_procpool_or_null(self);
    return PyBool_FromLong(pool != NULL && (cf_load_seq(&pool->state)
                                            & (CF_PROCS_SHUTDOWN | CF_PROCS_FORKED)));
}

static PyObject *
pool_get_broken(PyObject *self, void *Py_UNUSED(closure))
{
    cf_procpool *pool = cf_procpool_or_null(self);
    if (pool != NULL && (cf_load_seq(&pool->state) & CF_PROCS_BROKEN)) {
        return Py_NewRef(pool->broken_text);
    }
    Py_RETURN_FALSE;
}

PyGetSetDef cf_procpool_getset[] = {
    {"_shutdown", pool_get_shutdown, NULL, PyDoc_STR("takes no more tasks"), NULL},
    {"_broken", pool_get_broken, NULL, PyDoc_STR("False, or why it is broken"), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- the type ---- */

static void
engine_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    cf_procpool_disown(cf_procpool_or_null(self));
    CF_GONE(process_engine);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef engine_methods[] = {
    {"_want", engine_py_want, METH_O, PyDoc_STR(
     "_want($self, limit, /)\n--\n\nsubmit() calls _grow() below so many workers.")},
    {"_enlist", engine_py_enlist, METH_NOARGS, PyDoc_STR(
     "_enlist($self, /)\n--\n\n(number, arena) for a new worker, or None.")},
    {"_delist", engine_py_delist, METH_O, PyDoc_STR(
     "_delist($self, number, /)\n--\n\nThat worker never came up.")},
    {"_dismiss", engine_py_dismiss, METH_O, PyDoc_STR(
     "_dismiss($self, number, /)\n--\n\nThat worker leaves after what it runs.")},
    {"_segment", engine_py_segment, METH_NOARGS, PyDoc_STR(
     "_segment($self, /)\n--\n\nDescriptors for a child: memory, bell.")},
    {"_poll", engine_py_poll, METH_VARARGS, PyDoc_STR(
     "_poll($self, fds, timeout, /)\n--\n\n"
     "The manager's wait: call callbacks of what is done, until a descriptor is ready.")},
    {"_wake", engine_py_wake, METH_NOARGS, PyDoc_STR(
     "_wake($self, /)\n--\n\nMake _poll() return.")},
    {"_lasts", engine_py_lasts, METH_NOARGS, PyDoc_STR(
     "_lasts($self, /)\n--\n\nWorkers that have begun their last task, each told once.")},
    {"_names", engine_py_names, METH_O, PyDoc_STR(
     "_names($self, number, /)\n--\n\nNames of the tasks that the worker is running.")},
    {"_bury", engine_py_bury, METH_VARARGS, PyDoc_STR(
     "_bury($self, number, error, /)\n--\n\n"
     "That worker is dead: what it ran fails with error.")},
    {"_break", engine_py_break, METH_VARARGS, PyDoc_STR(
     "_break($self, error, text, /)\n--\n\n"
     "All tasks fail with error; submit() raises BrokenProcessPool(text).")},
    {"_close", engine_py_close, METH_VARARGS, PyDoc_STR(
     "_close($self, cancel_futures, spared=0, /)\n--\n\n"
     "Take no more tasks; cancel those that wait, but for so many.")},
    {"_unfinished", engine_py_unfinished, METH_NOARGS, PyDoc_STR(
     "_unfinished($self, /)\n--\n\nHow many tasks are queued or running.")},
    {"_queued", engine_py_queued, METH_NOARGS, PyDoc_STR(
     "_queued($self, /)\n--\n\nHow many tasks wait.")},
    {"_busy", engine_py_busy, METH_NOARGS, PyDoc_STR(
     "_busy($self, /)\n--\n\nHow many tasks run.")},
    {"_counts", engine_py_counts, METH_NOARGS, PyDoc_STR(
     "_counts($self, /)\n--\n\n"
     "Return (workers, queued, running, done, failed, cancelled, active seconds).")},
    {"_trim", engine_py_trim, METH_NOARGS, PyDoc_STR(
     "_trim($self, /)\n--\n\nGive unused memory back to the system; bytes.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot engine_slots[] = {
    {Py_tp_doc, PyDoc_STR("A process pool without its executor, for its manager.")},
    {Py_tp_dealloc, engine_tp_dealloc},
    {Py_tp_methods, engine_methods},
    {Py_tp_getset, cf_procpool_getset},
    {0, NULL},
};

static PyType_Spec engine_spec = {
    .name = "cfutures._core.ProcessEngine",
    .basicsize = sizeof(ProcessPoolObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = engine_slots,
};

int
cf_engine_add_type(PyObject *module, cf_state *st)
{
    st->ProcessEngine = (PyTypeObject *)PyType_FromModuleAndSpec(module, &engine_spec, NULL);
    return st->ProcessEngine == NULL ? -1 : PyModule_AddType(module, st->ProcessEngine);
}
