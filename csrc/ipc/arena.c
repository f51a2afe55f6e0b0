/* The owner's side of an arena.

   An *extent* is what is taken from the arena's unused end and given back to the system
   at once: one large block, or a run of small ones of one class.  Everything here but the
   words in the table belongs to one thread at a time of one process (the caller's lock),
   and is believed; what comes from the table is checked against it.

   Large blocks meet page faults, which cost more than the copying.  80 MB, measured: into
   fresh pages 50 ms through the mapping, 36 if they are made in one step
   (cf_shm_prefault), 23 through the file, which need not clear them first.  Into pages
   that exist but are not mapped 36, 16 and 17 ms; into mapped ones 12, by one thread.  So
   the first use of a block goes through the file, the second maps it, and the others just
   copy. */
#include "ipc/arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "plat/copy.h"

#define RUN_MAX ((uint64_t)64 << 10)
#define RUN_MIN ((uint64_t)16 << 10)
#define SMALL   ((uint64_t)16 << 10)    /* the largest block that lies in a run */

#define CLASSES (4 * (37 - 7) + 1)      /* CF_BLOCK_MIN to CF_ARENA_MAX */
/* A full arena gives a larger block instead, but not more than four times as large. */
#define CLASSES_UP 8

/* What the owner knows of a block.  In the parent's arena messages are ended by the parent,
   too, and that may be long after the receiver gave back what it had adopted:

       FREE --allocated--> CLAIMED --collected--> BACK --message ended--> FREE
                              +--message ended--> USED --collected--> FREE

   Were a block free before its message was ended, the end of that message could free the
   next message's.  In other arenas it is USED from the beginning. */
enum { FREE, CLAIMED, USED, BACK };

typedef struct {
    uint32_t at;                /* in units, from the arena's beginning */
    uint32_t next;              /* while FREE: block + 1 below it in its class */
    uint32_t extent;
    uint16_t turn;
    uint8_t size_class;
    uint8_t use;
} book;

typedef struct {
    uint32_t at;                /* in units */
    uint32_t blocks_used;       /* that are not free */
    /* Pages from its beginning: all, that may exist, that this process has mapped. */
    uint32_t pages, dirty, mapped;
    /* While no block is used and dirty > 0, in the list of idle ones: extent + 1 */
    uint32_t newer, older;
} extent;

typedef struct {
    uint64_t at, end;           /* bytes from the arena's beginning; no block there yet */
    uint32_t extent;
} run;

struct cf_arena {
    cf_segment *seg;            /* borrowed */
    cf_arena_head *head;
    cf_block *table;
    uint64_t offset;            /* of the arena, in the segment */
    uint64_t used_to, end;      /* from the arena's beginning */
    uint64_t stale;             /* bytes of pages that may exist behind used_to */
    uint64_t page, run_bytes;
    uint64_t reserved;          /* bytes at the end that are for small blocks only */
    uint32_t number;
    uint32_t newest, oldest;    /* idle extents: extent + 1 */
    uint64_t live, idle;        /* bytes; idle is without the stale ones */
    book *books;
    extent *extents;
    uint32_t book_count, book_room, extent_count, extent_room;
    uint32_t free[CLASSES];     /* block + 1 */
    run runs[CLASSES];
};

/* ---- sizes ---- */

static uint32_t
class_of(uint64_t size)
{
    if (size <= CF_BLOCK_MIN) {
        return 0;
    }
    size = (size - 1) | (CF_BLOCK_UNIT - 1);
    uint32_t log = 63 - (uint32_t)__builtin_clzll(size);
    return (log - 7) * 4 + (uint32_t)(size >> (log - 2)) - 4 + 1;
}

static uint64_t
class_room(uint32_t size_class)
{
    if (size_class == 0) {
        return CF_BLOCK_MIN;
    }
    uint32_t quarter = size_class - 1;
    return (uint64_t)(quarter % 4 + 5) << (quarter / 4 + 5);
}

static uint64_t
round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- books ---- */

static bool
more_room(void **array, uint32_t *room, size_t item)
{
    uint32_t more = *room == 0 ? 64 : *room * 2;
    void *p = realloc(*array, more * item);
    if (p == NULL) {
        return false;
    }
    *array = p;
    *room = more;
    return true;
}

static bool
ready_books(cf_arena *a)
{
    return (a->book_count < a->book_room
            || more_room((void **)&a->books, &a->book_room, sizeof(book)))
        && (a->extent_count < a->extent_room
            || more_room((void **)&a->extents, &a->extent_room, sizeof(extent)));
}

/* ---- idle extents ---- */

static void
idle_push(cf_arena *a, uint32_t index)
{
    extent *e = &a->extents[index];
    e->newer = 0;
    e->older = a->newest;
    if (a->newest != 0) {
        a->extents[a->newest - 1].newer = index + 1;
    }
    else {
        a->oldest = index + 1;
    }
    a->newest = index + 1;
    a->idle += e->dirty * a->page;
}

static void
idle_unlink(cf_arena *a, uint32_t index)
{
    extent *e = &a->extents[index];
    if (e->newer != 0) {
        a->extents[e->newer - 1].older = e->older;
    }
    else {
        a->newest = e->older;
    }
    if (e->older != 0) {
        a->extents[e->older - 1].newer = e->newer;
    }
    else {
        a->oldest = e->newer;
    }
    a->idle -= e->dirty * a->page;
}

/* ---- blocks ---- */

static void
put_free(cf_arena *a, uint32_t block)
{
    book *b = &a->books[block];
    extent *e = &a->extents[b->extent];
    b->use = FREE;
    b->next = a->free[b->size_class];
    a->free[b->size_class] = block + 1;
    CF_GONE(block);
    a->live -= class_room(b->size_class);
    if (--e->blocks_used == 0 && e->dirty > 0) {
        idle_push(a, b->extent);
    }
}

/* Nobody else has it any more, and its word is FREE. */
static void
come_back(cf_arena *a, uint32_t block)
{
    if (a->books[block].use == CLAIMED) {
        a->books[block].use = BACK;
    }
    else {
        put_free(a, block);
    }
}

static bool
is_out(const book *b)
{
    return b->use == CLAIMED || b->use == USED;
}

/* Take the stack of returned blocks and free what is on it.  What somebody scribbled on
   it can lose blocks but neither free one that is in use (its word must say RETURNED, in
   this turn) nor go on for ever (the books know what is free already). */
static void
collect(cf_arena *a)
{
    if (cf_load_relaxed(&a->head->returned) == 0) {
        return;
    }
    /* acquire: with the release in cf_block_return(); the pushes in between are
       read-modify-writes and pass it on */
    uint32_t top = atomic_exchange_explicit(&a->head->returned, 0, memory_order_acquire);
    while (top != 0 && top <= a->book_count) {
        uint32_t index = top - 1;
        book *b = &a->books[index];
        cf_block *block = &a->table[index];
        uint32_t word = cf_load_relaxed(&block->word);
        if (!is_out(b) || (word & CF_BLOCK_STATE) != CF_BLOCK_RETURNED
            || word >> CF_BLOCK_TURN_SHIFT != b->turn) {
            return;
        }
        top = cf_load_relaxed(&block->next);
        /* A store: nobody else moves a RETURNED block. */
        cf_store_relaxed(&block->word, word & ~0xffffu);
        come_back(a, index);
    }
}

/* A new extent of `bytes` (a multiple of the page size); false: no room. */
static bool
new_extent(cf_arena *a, uint64_t bytes)
{
    if (bytes > a->end - a->used_to) {
        return false;
    }
    a->extents[a->extent_count++] = (extent){
        .at = (uint32_t)(a->used_to / CF_BLOCK_UNIT), .pages = (uint32_t)(bytes / a->page)};
    a->used_to += bytes;
    a->stale -= a->stale < bytes ? a->stale : bytes;
    return true;
}

static bool
new_run(cf_arena *a, run *r)
{
    bool first = r->end == 0;
    if (!new_extent(a, a->run_bytes)) {
        return false;
    }
    r->extent = a->extent_count - 1;
    r->at = (uint64_t)a->extents[r->extent].at * CF_BLOCK_UNIT;
    r->end = r->at + a->run_bytes;
    /* Of a second one it is likely that all of it will be used. */
    if (!first) {
        (void)cf_shm_prefault(cf_segment_at(a->seg, a->offset + r->at), a->run_bytes);
    }
    return true;
}

/* A block that never was; block + 1, or 0. */
static uint32_t
new_block(cf_arena *a, uint32_t size_class)
{
    uint64_t room = class_room(size_class), at;
    uint32_t in;
    if (!ready_books(a)) {
        return 0;
    }
    if (room <= SMALL && room <= a->run_bytes) {
        run *r = &a->runs[size_class];
        if (r->end - r->at < room && !new_run(a, r)) {
            return 0;
        }
        at = r->at;
        in = r->extent;
        r->at += room;
    }
    else {
        uint64_t bytes = round_up(room, a->page);
        if (bytes + a->reserved > a->end - a->used_to || !new_extent(a, bytes)) {
            return 0;
        }
        in = a->extent_count - 1;
        at = (uint64_t)a->extents[in].at * CF_BLOCK_UNIT;
    }
    uint32_t index = a->book_count++;
    uint32_t word = cf_load_relaxed(&a->table[index].word);
    a->books[index] = (book){
        .at = (uint32_t)(at / CF_BLOCK_UNIT), .extent = in, .use = FREE,
        .turn = (uint16_t)(word >> CF_BLOCK_TURN_SHIFT), .size_class = (uint8_t)size_class};
    if (cf_load_relaxed(&a->head->blocks) <= index) {
        cf_store_release(&a->head->blocks, index + 1);
    }
    return index + 1;
}

/* All is free: begin anew, so that space which went to other classes can be used.  Its
   pages stay; giving back gigabytes takes long. */
static void
start_over(cf_arena *a)
{
    a->stale += a->idle;
    a->used_to = a->seg->arena_data;
    a->book_count = a->extent_count = 0;
    a->newest = a->oldest = 0;
    a->idle = 0;
    memset(a->free, 0, sizeof a->free);
    memset(a->runs, 0, sizeof a->runs);
}

static uint32_t
pop_free(cf_arena *a, uint32_t size_class)
{
    uint32_t top = a->free[size_class];
    if (top != 0) {
        a->free[size_class] = a->books[top - 1].next;
    }
    return top;
}

/* The class's list is empty. */
static uint32_t
find_block(cf_arena *a, uint32_t size_class)
{
    collect(a);
    uint32_t found = pop_free(a, size_class);
    if (found == 0) {
        found = new_block(a, size_class);
    }
    if (found == 0 && a->live == 0 && a->book_count > 0) {
        start_over(a);
        found = new_block(a, size_class);
    }
    for (uint32_t i = 1; found == 0 && i <= CLASSES_UP && size_class + i < CLASSES; i++) {
        found = pop_free(a, size_class + i);
    }
    return found;
}

void
cf_arena_reserve(cf_arena *a, uint64_t bytes)
{
    a->reserved = bytes;
}

cf_status
cf_arena_alloc(cf_arena *a, uint64_t size, cf_place *place, bool *warm)
{
    if (size > a->end - a->seg->arena_data) {
        return CF_AGAIN;
    }
    uint32_t size_class = class_of(size);
    uint32_t found = pop_free(a, size_class);
    if (found == 0) {
        found = find_block(a, size_class);
        if (found == 0) {
            return CF_AGAIN;
        }
    }
    uint32_t index = found - 1;
    book *b = &a->books[index];
    extent *e = &a->extents[b->extent];
    uint64_t room = class_room(b->size_class);
    uint32_t kept = 0;
    if (e->blocks_used++ == 0 && e->dirty > 0) {
        idle_unlink(a, b->extent);
    }
    CF_BORN(block);
    a->live += room;
    b->use = a->number == CF_ARENA_PARENT ? CLAIMED : USED;
    b->turn++;
    if (room <= SMALL) {
        e->dirty = e->mapped = e->pages;
        *warm = true;
    }
    else {
        uint32_t pages = (uint32_t)((size + a->page - 1) / a->page);
        *warm = e->mapped >= pages;
        if (e->dirty > 0 && !*warm) {
            kept = CF_BLOCK_KEPT;
            e->mapped = pages;      /* cf_arena_fill() is about to do it */
        }
        e->dirty = e->dirty > pages ? e->dirty : pages;
    }
    cf_block *block = &a->table[index];
    cf_store_relaxed(&block->at, b->at);
    cf_store_relaxed(&block->room, (uint32_t)(room / CF_BLOCK_UNIT) | kept);
    /* relaxed: whoever hears of the block hears of it by a message, which is released
       and acquired */
    cf_store_relaxed(&block->word,
                     (uint32_t)b->turn << CF_BLOCK_TURN_SHIFT | CF_BLOCK_LIVE);
    *place = (cf_place){
        .offset = a->offset + (uint64_t)b->at * CF_BLOCK_UNIT, .size = size,
        .where = a->number + 1, .block = index};
    return CF_OK;
}

cf_status
cf_arena_fill(cf_arena *a, const cf_place *place, bool warm, uint64_t at,
              const void *data, uint64_t size)
{
    void *to = cf_segment_at(a->seg, place->offset + at);
    if (!warm && !(cf_block_kept(a->seg, place) && cf_shm_prefault(to, size) == CF_OK)) {
        if (cf_segment_write(a->seg, place->offset + at, data, size) == CF_OK) {
            return CF_OK;
        }
        /* The program has closed the descriptor, or limited the size of its files. */
        if (errno != EBADF && errno != EFBIG) {
            return CF_SYSTEM;
        }
    }
    cf_copy_large(to, data, (size_t)size);
    return CF_OK;
}

uint64_t
cf_arena_room(const cf_arena *a, uint32_t block)
{
    return block < a->book_count ? class_room(a->books[block].size_class) : 0;
}

/* LIVE (or HELD too) -> FREE; false if it is something else. */
static bool
take_back(cf_arena *a, uint32_t index, bool held_too)
{
    uint32_t turn = (uint32_t)a->books[index].turn << CF_BLOCK_TURN_SHIFT;
    uint32_t word = turn | CF_BLOCK_LIVE;
    while (!atomic_compare_exchange_strong_explicit(
        &a->table[index].word, &word, turn, memory_order_acquire, memory_order_relaxed)) {
        if (!held_too || (word & CF_BLOCK_STATE) != CF_BLOCK_HELD
            || word >> CF_BLOCK_TURN_SHIFT << CF_BLOCK_TURN_SHIFT != turn) {
            return false;
        }
    }
    return true;
}

static void
end_message(cf_arena *a, uint32_t block, bool held_too)
{
    if (block >= a->book_count || a->books[block].use == FREE) {
        return;
    }
    if (a->books[block].use == BACK || take_back(a, block, held_too)) {
        put_free(a, block);
    }
    else {
        a->books[block].use = USED;
    }
}

void
cf_arena_free(cf_arena *a, uint32_t block)
{
    end_message(a, block, true);
}

void
cf_arena_release(cf_arena *a, uint32_t block)
{
    end_message(a, block, false);
}

void
cf_arena_reclaim(cf_arena *a, uint32_t holder)
{
    /* First the stack: what the dead one has pushed is not to be found twice.  It pushes
       nothing any more. */
    collect(a);
    for (uint32_t i = 0; i < a->book_count; i++) {
        book *b = &a->books[i];
        cf_block *block = &a->table[i];
        /* acquire: with the release in cf_block_return() */
        uint32_t word = cf_load_acquire(&block->word), state = word & CF_BLOCK_STATE;
        if (is_out(b) && CF_BLOCK_HOLDER(word) == holder
            && (state == CF_BLOCK_HELD || state == CF_BLOCK_RETURNED)
            && word >> CF_BLOCK_TURN_SHIFT == b->turn) {
            cf_store_relaxed(&block->word, word & ~0xffffu);
            come_back(a, i);
        }
    }
}

uint64_t
cf_arena_trim(cf_arena *a, uint64_t keep)
{
    uint64_t given = 0;
    collect(a);
    if (a->stale > 0 && a->idle + a->stale > keep
        && cf_segment_discard(a->seg, a->offset + a->used_to,
                              a->end - a->used_to) == CF_OK) {
        given = a->stale;
        a->stale = 0;
    }
    while (a->idle > keep && a->oldest != 0) {
        uint32_t index = a->oldest - 1;
        extent *e = &a->extents[index];
        uint64_t bytes = e->dirty * a->page;
        if (cf_segment_discard(a->seg, a->offset + (uint64_t)e->at * CF_BLOCK_UNIT,
                               bytes) != CF_OK) {
            break;              /* they stay, and are known to stay */
        }
        idle_unlink(a, index);
        e->dirty = e->mapped = 0;
        given += bytes;
    }
    return given;
}

void
cf_arena_usage(cf_arena *a, uint64_t *live, uint64_t *idle)
{
    collect(a);
    *live = a->live;
    *idle = a->idle + a->stale;
}

bool
cf_arena_has_returned(const cf_segment *seg, uint32_t number)
{
    return number < seg->geometry.arenas
        && cf_load_relaxed(&cf_arena_head_at(seg, number)->returned) != 0;
}

/* ---- opening ---- */

cf_status
cf_arena_clear(cf_segment *seg, uint32_t number)
{
    if (number >= seg->geometry.arenas) {
        errno = EINVAL;
        return CF_SYSTEM;
    }
    /* The table reads as zeros after this, and that is FREE: a return that comes too
       late does nothing. */
    return cf_segment_discard(seg, cf_arena_offset(seg, number), seg->geometry.arena_bytes);
}

cf_status
cf_arena_open(cf_segment *seg, uint32_t number, cf_arena **out)
{
    if (cf_arena_clear(seg, number) != CF_OK) {
        return CF_SYSTEM;
    }
    cf_arena *a = calloc(1, sizeof *a);
    if (a == NULL) {
        return CF_SYSTEM;
    }
    CF_BORN(arena);
    a->seg = seg;
    a->number = number;
    a->offset = cf_arena_offset(seg, number);
    a->head = cf_arena_head_at(seg, number);
    a->table = cf_arena_table(seg, number);
    a->used_to = seg->arena_data;
    a->end = seg->geometry.arena_bytes;
    a->page = cf_shm_page();
    uint64_t wanted = a->end / 1024;
    wanted = wanted < RUN_MIN ? RUN_MIN : wanted > RUN_MAX ? RUN_MAX : wanted;
    a->run_bytes = round_up(wanted, a->page);
    *out = a;
    return CF_OK;
}

void
cf_arena_close(cf_arena *a)
{
    if (a != NULL) {
#ifdef CF_COUNT_LIVE
        /* What others still have goes with the file; nobody keeps a book of it any more. */
        for (uint32_t i = 0; i < a->book_count; i++) {
            if (a->books[i].use != FREE) {
                CF_GONE(block);
            }
        }
#endif
        CF_GONE(arena);
        free(a->books);
        free(a->extents);
        free(a);
    }
}
