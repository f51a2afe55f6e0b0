/* cfutures._core: puts the areas together. */
#include "executor/executor.h"
#include "future/future.h"
#include "future/wait.h"
#include "future/watch.h"
#include "module/live.h"
#include "plat/cpu.h"
#include "py/state.h"
#include "procs/procpool.h"
#include "procs/queue_type.h"
#include "procs/queue_view.h"
#include "threads/pool.h"

static PyObject *
py_after_fork(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    cf_pool_after_fork(cf_state_of_module(module));
    cf_procs_after_fork(cf_state_of_module(module));
    cf_queues_after_fork(cf_state_of_module(module));
    Py_RETURN_NONE;
}

static PyObject *
py_finalize(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    cf_store_seq(&cf_state_of_module(module)->finalizing, 1);
    Py_RETURN_NONE;
}

static PyObject *
py_warn_unread(PyObject *module, PyObject *arg)
{
    int on = PyObject_IsTrue(arg);
    if (on < 0) {
        return NULL;
    }
    cf_word *word = &cf_state_of_module(module)->warn_unread;
    return PyBool_FromLong((long)atomic_exchange_explicit(word, (uint32_t)on,
                                                          memory_order_relaxed));
}

static PyObject *
py_cpu_count(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(cf_cpu_count());
}

static PyMethodDef module_methods[] = {
    {"wait", (PyCFunction)(void (*)(void))cf_py_wait, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR(
     "wait($module, /, fs, timeout=None, return_when='ALL_COMPLETED')\n--\n\n"
     "Wait for futures, ours and the standard library's.\n\n"
     "fs: an iterable of futures.  timeout: seconds (None: no limit).  return_when:\n"
     "FIRST_COMPLETED, FIRST_EXCEPTION or ALL_COMPLETED.  Returns a named tuple of two\n"
     "sets, done and not_done.  Raises ValueError for another return_when.")},
    {"as_completed", (PyCFunction)(void (*)(void))cf_py_as_completed,
     METH_VARARGS | METH_KEYWORDS, PyDoc_STR(
     "as_completed($module, /, fs, timeout=None)\n--\n\n"
     "Return an iterator over futures that yields each when it is done.\n\n"
     "fs: an iterable of futures; one that is in it twice is yielded once.  timeout:\n"
     "seconds from the first next() (None: no limit), after which next() raises\n"
     "TimeoutError.")},
    {"cpu_count", py_cpu_count, METH_NOARGS, PyDoc_STR(
     "cpu_count($module, /)\n--\n\n"
     "The CPUs of this process: its affinity, or its control group's quota if fewer.")},
    {"run_worker", cf_py_run_worker, METH_VARARGS, PyDoc_STR(
     "run_worker($module, memory, bell, number, arena, parent, max_tasks, threshold,\n"
     "           idle, /)\n--\n\n"
     "In a worker process: do tasks until told to leave.\n\n"
     "memory, bell: descriptors, number, arena: what ProcessPool._enlist() gave; parent:\n"
     "the process to end with; max_tasks: 0 for no limit; threshold: bytes from which a\n"
     "buffer travels by itself; idle(): called before sleeping.")},
    {"_warn_unread", py_warn_unread, METH_O, PyDoc_STR(
     "_warn_unread($module, on, /)\n--\n\n"
     "Log exceptions that nobody has asked for, or not; returns how it was.")},
    {"_configure", (PyCFunction)(void (*)(void))cf_state_configure,
     METH_VARARGS | METH_KEYWORDS, PyDoc_STR(
     "_configure($module, /, **objects)\n--\n\nHand over what C needs of Python.")},
    {"_after_fork", py_after_fork, METH_NOARGS, PyDoc_STR(
     "_after_fork($module, /)\n--\n\nIn a forked child: close and empty every pool.")},
    {"_finalize", py_finalize, METH_NOARGS, PyDoc_STR(
     "_finalize($module, /)\n--\n\nThe interpreter exits: submit() is refused from now on.")},
#ifdef CF_COUNT_LIVE
    {"_live", cf_py_live, METH_NOARGS, PyDoc_STR(
     "_live($module, /)\n--\n\nHow many objects of each kind are alive, for tests.")},
#endif
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    cf_state *st = cf_state_of_module(module);
    st->cpus = cf_cpu_count();
    if (cf_state_init(st) < 0
        || cf_future_add_type(module, st) < 0
        || cf_watch_add_types(module, st) < 0
        || cf_as_completed_add_type(module, st) < 0
        || cf_executor_add_types(module, st) < 0
        || cf_threads_add_types(module, st) < 0
        || cf_procs_add_types(module, st) < 0
        || cf_queue_add_type(module, st) < 0)
    {
        return -1;
    }
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    return cf_state_traverse(cf_state_of_module(module), visit, arg);
}

static int
module_clear(PyObject *module)
{
    cf_state_clear(cf_state_of_module(module));
    return 0;
}

static void
module_free(void *module)
{
    module_clear((PyObject *)module);
}

static PyModuleDef_Slot module_slots[] = {
    /* A function in a slot is what PEP 489 asks for; ISO C has no other way to say it. */
    {Py_mod_exec, (void *)module_exec},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

struct PyModuleDef cf_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "cfutures._core",
    .m_doc = PyDoc_STR("The engine of cfutures."),
    .m_size = sizeof(cf_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&cf_module_def);
}
