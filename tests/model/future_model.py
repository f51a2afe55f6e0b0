"""The word of a future and the set of its waiters (csrc/sync/cell.*, waitset.c, and the
moves of csrc/future/future.c, wait.c, as_completed.c).

A futex is modelled as the kernel has it: `futex_wait` compares the word and sleeps in one
step, `futex_wake` wakes all that sleep on a word.  Waiting for a lock is waiting.
"""
from __future__ import annotations

from checker import END, Model, Program, put, require

RUNNING, DONE, CANCELLED, NOTIFIED = 1, 2, 4, 8
STATE = RUNNING | DONE | CANCELLED | NOTIFIED
FAILED, LOCKED, SLEEPERS, HOOKED = 16, 32, 64, 128
STATE_PENDING = 0
STATE_CANCELLED = DONE | CANCELLED
STATE_CANCELLED_AND_NOTIFIED = DONE | CANCELLED | NOTIFIED
STATE_FINISHED = DONE | NOTIFIED

MOVES = {
    (STATE_PENDING, RUNNING), (STATE_PENDING, STATE_FINISHED), (RUNNING, STATE_FINISHED),
    (STATE_PENDING, STATE_CANCELLED), (STATE_CANCELLED, STATE_CANCELLED_AND_NOTIFIED),
}

EACH, FAILURE, LAST = "EACH", "FAILURE", "LAST"

MUTATIONS = (
    "sleeps without saying so",
    "woken for done only",
    "sleepers looked at before the move",
    "sleepers forgotten after waking",
    "unlocked by a plain store",
    "claimed without the lock bit",
    "taken, then forgotten",
    "ticket handed out without the lock",
    "hooked without a look at the state",
    "not unhooked after the deadline",
    "posted, then counted by a store",
    "a reason looked for before the push",
)

# Words that are slept on: ("future", number) and ("set", 0).
SET = ("set", 0)


class Thread(Program):
    """What all threads do: lock and unlock futures, wake, sleep.

    In `p`: f, the number of the future at hand; word, what was read; then, where to go on.
    """

    def __init__(self, name, mutations, **local):
        super().__init__(name, mutations, f=0, word=0, then="", clear=0, set=0, **local)

    # cf_cell_lock, cf_cell_unlock

    def lock(self, g, p):
        """cf_cell_lock"""
        word = g.words[p.f]
        if word & LOCKED:
            return None
        g.words = put(g.words, p.f, word | LOCKED)
        p.word = word
        return p.then

    def unlock_with(self, p, clear, new, then):
        p.clear, p.set, p.then = clear, new, then
        if "unlocked by a plain store" in self.mutations:
            return "unlock_load"
        return "unlock"

    def unlock(self, g, p):
        """cf_cell_unlock: add"""
        old = g.words[p.f]
        require(old & LOCKED, "unlocked without the lock")
        return self._unlocked(g, p, old)

    def unlock_load(self, g, p):
        """(cf_cell_unlock: load)"""
        p.word = g.words[p.f]
        return "unlock_store"

    def unlock_store(self, g, p):
        """(cf_cell_unlock: store)"""
        return self._unlocked(g, p, p.word)

    def _unlocked(self, g, p, old):
        new = (old | p.set) & ~p.clear & ~LOCKED
        if old & STATE != new & STATE:
            require((old & STATE, new & STATE) in MOVES,
                    f"a future moves from {old & STATE} to {new & STATE}")
        g.words = put(g.words, p.f, new)
        seen = p.word if "sleepers looked at before the move" in self.mutations else old
        mask = DONE if "woken for done only" in self.mutations else DONE | NOTIFIED
        wake = seen & SLEEPERS and p.set & mask
        p.word = p.clear = p.set = 0
        if wake:
            return self.wake(("future", p.f), p)
        return self.go(p)

    def go(self, p):
        then, p.then = p.then, ""
        return then

    # cf_cell_wake

    def wake(self, address, p):
        p.word = address
        if "sleepers forgotten after waking" in self.mutations:
            return "wake_futex"
        return "wake_forget"

    def wake_forget(self, g, p):
        """cf_cell_wake: forget CF_SLEEPERS"""
        kind, number = p.word
        if kind == "set":
            self.touch(g)
            g.cell &= ~SLEEPERS
        else:
            g.words = put(g.words, number, g.words[number] & ~SLEEPERS)
        if "sleepers forgotten after waking" in self.mutations:
            p.word = 0
            return self.go(p)
        return "wake_futex"

    def wake_futex(self, g, p):
        """cf_cell_wake: futex_wake"""
        address = p.word
        g.asleep = tuple(who for who in g.asleep if who[0] != address)
        if "sleepers forgotten after waking" in self.mutations:
            return "wake_forget"
        p.word = 0
        return self.go(p)

    def touch(self, g):
        require(not g.freed, "the set of a waiter that has gone is touched")


class Waiter(Thread):
    """cf_cell_wait(): `mask` of the word at `address`; goes on at `woken`, or at
    `timed_out` if there can be a deadline."""

    start = "wait_load"
    mask, address, deadline = DONE, ("future", 0), False

    def steps(self, label):
        if label == "asleep" and self.deadline:
            return [("asleep", self.asleep), ("deadline_passes", self.deadline_passes)]
        return super().steps(label)

    def read(self, g):
        kind, number = self.address
        return g.cell if kind == "set" else g.words[number]

    def wait_load(self, g, p):
        """cf_cell_wait: load"""
        p.word = self.read(g)
        if p.word & self.mask:
            return self.woken(g, p)
        if p.word & SLEEPERS or "sleeps without saying so" in self.mutations:
            return "futex_wait"
        return "wait_announce"

    def wait_announce(self, g, p):
        """cf_cell_wait: compare and set CF_SLEEPERS"""
        if self.read(g) != p.word:
            return "wait_load"
        p.word |= SLEEPERS
        if self.address[0] == "set":
            g.cell = p.word
        else:
            g.words = put(g.words, self.address[1], p.word)
        return "futex_wait"

    def futex_wait(self, g, p):
        """cf_cell_wait: futex_wait"""
        if self.read(g) != p.word:
            return "wait_load"
        g.asleep = (*g.asleep, (self.address, self.name))
        p.word = 0
        return "asleep"

    def asleep(self, g, p):
        """cf_cell_wait: is woken"""
        return None if (self.address, self.name) in g.asleep else "wait_load"

    def deadline_passes(self, g, p):
        """cf_cell_wait: the deadline passes"""
        who = (self.address, self.name)
        if who not in g.asleep:
            return None
        g.asleep = tuple(other for other in g.asleep if other != who)
        p.word = 0
        return self.timed_out(g, p)

    def woken(self, g, p):
        p.word = 0
        return END

    def timed_out(self, g, p):
        return END


class ResultWaiter(Waiter):
    """future.result(), which waits for CF_DONE."""


class NotifiedWaiter(Waiter):
    """wait(ALL_COMPLETED) on one future: CF_NOTIFIED."""

    mask = NOTIFIED


class Completer(Thread):
    """What finishing and notifying share: post the tickets, then make the move."""

    failed = False

    def post(self, g, p):
        """cf_waitset_post: push the ticket"""
        self.touch(g)
        g.posted = (p.f, *g.posted)
        g.posts = put(g.posts, p.f, g.posts[p.f] + 1)
        require(g.posts[p.f] <= 1, "a ticket is posted twice")
        g.hooks = put(g.hooks, p.f, False)
        if g.when == EACH:
            return "post_look"
        if "posted, then counted by a store" in self.mutations:
            return "post_count_load"
        return "post_count"

    def post_count_load(self, g, p):
        """(cf_waitset_post: load remaining)"""
        p.left = g.remaining - 1
        return "post_count_store"

    def post_count_store(self, g, p):
        """(cf_waitset_post: store remaining)"""
        self.touch(g)
        g.remaining = p.left
        return self._counted(g, p)

    def post_count(self, g, p):
        """cf_waitset_post: subtract from remaining"""
        self.touch(g)
        g.remaining -= 1
        p.left = g.remaining
        return self._counted(g, p)

    def _counted(self, g, p):
        left, p.left = p.left, 0
        if left == 0 or (g.when == FAILURE and self.failed):
            return "post_look"
        return "posted"

    def post_look(self, g, p):
        """cf_waitset_post: load cell"""
        self.touch(g)
        if "a reason looked for before the push" in self.mutations:
            seen, p.left = p.left, 0
        else:
            seen = g.cell & DONE
        return "posted" if seen else "post_done"

    def post_look_early(self, g, p):
        """(cf_waitset_post: load cell)"""
        p.left = g.cell & DONE
        return "post"

    def post_done(self, g, p):
        """cf_waitset_post: set CF_DONE"""
        self.touch(g)
        old, g.cell = g.cell, g.cell | DONE
        p.then = "posted"
        return self.wake(SET, p) if old & SLEEPERS else self.go(p)

    def notify_locked(self, g, p):
        """cf_future_commit_notify, cf_future_claim: look at the state, lock held"""
        p.change = "notify" if p.word & STATE == STATE_CANCELLED else ""
        return self.post_or_move(g, p)

    def post_or_move(self, g, p):
        if p.change and g.hooks[p.f]:
            if "a reason looked for before the push" in self.mutations:
                return "post_look_early"
            return "post"
        return self.posted(g, p)

    def posted(self, g, p):
        """cf_cell_unlock after the posts (add)"""
        change, p.change = p.change, ""
        clear, new = {
            "": (0, 0),
            "notify": (0, NOTIFIED),
            "finish": (RUNNING, STATE_FINISHED | (FAILED if self.failed else 0)),
        }[change]
        return self.unlock_with(p, clear, new, END)


class Worker(Completer):
    """Claims the future, runs it, and finishes it; or notifies that it was cancelled."""

    start = "claim"

    def __init__(self, name, mutations, f=0, failed=False):
        super().__init__(name, mutations, left=0, change="")
        self.local["f"] = f
        self.failed = failed

    def claim(self, g, p):
        """cf_future_claim: compare PENDING and set RUNNING"""
        word = g.words[p.f]
        if "claimed without the lock bit" in self.mutations:
            word &= ~(LOCKED | HOOKED | SLEEPERS)
        if word == STATE_PENDING:
            g.words = put(g.words, p.f, g.words[p.f] | RUNNING)
            g.claimed = put(g.claimed, p.f, g.claimed[p.f] + 1)
            p.then = "finish_locked"
            return "lock"
        p.then = "claim_locked"
        return "lock"

    def claim_locked(self, g, p):
        """cf_future_claim: look at the state, lock held"""
        state = p.word & STATE
        if state == STATE_PENDING:
            g.claimed = put(g.claimed, p.f, g.claimed[p.f] + 1)
            return self.unlock_with(p, 0, RUNNING, "finish")
        return self.unlock_with(p, 0, 0, "notify" if state == STATE_CANCELLED else END)

    def notify(self, g, p):
        """cf_future_commit_notify"""
        p.then = "notify_locked"
        return self.lock(g, p)

    def finish(self, g, p):
        """cf_future_commit_finish"""
        p.then = "finish_locked"
        return self.lock(g, p)

    def finish_locked(self, g, p):
        """cf_future_commit_finish: look at the state, lock held"""
        require(not p.word & DONE, "a claimed future is done by somebody else")
        p.change = "finish"
        return self.post_or_move(g, p) if p.word & HOOKED else self.posted(g, p)


class Canceller(Completer):
    """future.cancel(); with `notifies` as a pool that shuts down does it."""

    start = "cancel"

    def __init__(self, name, mutations, notifies=False):
        super().__init__(name, mutations, left=0, change="")
        self.notifies = notifies

    def cancel(self, g, p):
        """cf_future_commit_cancel"""
        p.then = "cancel_locked"
        return self.lock(g, p)

    def cancel_locked(self, g, p):
        """cf_future_commit_cancel: look at the state, lock held"""
        mine = p.word & STATE == STATE_PENDING
        if mine:
            g.cancelled += 1
        return self.unlock_with(p, 0, STATE_CANCELLED if mine else 0,
                                "notify" if self.notifies and mine else END)

    def notify(self, g, p):
        """cf_future_commit_notify"""
        p.then = "notify_locked"
        return self.lock(g, p)


class Watcher(Waiter):
    """as_completed(), or wait() for the first (failure), over all futures.

    It hooks itself to each, takes tickets until it has all (or, for wait(), until it is
    woken), takes each future's lock once more, and frees the set."""

    start = "hook"
    mask, address = DONE, SET

    def __init__(self, name, mutations, futures, as_completed, deadline):
        super().__init__(name, mutations, at=0, got=())
        self.futures = futures
        self.as_completed = as_completed
        self.deadline = deadline

    def hook(self, g, p):
        """cf_future_hook"""
        p.f = p.at
        p.then = "hook_locked"
        return self.lock(g, p)

    def hook_locked(self, g, p):
        """cf_future_hook: look at the state, hang the ticket, lock held"""
        p.at += 1
        then = "hook" if p.at < self.futures else "begin"
        if p.word & NOTIFIED and "hooked without a look at the state" not in self.mutations:
            return self.unlock_with(p, 0, 0, "post_own")
        g.hooks = put(g.hooks, p.f, True)
        return self.unlock_with(p, 0, HOOKED, then)

    def post_own(self, g, p):
        """cf_waitset_post by the waiter itself, which does not sleep"""
        g.posted = (p.f, *g.posted)
        g.posts = put(g.posts, p.f, g.posts[p.f] + 1)
        if g.when != EACH:
            g.remaining -= 1
        if g.when == EACH or g.remaining == 0 or (g.when == FAILURE
                                                  and g.words[p.f] & FAILED):
            g.cell |= DONE
        return "hook" if p.at < self.futures else "begin"

    def begin(self, g, p):
        """(it begins to wait)"""
        p.at = 0
        return self._forget_or_take() if self.as_completed else "wait_load"

    def _forget_or_take(self):
        return "take" if "taken, then forgotten" in self.mutations else "forget"

    def forget(self, g, p):
        """cf_waitset_take: forget CF_DONE"""
        g.cell &= ~DONE
        if "taken, then forgotten" in self.mutations:
            return self._taken(g, p)
        return "take"

    def take(self, g, p):
        """cf_waitset_take: take the tickets"""
        p.got = (*p.got, *reversed(g.posted))
        g.posted = ()
        if "taken, then forgotten" in self.mutations:
            return "forget"
        return self._taken(g, p)

    def _taken(self, g, p):
        return "hand_out" if p.got else "wait_load"

    def woken(self, g, p):
        p.word = 0
        if self.as_completed:
            return self._forget_or_take()
        left = sum(1 for n in g.posts if n == 0)
        require(g.when != LAST or left == 0, "woken for the last, and some are left")
        return "unhook"

    def timed_out(self, g, p):
        if "not unhooked after the deadline" in self.mutations:
            return "free"
        return "unhook"

    # as_completed: one future after the other

    def hand_out(self, g, p):
        """as_completed: take the lock of the future to hand out"""
        p.f, p.got = p.got[0], p.got[1:]
        p.at += 1
        p.then = "handed_out"
        if "ticket handed out without the lock" in self.mutations:
            return "handed_out"
        return "lock"

    def handed_out(self, g, p):
        """as_completed: unlock, and hand the future out"""
        require(g.words[p.f] & NOTIFIED, "a future is handed out before it is done")
        then = "hand_out" if p.got else (
            "free" if p.at == self.futures else self._forget_or_take())
        if "ticket handed out without the lock" in self.mutations:
            p.then = then
            return self.go(p)
        return self.unlock_with(p, 0, 0, then)

    # wait(), or a deadline: off all hooks

    def unhook(self, g, p):
        """cf_future_unhook"""
        p.f = self.futures - 1
        p.then = "unhook_locked"
        return self.lock(g, p)

    def unhook_next(self, g, p):
        """cf_future_unhook"""
        p.f -= 1
        p.then = "unhook_locked"
        return self.lock(g, p)

    def unhook_locked(self, g, p):
        """cf_future_unhook: unlink, lock held"""
        g.hooks = put(g.hooks, p.f, False)
        return self.unlock_with(p, 0, 0, "unhook_next" if p.f else "free")

    def free(self, g, p):
        """cf_watch_free"""
        g.freed = True
        return END


class Futures(Model):
    """Some threads around one or more futures, with one watcher at most.

    Each future must have a worker, so that it is completed and nobody waits in vain."""

    def __init__(self, programs, futures=1, when=EACH):
        super().__init__(programs, words=(0,) * futures, asleep=(),
                         hooks=(False,) * futures, posts=(0,) * futures, posted=(), cell=0,
                         remaining=futures, when=when, freed=False,
                         claimed=(0,) * futures, cancelled=0)

    def invariant(self, g, threads):
        require(sum(g.claimed) + g.cancelled <= len(g.words), "claimed and cancelled")
        require(g.remaining >= 0, "more tickets posted than there are")

    def at_rest(self, g, threads):
        for program, thread in zip(self.programs, threads, strict=True):
            require(thread.pc == END, f"{program.name} hangs at {thread.pc}")
        for word in g.words:
            require(not word & LOCKED, "a lock is held for ever")
