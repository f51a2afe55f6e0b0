/* Finding, opening and leaving queues. */
#include "procs/queue_view.h"

#include <errno.h>
#include <stdlib.h>

/* How many views of other processes' queues stay open that no object refers to. */
#define LINGERING 4

/* Bytes from which a buffer travels by itself, as in a process pool. */
#define THRESHOLD 65536

typedef cf_queue_view view;

PyObject *
cf_queue_raise(cf_status status, const char *what)
{
    if (status == CF_CORRUPT) {
        PyErr_SetString(PyExc_RuntimeError, what);
        return NULL;
    }
    if (errno == EUSERS) {
        PyErr_SetString(PyExc_OSError, "too many processes use this queue, or have left "
                        "items in it that nobody has taken");
        return NULL;
    }
    return PyErr_SetFromErrno(PyExc_OSError);
}

static void
view_free(view *v)
{
    if (v->codec != NULL) {
        cf_codec_free(v->codec);
    }
    if (v->arena != NULL) {
        cf_arena_close(v->arena);
        cf_queue_leave(v->queue);
    }
    cf_queue_free(v->queue);
    PyObject *module = v->module;
    CF_GONE(queue_view);
    free(v);
    Py_DECREF(module);
}

/* Steals the queue.  NULL with an exception. */
static view *
view_new(PyObject *module, cf_queue *queue)
{
    view *v = calloc(1, sizeof *v);
    if (v == NULL) {
        cf_queue_free(queue);
        PyErr_NoMemory();
        return NULL;
    }
    CF_BORN(queue_view);
    v->queue = queue;
    v->module = Py_NewRef(module);
    v->refs = 1;
    if (cf_queue_join(queue, &v->arena) != CF_OK) {
        v->arena = NULL;
        cf_queue_raise(CF_SYSTEM, NULL);
        goto failed;
    }
    v->codec = cf_queue_codec_new(cf_state_of_module(module), queue, v->arena, THRESHOLD);
    if (v->codec != NULL) {
        return v;
    }
failed:
    view_free(v);
    return NULL;
}

/* The view of the same file (with one more reference), or NULL. */
static view *
find_lock_held(cf_state *st, const cf_shm_identity *file)
{
    for (view *v = st->queues; v != NULL; v = v->next) {
        const cf_shm_identity *other = &v->queue->seg->file;
        if (cf_queue_view_is_alive(v) && other->inode == file->inode && other->device == file->device) {
            v->refs++;
            return v;
        }
    }
    return NULL;
}

view *
cf_queue_view_find(cf_state *st, const cf_shm_identity *file)
{
    cf_spinlock_lock(&st->queues_lock);
    view *v = find_lock_held(st, file);
    cf_spinlock_unlock(&st->queues_lock);
    return v;
}

/* Views that nothing needs any more are taken out of the list. */
static view *
sweep_lock_held(cf_state *st)
{
    view *gone = NULL;
    int lingering = 0;
    for (view **at = &st->queues; *at != NULL; ) {      /* the one opened last comes first */
        view *v = *at;
        if (v->refs == 0 && !cf_codec_is_pinned(v->codec)
            && !(v->received && ++lingering <= LINGERING))
        {
            *at = v->next;
            v->next = gone;
            gone = v;
        }
        else {
            at = &v->next;
        }
    }
    return gone;
}

static void
sweep(cf_state *st)
{
    cf_spinlock_lock(&st->queues_lock);
    view *gone = sweep_lock_held(st);
    cf_spinlock_unlock(&st->queues_lock);
    while (gone != NULL) {
        view *next = gone->next;
        view_free(gone);
        gone = next;
    }
}

static void
trim_arena(cf_arena *arena, void *arg)
{
    (void)cf_arena_trim(arena, *(uint64_t *)arg);
}

void
cf_queue_view_trim(view *v, uint64_t keep)
{
    cf_codec_with_arena(v->codec, trim_arena, &keep);
}

void
cf_queue_view_release(cf_state *st, view *v)
{
    cf_spinlock_lock(&st->queues_lock);
    bool last = v->refs == 1;
    if (!last) {
        v->refs--;
    }
    cf_spinlock_unlock(&st->queues_lock);
    if (last) {
        cf_queue_view_trim(v, 0);
        cf_spinlock_lock(&st->queues_lock);
        v->refs--;
        cf_spinlock_unlock(&st->queues_lock);
        sweep(st);
    }
}

/* Put a new view into the list; steals it.  If there is one of that file already (another
   thread was faster), that one. */
static view *
view_add(cf_state *st, view *v)
{
    sweep(st);
    cf_spinlock_lock(&st->queues_lock);
    view *other = find_lock_held(st, &v->queue->seg->file);
    if (other == NULL) {
        v->next = st->queues;
        st->queues = v;
    }
    cf_spinlock_unlock(&st->queues_lock);
    if (other == NULL) {
        return v;
    }
    view_free(v);
    return other;
}

view *
cf_queue_view_open(PyObject *module, int fd)
{
    cf_state *st = cf_state_of_module(module);
    cf_shm_identity file;
    cf_queue *queue;
    if (cf_shm_identify(fd, &file) != CF_OK) {
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    view *v = cf_queue_view_find(st, &file);
    if (v != NULL) {
        return v;
    }
    cf_status status = cf_queue_attach(fd, &queue);
    if (status != CF_OK) {
        cf_queue_raise(status, "that descriptor is no queue's");
        return NULL;
    }
    v = view_new(module, queue);
    if (v == NULL) {
        return NULL;
    }
    v->received = true;
    return view_add(st, v);
}

/* Address space is there for dozens of large queues; programs with hundreds have small
   ones. */
static uint64_t
arena_bytes(cf_state *st)
{
    int views = 0;
    cf_spinlock_lock(&st->queues_lock);
    for (view *v = st->queues; v != NULL; v = v->next) {
        views++;
    }
    cf_spinlock_unlock(&st->queues_lock);
    return CF_QUEUE_ARENA_MAX >> (views < 8 ? 0 : views < 32 ? 2 : 5);
}

view *
cf_queue_view_create(PyObject *module, uint64_t maxsize)
{
    cf_state *st = cf_state_of_module(module);
    cf_queue *queue;
    if (cf_queue_create(maxsize, arena_bytes(st), &queue) != CF_OK) {
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    view *v = view_new(module, queue);
    return v == NULL ? NULL : view_add(st, v);
}

void
cf_queues_after_fork(cf_state *st)
{
    /* The parent's views stay where objects refer to them, or to arrays in them. */
    cf_store_relaxed(&st->queues_lock.word, 0);
    st->queues = NULL;
}
