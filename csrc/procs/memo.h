/* Which objects have been written into a message, by identity: what pickle's memo is.

   On the stack of one call; the objects stay alive meanwhile.  No Python code runs. */
#ifndef CF_PROCS_MEMO_H
#define CF_PROCS_MEMO_H

#include "base/status.h"
#include "py/state.h"

typedef struct {
    const void *object;             /* NULL: free */
    uint64_t number;
} cf_memo_entry;

#define CF_MEMO_FEW 8

typedef struct {
    uint32_t used;
    uint32_t mask;                  /* of `table`: its size - 1; 0: all are in `few` */
    cf_memo_entry *table;           /* open addressing, at most half full; from malloc */
    cf_memo_entry few[CF_MEMO_FEW]; /* the first `used`, as long as mask is 0 */
} cf_memo;

static inline void
cf_memo_init(cf_memo *memo)
{
    memo->used = memo->mask = 0;
    memo->table = NULL;
}

void cf_memo_clear(cf_memo *memo);      /* frees; to be initialized again */

/* CF_OK: the object was there, *number is its number; CF_AGAIN: it is there now, with
   *number; CF_SYSTEM: out of memory. */
cf_status cf_memo_find_or_add(cf_memo *memo, const void *object, uint64_t *number);

#endif
