/* The order of items, and sleeping until it changes.  queue.h has the picture.

   All moves of entries, and of tail and head, are sequentially consistent: who puts or takes
   looks for sleepers afterwards, who goes to sleep says so and then looks at the order, and
   one of the two sees the other.  (On the machines that matter a compare-and-swap costs the
   same in every order.) */
#include "ipc/queue_parts.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "plat/wait.h"

#define MAGIC 0x3165756575716663u       /* "cfqueue1" */

/* Entries in the first ring, if there will be others. */
#define FIRST_BITS 12u
/* Places beyond the bound, for items that are being taken. */
#define SPARE 512u
/* From here on a bound is only counted, and the rings grow as if there was none. */
#define LARGE ((uint64_t)1 << 24)
/* Entries lie where a pool has its slots. */
#define ENTRIES_IN_SLOT (CF_SLOT_BYTES / sizeof(cf_entry64))

/* How long a sleeper sleeps before it looks by itself.  Wake-ups are not lost but with a
   process that is killed between putting and waking, or between being woken and looking:
   this is how late others are then. */
#define SLICE_NS 500000000

#define SLEEPERS 1u                     /* in a word of events; the rest is a count */

/* ---- life ---- */

static void
view_init(cf_queue *q, cf_segment *seg)
{
    CF_BORN(queue);
    q->seg = seg;
    q->shared = cf_segment_at(seg, seg->board);
    q->members = cf_segment_at(seg, seg->records);
    q->rings = cf_segment_at(seg, seg->slots);
    q->maxsize = q->shared->maxsize;
    q->first = q->shared->first;
    q->ring_count = q->shared->ring_count;
    q->spins[CF_QUEUE_ITEM] = q->spins[CF_QUEUE_ROOM] = (cf_spin)CF_SPIN_INIT;
}

cf_status
cf_queue_create(uint64_t maxsize, uint64_t arena_bytes, cf_queue **out)
{
    return cf_queue_make(maxsize, &(cf_queue_sizes){FIRST_BITS, CF_QUEUE_RINGS, SPARE,
                                                    arena_bytes}, out);
}

cf_status
cf_queue_make(uint64_t maxsize, const cf_queue_sizes *sizes, cf_queue **out)
{
    bool grows = maxsize == 0 || maxsize > LARGE;
    unsigned bits = sizes->first + sizes->rings;
    if (!grows) {
        for (bits = 1; ((uint64_t)1 << bits) < maxsize + sizes->spare; bits++) {
        }
    }
    cf_geometry geometry = {
        .slots = ((1u << bits) + ENTRIES_IN_SLOT - 1) / ENTRIES_IN_SLOT, .workers = CF_QUEUE_MEMBERS, .arenas = CF_QUEUE_MEMBERS,
        .arena_bytes = sizes->arena_bytes};
    cf_queue *q = calloc(1, sizeof *q);
    cf_segment *seg;
    if (q == NULL) {
        return CF_SYSTEM;
    }
    if (cf_segment_create(&geometry, &seg) != CF_OK) {
        int saved = errno;
        free(q);
        errno = saved;
        return CF_SYSTEM;
    }
    /* Where the address space is limited there are fewer entries than asked for. */
    while ((uint64_t)1 << bits > seg->geometry.slots * ENTRIES_IN_SLOT) {
        bits--;
    }
    cf_queue_head *shared = cf_segment_at(seg, seg->board);
    shared->maxsize = maxsize;
    grows = grows && bits > sizes->first;
    shared->first = grows ? sizes->first : bits;
    shared->ring_count = grows ? bits - sizes->first : 1;
    cf_store_relaxed(&shared->numbers, 1);
    shared->magic = MAGIC;
    view_init(q, seg);
    *out = q;
    return CF_OK;
}

cf_status
cf_queue_attach(int fd, cf_queue **out)
{
    cf_segment *seg;
    cf_queue *q = calloc(1, sizeof *q);
    if (q == NULL) {
        return CF_SYSTEM;
    }
    cf_status status = cf_segment_attach(fd, &seg);
    if (status != CF_OK) {
        int saved = errno;
        free(q);
        errno = saved;
        return status;
    }
    view_init(q, seg);
    uint64_t entries = ((uint64_t)1 << q->ring_count) - 1;
    if (q->shared->magic != MAGIC || q->ring_count == 0 || q->ring_count > CF_QUEUE_RINGS
        || q->first > 31
        || entries << q->first > (uint64_t)seg->geometry.slots * ENTRIES_IN_SLOT
        || seg->geometry.arenas < CF_QUEUE_MEMBERS
        || seg->geometry.workers < CF_QUEUE_MEMBERS
        || seg->arena_blocks > CF_ENTRY_BLOCK(UINT64_MAX) + 1) {
        cf_queue_free(q);
        return CF_CORRUPT;
    }
    *out = q;
    return CF_OK;
}

void
cf_queue_free(cf_queue *q)
{
    CF_GONE(queue);
    cf_segment_decref(q->seg);
    free(q);
}

/* ---- positions ---- */

/* The entry of a position that tail or head has reached, and its lap. */
static cf_entry64 *
entry_at(const cf_queue *q, uint64_t position, uint64_t *lap, unsigned *ring)
{
    unsigned k = 0;
    for (; k + 1 < q->ring_count; k++) {
        uint64_t start = cf_load_acquire(&q->shared->start[k + 1]);
        if (start == 0 || start > position) {
            break;
        }
    }
    *ring = k;
    *lap = position >> (q->first + k);
    return cf_queue_ring(q, k) + (position & (cf_queue_entries(q, k) - 1));
}

/* What an entry says of a position of its ring. */
typedef enum {
    FREE,       /* nothing was put there yet, and can be */
    PUT,        /* an item */
    PASSED,     /* an item that was taken */
    LINKED,     /* the next position is in the next ring */
    BEFORE,     /* an item of an earlier lap is in it */
    AFTER,      /* the position was passed long ago */
} view_of_entry;

static view_of_entry
look(uint64_t entry, uint64_t lap)
{
    switch (CF_ENTRY_STATE(entry)) {
    case CF_ENTRY_EMPTY:
        /* Earlier laps, too: a ring is not used from its beginning on.  An entry that is
           EMPTY for a lap is never again EMPTY for the same or an earlier one, so a
           compare-and-swap from it cannot come too late. */
        return entry >> 2 <= lap ? FREE : PASSED;
    case CF_ENTRY_LINK:
        return LINKED;
    }
    uint64_t ahead = ((entry >> CF_ENTRY_LAP_SHIFT) - lap) & CF_ENTRY_LAPS;
    if (ahead != 0) {
        return ahead <= CF_ENTRY_LAPS / 2 ? AFTER : BEFORE;
    }
    return CF_ENTRY_STATE(entry) == CF_ENTRY_ITEM ? PUT : PASSED;
}

static bool
swap(cf_entry64 *at, uint64_t was, uint64_t to)
{
    return atomic_compare_exchange_strong_explicit(at, &was, to, memory_order_seq_cst,
                                                   memory_order_relaxed);
}

/* The LINK at `position` is the last entry of `ring`. */
static void
link_rings(cf_queue *q, unsigned ring, uint64_t position)
{
    (void)swap(&q->shared->start[ring + 1], 0, position + 1);
}

/* Move the head over what was taken; where it is then. */
static uint64_t
advance(cf_queue *q)
{
    for (;;) {
        uint64_t head = cf_load_seq(&q->shared->head), lap;
        unsigned ring;
        cf_entry64 *at = entry_at(q, head, &lap, &ring);
        view_of_entry view = look(cf_load_seq(at), lap);
        if (view == LINKED) {
            link_rings(q, ring, head);
        }
        else if (view == FREE || view == PUT || view == BEFORE) {
            cf_store_relaxed(&q->head_seen, head);
            return head;
        }
        /* AFTER: somebody has moved it already, and this fails. */
        (void)swap(&q->shared->head, head, head + 1);
    }
}

/* Move the tail over what was put; where it is then. */
static uint64_t
find_tail(cf_queue *q)
{
    for (;;) {
        uint64_t tail = cf_load_seq(&q->shared->tail), lap;
        unsigned ring;
        cf_entry64 *at = entry_at(q, tail, &lap, &ring);
        view_of_entry view = look(cf_load_seq(at), lap);
        if (view == LINKED) {
            link_rings(q, ring, tail);
        }
        else if (view == FREE || view == BEFORE) {
            return tail;
        }
        (void)swap(&q->shared->tail, tail, tail + 1);
    }
}

static bool
has_room(cf_queue *q, uint64_t tail)
{
    /* A head that was seen is not further than the head, but may be further than a tail
       that was read before it. */
    uint64_t seen = cf_load_relaxed(&q->head_seen);
    if (q->maxsize == 0 || seen > tail || tail - seen < q->maxsize) {
        return true;
    }
    seen = advance(q);
    return seen > tail || tail - seen < q->maxsize;
}

/* Is `tail` the last free position of its ring, and can there be another one? */
static bool
is_last(const cf_queue *q, uint64_t tail, unsigned ring, uint64_t lap)
{
    if (ring + 1 >= q->ring_count) {
        return false;
    }
    uint32_t mask = cf_queue_entries(q, ring) - 1;
    uint64_t next = cf_load_relaxed(cf_queue_ring(q, ring) + ((tail + 1) & mask));
    uint64_t next_lap = ((tail & mask) == mask) ? lap + 1 : lap;
    return look(next, next_lap) != FREE;
}

/* ---- events ---- */

static cf_word *
word_of(cf_queue *q, cf_queue_event event)
{
    return event == CF_QUEUE_ITEM ? &q->shared->getters : &q->shared->putters;
}

/* Wake one sleeper, if anybody has said that it sleeps.  Nobody says that it does not any
   more (it may be dead): who calls and finds nobody takes the word back, and then calls
   those who have fallen asleep just before that; they say it again. */
static void
notify(cf_word *word)
{
    uint32_t was = cf_load_seq(word);
    if (!(was & SLEEPERS) || cf_wake32(word, 1, CF_SHARED) != 0) {
        return;
    }
    /* was + 1 has the bit cleared and another count: who has looked before, and is about to
       sleep, does not, even if somebody else sets the bit again. */
    if (atomic_compare_exchange_strong_explicit(word, &was, was + 1, memory_order_seq_cst,
                                                memory_order_relaxed)) {
        (void)cf_wake32(word, INT_MAX, CF_SHARED);
    }
}

bool
cf_queue_ready(cf_queue *q, cf_queue_event event)
{
    uint64_t lap;
    unsigned ring;
    uint64_t position = event == CF_QUEUE_ITEM ? advance(q) : find_tail(q);
    cf_entry64 *at = entry_at(q, position, &lap, &ring);
    view_of_entry view = look(cf_load_seq(at), lap);
    return event == CF_QUEUE_ITEM ? view == PUT : view != BEFORE && has_room(q, position);
}

typedef struct {
    cf_queue *q;
    cf_queue_event event;
} question;

static bool
is_ready(void *arg)
{
    const question *wanted = arg;
    return cf_queue_ready(wanted->q, wanted->event);
}

bool
cf_queue_spin(cf_queue *q, cf_queue_event event)
{
    question wanted = {q, event};
    return cf_spin_look(&q->spins[event], is_ready, &wanted);
}

void
cf_queue_waited(cf_queue *q, cf_queue_event event, int64_t start)
{
    cf_spin_learn(&q->spins[event], start);
}

cf_status
cf_queue_sleep(cf_queue *q, cf_queue_event event, cf_deadline until)
{
    cf_word *word = word_of(q, event);
    int64_t now = cf_now();
    cf_deadline end = until - now > SLICE_NS ? now + SLICE_NS : until;
    for (;;) {
        /* Say it, then look; who puts or takes does it the other way round. */
        uint32_t value = cf_load_seq(word);
        if (!(value & SLEEPERS)
            && !atomic_compare_exchange_strong_explicit(
                word, &value, value | SLEEPERS, memory_order_seq_cst,
                memory_order_relaxed)) {
            continue;
        }
        if (cf_queue_ready(q, event)) {
            return CF_OK;
        }
        cf_status status = cf_wait32(word, value | SLEEPERS, end, CF_SHARED);
        if (status == CF_TIMEDOUT || status == CF_INTR || status == CF_SYSTEM) {
            if (cf_queue_ready(q, event)) {
                return CF_OK;
            }
            return status == CF_TIMEDOUT && end != until ? CF_AGAIN : status;
        }
    }
}

void
cf_queue_pass_on(cf_queue *q, cf_queue_event event)
{
    if (cf_queue_ready(q, event)) {
        notify(word_of(q, event));
    }
}

/* ---- putting and taking ---- */

cf_status
cf_queue_put(cf_queue *q, uint32_t block)
{
    for (;;) {
        uint64_t tail = cf_load_seq(&q->shared->tail), lap;
        unsigned ring;
        cf_entry64 *at = entry_at(q, tail, &lap, &ring);
        uint64_t entry = cf_load_seq(at);
        switch (look(entry, lap)) {
        case FREE:
            if (!has_room(q, tail)) {
                if (cf_load_seq(&q->shared->tail) == tail) {
                    return CF_AGAIN;
                }
            }
            else if (is_last(q, tail, ring, lap)) {
                if (swap(at, entry, CF_ENTRY_LINK)) {
                    link_rings(q, ring, tail);
                    (void)swap(&q->shared->tail, tail, tail + 1);
                }
            }
            else if (swap(at, entry, cf_entry_item(lap, q->number, block))) {
                (void)swap(&q->shared->tail, tail, tail + 1);
                notify(&q->shared->getters);
                return CF_OK;
            }
            break;
        case BEFORE:
            if (cf_load_seq(&q->shared->tail) == tail) {
                return CF_AGAIN;
            }
            break;
        case LINKED:
            link_rings(q, ring, tail);
            /* fall through */
        default:
            (void)swap(&q->shared->tail, tail, tail + 1);
        }
    }
}

cf_status
cf_queue_receive(cf_queue *q, cf_entry64 *at, uint64_t lap, cf_taken *taken, bool lost)
{
    uint64_t entry = cf_load_relaxed(at);
    cf_status status = cf_item_adopt(q, CF_ENTRY_ARENA(entry), CF_ENTRY_BLOCK(entry), taken,
                                     lost);
    /* A store: what is TAKEN is nobody else's. */
    cf_store_seq(at, cf_entry_empty(lap + 1));
    notify(&q->shared->putters);
    return status;
}

cf_status
cf_queue_take(cf_queue *q, cf_taken *taken)
{
    for (;;) {
        uint64_t head = cf_load_seq(&q->shared->head), lap;
        unsigned ring;
        cf_entry64 *at = entry_at(q, head, &lap, &ring);
        uint64_t entry = cf_load_seq(at);
        switch (look(entry, lap)) {
        case PUT:
            if (swap(at, entry, cf_entry_taken(entry, q->number))) {
                (void)swap(&q->shared->head, head, head + 1);
                return cf_queue_receive(q, at, lap, taken, false);
            }
            break;
        case FREE:
            return CF_AGAIN;
        case BEFORE:
            /* The ring has been gone round, and is empty but for one that is being taken. */
            if (cf_load_seq(&q->shared->head) == head) {
                return CF_ENTRY_STATE(entry) == CF_ENTRY_TAKEN ? CF_AGAIN : CF_CORRUPT;
            }
            break;
        case LINKED:
            link_rings(q, ring, head);
            /* fall through */
        default:
            (void)swap(&q->shared->head, head, head + 1);
        }
    }
}

uint64_t
cf_queue_length(cf_queue *q)
{
    unsigned first, last;
    uint64_t lap, head = advance(q), tail = find_tail(q);
    if (tail <= head) {
        return 0;
    }
    (void)entry_at(q, head, &lap, &first);
    (void)entry_at(q, tail, &lap, &last);
    return tail - head - (last > first ? last - first : 0);
}
