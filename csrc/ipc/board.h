/* The board: task slots, the order in which they are taken, and the workers that take
   them.  All in shared memory, no lock in it.

   A slot's word:

       FREE --parent posts--> QUEUED --worker takes--> TAKEN --worker finishes--> DONE
        ^                        |                       +--parent: it died-------^ |
        |                        +--parent cancels--> CANCELLED                     |
        +--------------------parent frees-----------------+-------------------------+

   Taking is one compare-and-swap that also writes the worker's number: a task is always
   somebody's, and a death names what it had begun.  The order is a ring of slot numbers.
   Its head only says where to begin to look: whoever finds that the slot at the head is
   not QUEUED (any more) moves the head on, so a worker that died between taking and
   moving holds up nobody.

   Besides the state the parent sets two bits at any time, and the worker that finishes
   sees them in the same step that makes the slot DONE: SLEEPERS (somebody sleeps on the
   word: wake them) and WATCHED (announce the slot: push it on the board's list of
   announced slots, and ring the bell if the manager has said that it sleeps).

   Idle workers wait as in sync/lot.h: at most one *searches* (spins, or was called and is
   on its way), the token says which; the others sleep, each on a word of its own, their
   bits set in `parked`.  A token has an owner with a number, so that of a dead worker
   can be taken away: cf_board_bury().

   A word that a worker scribbled over may do harm to other workers and to futures, but
   never to the parent's memory: slot numbers read here are checked (CF_CORRUPT). */
#ifndef CF_IPC_BOARD_H
#define CF_IPC_BOARD_H

#include <stddef.h>
#include <string.h>

#include "base/activity.h"
#include "ipc/segment.h"
#include "plat/clock.h"
#include "plat/spin.h"

/* ---- slots ---- */

#define CF_SLOT_FREE      0u
#define CF_SLOT_QUEUED    (1u << 0)
#define CF_SLOT_TAKEN     (1u << 1)
#define CF_SLOT_DONE      (1u << 2)
#define CF_SLOT_CANCELLED (1u << 3)
#define CF_SLOT_STATE     0xfu
#define CF_SLOT_SLEEPERS  (1u << 4)
#define CF_SLOT_WATCHED   (1u << 5)
#define CF_SLOT_FAILED    (1u << 6)     /* with DONE: an exception */
#define CF_SLOT_WORKER_SHIFT 8          /* 12 bits: who took it */
#define CF_SLOT_WORKER(word) (((word) >> CF_SLOT_WORKER_SHIFT) & 0xfffu)
#define CF_SLOT_TURN_SHIFT 20           /* 12 bits: how often the slot was used, mod 4096 */
#define CF_SLOT_TURN(word) ((word) >> CF_SLOT_TURN_SHIFT)

#define CF_MAX_WORKERS 4096u
#define CF_NO_SLOT 0xffffffffu

/* What kind of message the slot holds; procs/codec.h knows more. */
#define CF_SLOT_INLINE 72

typedef struct {
    cf_word word;
    cf_word next;               /* announced list: slot number + 1; the announcer's */
    /* The task's function: a definition's number (0: it is in the message), and where
       its bytes are: a uint64_t length and then the bytes.  The parent's; once the worker
       has read it (and `pid` is not 0) there is in its place when the task began and ended
       (cf_now_stamp(); 0: not yet). */
    union {
        uint64_t definition;
        struct {
            cf_word started, finished;
        };
    };
    uint64_t definition_at;
    /* The message: the parent's until QUEUED, then the taker's, with DONE the parent's
       again. */
    cf_place place;
    uint8_t codec;
    uint8_t count;              /* arguments, for some codecs */
    uint16_t flags;
    cf_word pid;                /* who runs or ran it; the parent's 0 until then */
    char inlined[CF_SLOT_INLINE];
} cf_slot;

_Static_assert(sizeof(cf_slot) == 128, "two cache lines");

/* A copy of a slot whose message is the caller's, with the word as of now: who sleeps on the
   word, and who announces, may write to the first two fields meanwhile. */
static inline cf_slot
cf_slot_copy(cf_slot *slot)
{
    cf_slot copy;
    size_t from = offsetof(cf_slot, definition);
    memcpy((char *)&copy + from, (char *)slot + from, sizeof copy - from);
    cf_store_relaxed(&copy.word, cf_load_relaxed(&slot->word));
    cf_store_relaxed(&copy.next, 0);
    return copy;
}

/* ---- what else lies in shared memory; for board*.c, and for tests and diagnosis ---- */

/* A worker's place.  Guard: see each field. */
typedef struct {
    /* The parent's STARTING, the worker's AWAKE and PARKED, anybody's CALLED. */
    cf_word berth;
    cf_word enlisted;           /* the parent's: a process has, or will have, this number */
    cf_word dismissed;          /* the parent's */
    char pad[CF_CACHE_LINE - 3 * sizeof(cf_word)];
    cf_word busy;               /* the worker's */
    cf_word last;               /* the worker's: it has begun its last task */
    cf_word active;             /* the worker's: it is not asleep, as `activity` knows */
    cf_word unused;
    /* The workers' that had this number, one after the other: how many tasks they ended, and
       how many of these failed. */
    _Atomic uint64_t ended, failed;
    char pad_to_end[CF_CACHE_LINE - 4 * sizeof(cf_word) - 2 * sizeof(uint64_t)];
} cf_record;

_Static_assert(sizeof(cf_record) == 128, "the segment reserves this");

/* An entry of the order: the slot's turn (upper half) and number. */
typedef _Atomic uint64_t cf_entry;

/* Pairs of lines: processors fetch the neighbour too. */
#define CF_APART (2 * CF_CACHE_LINE)

typedef struct {
    /* The parent's: entries that were ever pushed. */
    _Alignas(CF_APART) _Atomic uint64_t tail;
    /* Entries that were passed; anybody moves it, by one, by compare-and-swap. */
    _Alignas(CF_APART) _Atomic uint64_t head;
    /* Who searches: see board_idle.c. */
    _Alignas(CF_APART) cf_word token;
    cf_word closed;                     /* the parent's */
    cf_word enlisted;                   /* the parent's: all numbers are below it */
    /* A stack, slot number + 1: anybody pushes, the manager takes all of it. */
    _Alignas(CF_APART) cf_word announced;
    cf_word manager_asleep;             /* the manager's; who makes it 0 rings the bell */
    _Alignas(CF_APART) cf_activity activity;    /* of the workers, but for sleep */
    /* A bit for each worker, which sets it and clears it. */
    _Alignas(CF_APART) _Atomic uint64_t parked[CF_MAX_WORKERS / 64];
} cf_board_head;

_Static_assert(sizeof(cf_board_head) <= 65536, "the segment reserves this");

/* One process's view of the board. */
typedef struct {
    cf_segment *seg;            /* borrowed */
    cf_spin spin;               /* of this process's workers */
    cf_board_head *shared;
    cf_record *records;
    cf_entry *order;            /* a ring as long as there are slots */
    cf_slot *slots;
    uint32_t count;             /* of slots, a power of two */
    uint32_t workers;           /* records */
    /* The parent's, guarded by the pool's lock: what it pushed, however workers scribble,
       and a head it has seen (they move on: the real one may be larger). */
    uint64_t tail;
    uint64_t head_seen;
    uint32_t unread;            /* the manager's: announced slots taken and not yet told */
} cf_board;

/* The memory is zeros or in use.  One view in each process; in the parent one for all. */
void cf_board_init(cf_board *board, cf_segment *seg);

/* `number` is below the count of slots. */
static inline cf_slot *
cf_board_slot(const cf_board *board, uint32_t number)
{
    return &board->slots[number];
}

/* ---- the parent's side; `push`, `advance` under the pool's lock ---- */

/* Put a filled FREE slot (word and order are written here) at the end of the order.
   CF_OK; CF_AGAIN: the ring is full (of cancelled tasks); CF_CORRUPT: the slot is not
   FREE, or the head is where it cannot be. */
cf_status cf_board_push(cf_board *board, uint32_t slot);
/* There is something to take: call a parked worker unless one searches.  Any thread. */
void cf_board_notify(cf_board *board);
/* Move the head over what is not QUEUED; the length of the order after that. */
uint64_t cf_board_advance(cf_board *board);
/* Entries in the order: at most so many tasks wait.  To compare it with
   cf_board_idle() ask for the length first: then a worker that has just taken a task
   is never counted as idle without the task being counted as waiting. */
uint64_t cf_board_length(const cf_board *board);

/* QUEUED -> CANCELLED; whoever sleeps on the word is woken.  It is not announced.
   false: too late. */
bool cf_board_cancel(cf_board *board, uint32_t slot);
/* TAKEN by worker `number`, which is dead, -> DONE | FAILED, as if it had finished: wakes
   who sleeps, announces if it is watched (but rings no bell).  false: it is not so. */
bool cf_board_fail(cf_board *board, uint32_t slot, uint32_t number);
/* Wake who sleeps on the slot's word: for slots that a worker made DONE just before it
   died. */
void cf_board_wake(cf_board *board, uint32_t slot);
/* Set WATCHED; the word as it was before.  If that was QUEUED or TAKEN the slot will be
   announced when it is DONE, and must not be freed before it has come out of
   cf_board_announced(): its `next` is in use until then.  (Or until its worker is known
   to be dead and cf_board_announced() has been emptied after that: the worker may have
   died between finishing and announcing.) */
uint32_t cf_board_watch(cf_board *board, uint32_t slot);
/* DONE or CANCELLED -> FREE.  Nobody may be watching it or waiting for it any more. */
void cf_board_free(cf_board *board, uint32_t slot);
/* Sleep until the slot is DONE or CANCELLED, spinning first if `spin` is not NULL.
   Without the GIL.  CF_OK, CF_TIMEDOUT, CF_INTR, CF_SYSTEM, or CF_CORRUPT: the word is in
   no state that the slot can be in. */
cf_status cf_board_await(cf_board *board, uint32_t slot, cf_spin *spin, cf_deadline until);

/* The announced slots, oldest first: fills up to `room` numbers, returns how many, and
   keeps the rest for the next call in *rest (0 at first); 0: that is all.  The list is in
   shared memory: numbers out of range, or a list that bites its tail, end it and set
   *corrupt, which is never reset here.  The numbers are below the count of slots, more
   is not known: look at the slot's word.  One thread. */
size_t cf_board_announced(cf_board *board, uint32_t *rest, uint32_t *numbers, size_t room,
                          bool *corrupt);
/* The manager is about to sleep (true: go; false: there is something announced already)
   and is awake again. */
bool cf_board_manager_sleeps(cf_board *board);
void cf_board_manager_wakes(cf_board *board);

/* No more tasks will come: workers leave when there is nothing left to take. */
void cf_board_close(cf_board *board);
/* Worker `number` leaves as soon as it has finished what it runs. */
void cf_board_dismiss(cf_board *board, uint32_t number);
/* Worker `number` wakes if it sleeps, and finds nothing: time to put its house in order. */
void cf_board_rouse(cf_board *board, uint32_t number);
/* Worker `number` is dead: take the token from it and its bit out of `parked`, finish what
   it may have begun with others, and call somebody if there is something to take.  For
   every worker that ended, in whatever way, once its process is known to be gone.  What
   it had taken is the caller's to look for. */
void cf_board_bury(cf_board *board, uint32_t number);
/* Make the record of worker `number` ready for a new process; before it starts. */
void cf_board_enlist(cf_board *board, uint32_t number);
/* Whether some worker has begun to take tasks: not while all processes are only starting. */
bool cf_board_begun(const cf_board *board, uint32_t enlisted_up_to);
/* Workers among the enlisted that are not running a task (starting ones count), and will
   take another one. */
uint32_t cf_board_idle(const cf_board *board, uint32_t enlisted_up_to);

typedef struct {
    uint64_t ended, failed;     /* tasks that workers finished; those of them that failed */
    uint32_t running;           /* workers that have a task */
    int64_t active;             /* nanoseconds in which some worker was awake */
} cf_board_tally;

/* What workers say that they have done; `since`: when the board was made, cf_now_coarse(). */
cf_board_tally cf_board_count_up(const cf_board *board, int64_t since);

/* ---- a worker's side ---- */

/* Take the oldest task; CF_NO_SLOT if there is none, or the worker is dismissed.  With a
   task the worker is busy.  Calls the next worker if there is more to take and this one
   had the token. */
uint32_t cf_board_take(cf_board *board, uint32_t number);
/* The worker has taken a task, or leaves: it searches no more, and if there is more to
   take it calls the next one.  (The functions here do it where it is due.) */
void cf_board_found(cf_board *board, uint32_t number);
/* TAKEN -> DONE (| FAILED): wakes who sleeps, announces if it is watched; `bell` is the
   manager's (plat/peer.h).  Once for each task, by who took it. */
void cf_board_finish(cf_board *board, uint32_t slot, bool failed, int bell);
/* The worker says that it runs a task or not (for cf_board_idle). */
void cf_board_busy(cf_board *board, uint32_t number, bool busy);
/* The worker has finished a task. */
void cf_board_ended(cf_board *board, uint32_t number, bool failed);
/* The worker is ready for its first task. */
void cf_board_begin(cf_board *board, uint32_t number);
/* The worker begins to work, or goes to sleep or leaves. */
void cf_board_active(cf_board *board, uint32_t number, bool active);
/* Nothing to take: look for a while, awake, unless somebody else does.  CF_OK: take, at
   once, since others may rely on it; CF_AGAIN: nothing came, so sleep (what is to be done
   before may take its time); CF_TIMEDOUT: the board is closed or the worker dismissed:
   leave. */
cf_status cf_board_spin(cf_board *board, uint32_t number);
/* Nothing to take: sleep.  CF_OK: take, at once; CF_AGAIN: the deadline has passed;
   CF_INTR: a signal came; CF_TIMEDOUT: leave, as above. */
cf_status cf_board_sleep(cf_board *board, uint32_t number, cf_deadline until);
/* Both, one after the other, without a deadline. */
cf_status cf_board_wait(cf_board *board, uint32_t number);
/* The worker has begun its last task (the parent may start its successor). */
void cf_board_last(cf_board *board, uint32_t number, int bell);
bool cf_board_is_last(const cf_board *board, uint32_t number);

#endif
