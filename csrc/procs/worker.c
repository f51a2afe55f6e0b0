/* What a worker process does, in its main thread:

       take a task ---> decode, call, encode ---> finish the slot --+
        ^   | none                                                  |
        |   v                                                       |
        |  told to leave? leave                                     |
        |   | no                                                    |
        +-- wait on the board <-------------------------------------+ (no more to take)

   A second thread, which never runs Python code, ends the process at once when the parent
   dies.  What the parent's user would see as the task's exception is one: anything that
   the function raises, KeyboardInterrupt and SystemExit too, and whatever goes wrong on
   the way in or out.  Between tasks Ctrl-C is the parent's business. */
#include "procs/procpool.h"

#include <signal.h>

#include "plat/orphan.h"
#include "plat/peer.h"
#include "py/block.h"

/* An idle worker that has slept so long gives back the memory that it does not need. */
#define QUIET_AFTER_NS 1000000000
#define KEEP_BYTES (1u << 20)

typedef struct {
    cf_state *st;
    cf_segment *seg;
    cf_board board;
    cf_arena *arena;            /* or NULL */
    cf_codec *codec;
    cf_loaded *loaded;
    uint32_t number, pid;
    int bell;
    PyObject *idle;             /* borrowed: called before sleeping */
} worker;

/* The exception that is set, ready to be sent (new); never NULL. */
static PyObject *
pack_exception(worker *w)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *packed = PyObject_CallOneArg(w->st->pack_exception, exc);
    if (packed == NULL) {
        PyErr_Clear();          /* the exception itself, then */
        return exc;
    }
    Py_DECREF(exc);
    return packed;
}

/* Decode and call; the result (new), or NULL with an exception.  All that the task brought
   is dropped. */
static PyObject *
call(worker *w, const cf_slot *copy)
{
    PyObject *fn = NULL;
    if (copy->definition != 0) {
        fn = cf_loaded_get(w->loaded, copy->definition, copy->definition_at);
        if (fn == NULL) {
            cf_raise_not_decoded(w->st, "The function of the task");
            return NULL;
        }
    }
    cf_received_call received;
    PyObject *result = NULL;
    if (cf_decode_call(w->codec, copy, &received) == 0) {
        result = cf_received_call_run(&received, fn);
        PyObject *exc = result == NULL ? PyErr_GetRaisedException() : NULL;
        cf_received_call_clear(&received);
        if (exc != NULL) {
            PyErr_SetRaisedException(exc);
        }
    }
    else {
        cf_raise_not_decoded(w->st, "The task");
    }
    Py_XDECREF(fn);
    return result;
}

/* `clock`: the time, if the last task has just ended, or 0; then this one's end. */
static void
run(worker *w, uint32_t number, uint32_t *clock)
{
    cf_slot *slot = cf_board_slot(&w->board, number);
    cf_slot copy = cf_slot_copy(slot);
    cf_message m;
    cf_store_relaxed(&slot->started, *clock != 0 ? *clock : cf_now_stamp());
    cf_store_relaxed(&slot->finished, 0);
    /* release: who sees the process sees when it began */
    cf_store_release(&slot->pid, w->pid);
    PyObject *result = call(w, &copy);
    bool failed = result == NULL;
    if (failed) {
        result = pack_exception(w);
    }
    /* A result that cannot be sent fails the task with the reason, and a reason that cannot
       be sent is told in words. */
    for (int tries = 0; cf_encode_result(w->codec, result, &m) < 0; tries++) {
        failed = true;
        if (tries < 2) {
            Py_SETREF(result, pack_exception(w));
        }
        else {
            PyErr_Clear();
            Py_SETREF(result, PyObject_CallFunction(PyExc_RuntimeError, "s",
                      "the task's exception cannot be sent to the parent process"));
        }
    }
    cf_message_post(&m, slot);
    *clock = cf_now_stamp();
    cf_store_relaxed(&slot->finished, *clock);
    cf_board_ended(&w->board, w->number, failed);
    /* Idle before the result is seen: whoever gets it and submits again finds this worker
       free, not a reason to start another one. */
    cf_board_busy(&w->board, w->number, false);
    cf_board_finish(&w->board, number, failed, w->bell);
    Py_DECREF(result);
}

/* Something was interrupted by a signal, or __del__ of a result raised: between tasks
   nobody is there to be told. */
static void
handle_signals_between_tasks(void)
{
    if (PyErr_CheckSignals() < 0) {
        PyErr_Clear();
    }
}

static cf_status
wait_on_board(worker *w, cf_deadline until)
{
    PyThreadState *ts = cf_gil_release();
    cf_status status = cf_board_sleep(&w->board, w->number, until);
    cf_gil_take(ts);
    return status;
}

static cf_status
sleep_on_board(worker *w)
{
    PyObject *r = PyObject_CallNoArgs(w->idle);
    if (r == NULL && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        /* Ctrl-C between tasks is nobody's; what it kept from being shown is shown. */
        PyErr_Clear();
        r = PyObject_CallNoArgs(w->idle);
    }
    if (r == NULL) {
        PyErr_WriteUnraisable(w->idle);
    }
    Py_XDECREF(r);
    uint64_t live, idle = 0;
    if (w->arena != NULL) {
        cf_arena_usage(w->arena, &live, &idle);
    }
    if (idle > KEEP_BYTES) {
        cf_status status = wait_on_board(w, cf_now() + QUIET_AFTER_NS);
        if (status != CF_AGAIN) {
            return status;
        }
        cf_arena_trim(w->arena, KEEP_BYTES);
    }
    return wait_on_board(w, CF_FOREVER);
}

static void
work(worker *w, unsigned long max_tasks)
{
    unsigned long done = 0;
    uint32_t clock = 0;
    cf_board_begin(&w->board, w->number);
    cf_board_active(&w->board, w->number, true);
    while (max_tasks == 0 || done < max_tasks) {
        uint32_t slot = cf_board_take(&w->board, w->number);
        if (slot != CF_NO_SLOT) {
            if (++done == max_tasks) {
                cf_board_last(&w->board, w->number, w->bell);
            }
            run(w, slot, &clock);
            continue;
        }
        clock = 0;
        cf_board_busy(&w->board, w->number, false);
        PyThreadState *ts = cf_gil_release();
        cf_status status = cf_board_spin(&w->board, w->number);
        cf_gil_take(ts);
        if (status == CF_AGAIN) {
            cf_board_active(&w->board, w->number, false);
            status = sleep_on_board(w);
            cf_board_active(&w->board, w->number, true);
        }
        handle_signals_between_tasks();
        if (status == CF_TIMEDOUT) {
            break;
        }
    }
    cf_board_active(&w->board, w->number, false);
}

PyObject *
cf_py_run_worker(PyObject *module, PyObject *args)
{
    int memory, parent;
    unsigned int arena;
    unsigned long max_tasks;
    unsigned long long threshold;
    worker w = {.st = cf_state_of_module(module), .pid = (uint32_t)cf_peer_self().pid};
    if (!PyArg_ParseTuple(args, "iiIIikKO:run_worker", &memory, &w.bell, &w.number, &arena,
                          &parent, &max_tasks, &threshold, &w.idle)) {
        return NULL;
    }
    PyObject *result = NULL;
    cf_status status = cf_segment_attach(memory, &w.seg);
    if (status != CF_OK) {
        if (status == CF_SYSTEM) {
            PyErr_SetFromErrno(PyExc_OSError);
        }
        else {
            PyErr_SetString(PyExc_RuntimeError, "no memory of a process pool");
        }
        return NULL;
    }
    if (w.number >= w.seg->geometry.workers || arena >= w.seg->geometry.arenas) {
        PyErr_SetString(PyExc_ValueError, "no such worker");
        goto finally;
    }
    if (cf_orphan_watch(parent) != CF_OK) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto finally;
    }
    cf_board_init(&w.board, w.seg);
    if (arena != 0 && cf_arena_open(w.seg, arena, &w.arena) != CF_OK) {
        PyErr_NoMemory();
        goto finally;
    }
    w.codec = cf_codec_new(w.st, w.seg, w.arena, w.number + 1, threshold);
    w.loaded = w.codec == NULL ? NULL : cf_loaded_new(w.st, w.seg);
    if (w.loaded == NULL) {
        goto finally;
    }
    work(&w, max_tasks);
    /* Ctrl-C on the way out must not make the caller believe that nothing was done: to begin
       again would be to forget the results that the parent has not read. */
    PyOS_setsig(SIGINT, SIG_IGN);
    handle_signals_between_tasks();
    result = Py_NewRef(Py_None);
finally:
    if (w.loaded != NULL) {
        cf_loaded_free(w.loaded);
    }
    if (w.codec != NULL) {
        cf_codec_free(w.codec);
    }
    if (w.arena != NULL) {
        cf_arena_close(w.arena);
    }
    cf_segment_decref(w.seg);
    return result;
}
