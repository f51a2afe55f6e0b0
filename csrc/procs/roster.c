/* Numbers of workers.  A worker that is gone may have left results in slots and blocks in
   its arena that the parent still reads; its number is given out again when all that is
   over, or, if there is no other, without the arena. */
#include "procs/procpool.h"

enum { NEVER = 0, ENLISTED, LAST, GONE };        /* LAST: enlisted, and told of */

/* Is something of worker `number`'s arena still in use? */
static bool
leaves_results(cf_procpool *pool, uint32_t number)
{
    if (cf_codec_views(pool->codec, number + 1) != 0) {
        return true;
    }
    for (uint32_t slot = 0; slot < pool->used; slot++) {
        uint32_t word = cf_load_acquire(cf_procpool_word(pool, slot));
        if ((word & CF_SLOT_DONE) && CF_SLOT_WORKER(word) == number
            && !cf_task_is(&pool->tasks[slot], CF_TASK_ENDED))
        {
            return true;
        }
    }
    return false;
}

bool
cf_roster_enlist(cf_procpool *pool, uint32_t *number, uint32_t *arena)
{
    uint32_t records = pool->seg->geometry.workers, chosen = records, spare = records;
    for (uint32_t i = 0; i < records && chosen == records; i++) {
        if (pool->records[i] == GONE && spare == records) {
            spare = i;
        }
        if (pool->records[i] == NEVER
            || (pool->records[i] == GONE && !leaves_results(pool, i)))
        {
            chosen = i;
        }
    }
    *arena = chosen < records ? chosen + 1 : 0;
    chosen = chosen < records ? chosen : spare;
    if (chosen == records) {
        return false;
    }
    *number = chosen;
    pool->records[chosen] = ENLISTED;
    cf_board_enlist(&pool->board, chosen);
    if (chosen >= cf_load_relaxed(&pool->enlisted)) {
        cf_store_relaxed(&pool->enlisted, chosen + 1);
    }
    atomic_fetch_add_explicit(&pool->running, 1, memory_order_relaxed);
    return true;
}

bool
cf_roster_is_last(cf_procpool *pool, uint32_t number)
{
    return pool->records[number] == ENLISTED && cf_board_is_last(&pool->board, number);
}

PyObject *
cf_roster_lasts(cf_procpool *pool)
{
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < cf_load_relaxed(&pool->enlisted); i++) {
        if (!cf_roster_is_last(pool, i)) {
            continue;
        }
        PyObject *number = PyLong_FromUnsignedLong(i);
        if (number == NULL || PyList_Append(list, number) < 0) {
            Py_CLEAR(list);
        }
        else {
            pool->records[i] = LAST;
        }
        Py_XDECREF(number);
    }
    return list;
}

void
cf_roster_delist(cf_procpool *pool, uint32_t number)
{
    if (number < pool->seg->geometry.workers
        && (pool->records[number] == ENLISTED || pool->records[number] == LAST))
    {
        cf_board_bury(&pool->board, number);
        pool->records[number] = GONE;
        atomic_fetch_sub_explicit(&pool->running, 1, memory_order_relaxed);
    }
}

static void
reclaim(cf_arena *arena, void *holder)
{
    cf_arena_reclaim(arena, *(uint32_t *)holder);
}

void
cf_roster_bury(cf_procpool *pool, uint32_t number, PyObject *error)
{
    cf_roster_delist(pool, number);
    /* What it finished and announced is told first: what is watched, done, and still not
       told after that, it did not live to announce. */
    cf_procpool_settle_announced(pool);
    for (uint32_t slot = 0; slot < pool->used; slot++) {
        uint32_t word = cf_load_acquire(cf_procpool_word(pool, slot));
        if (cf_procpool_astray(pool, slot)) {
            cf_procpool_suspect(pool);
        }
        if (CF_SLOT_WORKER(word) != number) {
            continue;
        }
        cf_task *task = &pool->tasks[slot];
        if (word & CF_SLOT_TAKEN) {
            cf_procpool_fail(pool, slot, error);
        }
        else if ((word & CF_SLOT_DONE) && !cf_task_is(task, CF_TASK_ENDED)) {
            cf_board_wake(&pool->board, slot);
            if ((word & CF_SLOT_WATCHED)
                && (task->watcher != NULL || cf_task_is(task, CF_TASK_LET_GO)))
            {
                cf_procpool_settle(pool, slot);
            }
        }
    }
    cf_procpool_settle_announced(pool);
    uint32_t holder = number + 1;
    cf_codec_with_arena(pool->codec, reclaim, &holder);
}

void
cf_roster_trim(cf_procpool *pool)
{
    uint32_t enlisted = cf_load_relaxed(&pool->enlisted);
    for (uint32_t i = 0; i < enlisted; i++) {
        if (!cf_arena_has_returned(pool->seg, i + 1)) {
            continue;
        }
        if (pool->records[i] != GONE) {
            cf_board_rouse(&pool->board, i);
        }
        else if (!leaves_results(pool, i)) {
            cf_arena_clear(pool->seg, i + 1);
        }
    }
}
