#include "procs/memo.h"

#include <stdlib.h>

#define FIRST_SIZE 64u

void
cf_memo_clear(cf_memo *memo)
{
    free(memo->table);
    cf_memo_init(memo);
}

/* The object's entry, or the free one where it belongs. */
static cf_memo_entry *
entry_of(cf_memo_entry *table, uint32_t mask, const void *object)
{
    /* The low bits of addresses are all the same; the product's high ones are mixed. */
    uint64_t mixed = (uint64_t)(uintptr_t)object * 0x9e3779b97f4a7c15u;
    uint32_t i = (uint32_t)(mixed >> 32) & mask;
    while (table[i].object != NULL && table[i].object != object) {
        i = (i + 1) & mask;
    }
    return &table[i];
}

static cf_status
memo_grow(cf_memo *memo)
{
    uint32_t size = memo->mask == 0 ? FIRST_SIZE : 2 * (memo->mask + 1);
    cf_memo_entry *table = size == 0 ? NULL : calloc(size, sizeof(cf_memo_entry));
    if (table == NULL) {
        return CF_SYSTEM;
    }
    const cf_memo_entry *old = memo->mask == 0 ? memo->few : memo->table;
    uint32_t old_size = memo->mask == 0 ? memo->used : memo->mask + 1;
    for (uint32_t i = 0; i < old_size; i++) {
        if (old[i].object != NULL) {
            *entry_of(table, size - 1, old[i].object) = old[i];
        }
    }
    free(memo->table);
    memo->table = table;
    memo->mask = size - 1;
    return CF_OK;
}

cf_status
cf_memo_find_or_add(cf_memo *memo, const void *object, uint64_t *number)
{
    if (memo->mask == 0) {
        for (uint32_t i = 0; i < memo->used; i++) {
            if (memo->few[i].object == object) {
                *number = memo->few[i].number;
                return CF_OK;
            }
        }
        if (memo->used < CF_MEMO_FEW) {
            memo->few[memo->used++] = (cf_memo_entry){object, *number};
            return CF_AGAIN;
        }
    }
    if ((memo->mask == 0 || memo->used > memo->mask / 2) && memo_grow(memo) != CF_OK) {
        return CF_SYSTEM;
    }
    cf_memo_entry *entry = entry_of(memo->table, memo->mask, object);
    if (entry->object != NULL) {
        *number = entry->number;
        return CF_OK;
    }
    *entry = (cf_memo_entry){object, *number};
    memo->used++;
    return CF_AGAIN;
}
