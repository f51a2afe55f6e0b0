"""The lot of idle workers and the length of the task queue (csrc/sync/lot.c, taskq.c).

What is done under the lot's or the queue's spin lock is one step here: in each such
section a single operation can be seen by those who do not hold the lock.  A sleeper on a
futex is a thread that waits for its word to change: the kernel compares the word and
sleeps in one step, and whoever changes it wakes the sleeper afterwards.  The linked list
of the queue is not modelled, only its two counts: a task is there once it is counted.
"""
from __future__ import annotations

from checker import END, Model, Program, put, require

AWAKE, PARKED, CALLED, DISMISSED = "AWAKE", "PARKED", "CALLED", "DISMISSED"

MUTATIONS = (
    "no last look",
    "announced after the look",
    "token given back after the look",
    "found without a look",
    "no second look after giving back",
    "told before the push",
    "the callee does not own the token",
    "dismissed before closed",
    "a worker leaves with the token",
)


class Looker(Program):
    """cf_taskq_calls() and cf_taskq_ended()."""

    def __init__(self, name, mutations, **local):
        super().__init__(name, mutations, seen=0, yes="", no="", **local)

    def calls(self, g, p, yes, no):
        """The first load; where to go on with a reason to be awake, and without."""
        p.seen, p.yes, p.no = g.taken, yes, no
        return "calls_pushed"

    def calls_pushed(self, g, p):
        """cf_taskq_calls: load pushed"""
        if g.pushed != p.seen:
            return self.looked(p, True)
        return "calls_closed"

    def calls_closed(self, g, p):
        """cf_taskq_calls: load closed"""
        return self.looked(p, g.closed)

    def ended_taken(self, g, p):
        """cf_taskq_ended: load taken"""
        p.seen = g.taken
        return "ended_pushed"

    def ended_pushed(self, g, p):
        """cf_taskq_ended: load pushed"""
        return self.looked(p, p.seen == g.pushed)

    def looked(self, p, found):
        then = p.yes if found else p.no
        p.seen, p.yes, p.no = 0, "", ""
        return then


class Notifier(Looker):
    """cf_lot_notify() and cf_lot_notify_slow(), after which it goes on at `p.then`."""

    def notify(self, g, p):
        """cf_lot_notify: load token"""
        return "notify_parked" if g.token == 0 else p.then

    def notify_parked(self, g, p):
        """cf_lot_notify: load parked_count"""
        return "slow_take" if len(g.stack) else p.then

    def slow_take(self, g, p):
        """cf_lot_notify_slow: take_token"""
        if g.token:
            return p.then
        g.token = 1
        p.holds = True
        return "slow_pop"

    def slow_pop(self, g, p):
        """cf_lot_notify_slow: pop_parked"""
        if not g.stack:
            return "slow_give"
        p.callee, g.stack = g.stack[0], g.stack[1:]
        return "slow_call"

    def slow_call(self, g, p):
        """cf_lot_notify_slow: call (store CALLED, wake)"""
        require(g.word[p.callee] == PARKED, "somebody who is not parked is called")
        g.word = put(g.word, p.callee, CALLED)
        p.callee = -1
        p.holds = False
        return p.then

    def slow_give(self, g, p):
        """cf_lot_notify_slow: store token"""
        g.token = 0
        p.holds = False
        if "no second look after giving back" in self.mutations:
            return p.then
        return "slow_look_parked"

    def slow_look_parked(self, g, p):
        """cf_lot_notify_slow: load parked_count"""
        return "slow_look" if g.stack else p.then

    def slow_look(self, g, p):
        """cf_lot_notify_slow: load taken"""
        return self.calls(g, p, "slow_take", p.then)


class Producer(Notifier):
    start = "push"

    def __init__(self, name, mutations, count):
        super().__init__(name, mutations, left=count, then="", callee=-1, holds=False)
        if "told before the push" in mutations:
            self.start = "tell_early"

    def tell_early(self, g, p):
        """(nothing)"""
        p.then = "push"
        return "notify"

    def push(self, g, p):
        """cf_taskq_push: add to pushed"""
        g.pushed += 1
        p.left -= 1
        if "told before the push" in self.mutations:
            return "tell_early" if p.left else END
        p.then = "push" if p.left else END
        return "notify"


class Closer(Program):
    start = "close"

    def __init__(self, name, mutations):
        super().__init__(name, mutations, callee=-1, closed=False)
        if "dismissed before closed" in mutations:
            self.start = "dismiss"

    def close(self, g, p):
        """cf_taskq_close"""
        g.closed = True
        p.closed = True
        return END if "dismissed before closed" in self.mutations else "dismiss"

    def dismiss(self, g, p):
        """cf_lot_dismiss: pop_parked"""
        if not g.stack:
            return END if p.closed else "close"
        p.callee, g.stack = g.stack[0], g.stack[1:]
        return "dismiss_call"

    def dismiss_call(self, g, p):
        """cf_lot_dismiss: call (store DISMISSED, wake)"""
        g.word = put(g.word, p.callee, DISMISSED)
        p.callee = -1
        return "dismiss"


class Worker(Notifier):
    """work() in csrc/threads/worker.c, and cf_lot_wait().

    together: tasks that can only end when that many run at once; 0: they end at once.
    """

    start = "pop"

    def __init__(self, name, mutations, number, together):
        super().__init__(name, mutations, searching=False, then="", callee=-1, holds=False)
        self.number = number
        self.together = together

    def pop(self, g, p):
        """cf_taskq_pop: load pushed, take, add to taken"""
        if g.pushed == g.taken:
            return "ended"
        g.taken += 1
        g.running += 1
        p.then = "run"
        return "found" if p.searching else "run"

    def run(self, g, p):
        """the task ends"""
        if g.running < self.together:
            return None
        g.done += 1
        p.then = ""
        return "pop"

    def found(self, g, p):
        """cf_lot_found: store token"""
        p.searching = False
        g.token = 0
        return p.then if "found without a look" in self.mutations else "found_look"

    def found_look(self, g, p):
        """cf_lot_found: load taken"""
        return self.calls(g, p, "notify", p.then)

    def ended(self, g, p):
        """cf_taskq_ended: load closed"""
        p.yes, p.no = "leave", "wait_token"
        return "ended_taken" if g.closed else self.looked(p, False)

    def leave(self, g, p):
        """(work: leave)"""
        p.then = END
        if p.searching and "a worker leaves with the token" not in self.mutations:
            return "found"
        return END

    # cf_lot_wait()

    def wait_token(self, g, p):
        """cf_lot_wait: take_token"""
        if not p.searching and not g.token:
            g.token = 1
            p.searching = True
        return "spin" if p.searching else "park"

    def spin(self, g, p):
        """cf_lot_wait: cf_spin_look, the look that ends it: load taken"""
        give = "announced after the look" in self.mutations
        return self.calls(g, p, "pop", "give" if give else "park")

    def park(self, g, p):
        """cf_lot_wait: push_parked"""
        g.word = put(g.word, self.number, PARKED)
        g.stack = (self.number, *g.stack)
        if "announced after the look" in self.mutations:
            return "sleep"
        if p.searching and "token given back after the look" not in self.mutations:
            return "give"
        return "last_look"

    def give(self, g, p):
        """cf_lot_wait: store token"""
        p.searching = False
        g.token = 0
        if "token given back after the look" in self.mutations:
            return "sleep"
        return "last_look"

    def last_look(self, g, p):
        """cf_lot_wait: load taken"""
        if "no last look" in self.mutations:
            return "sleep"
        if "announced after the look" in self.mutations:
            return self.calls(g, p, "pop", "park")
        if "token given back after the look" in self.mutations and p.searching:
            return self.calls(g, p, "unpark", "give")
        return self.calls(g, p, "last_token", "sleep")

    def last_token(self, g, p):
        """cf_lot_wait: take_token"""
        if g.token:
            return "sleep"
        g.token = 1
        p.searching = True
        return "unpark"

    def unpark(self, g, p):
        """cf_lot_wait: remove_parked"""
        if self.number not in g.stack:
            return "sleep"
        g.stack = tuple(n for n in g.stack if n != self.number)
        g.word = put(g.word, self.number, AWAKE)
        return "pop"

    def sleep(self, g, p):
        """cf_lot_wait: load word, which is not PARKED"""
        why = g.word[self.number]
        if why == PARKED:
            return None
        if why == CALLED and "the callee does not own the token" not in self.mutations:
            p.searching = True
        g.word = put(g.word, self.number, AWAKE)
        return "pop"


class Lot(Model):
    """producers: how many tasks each of them pushes; together: see Worker."""

    def __init__(self, producers, workers, closers=0, together=0, mutations=()):
        mutations = frozenset(mutations)
        self.count = sum(producers)
        self.workers = [Worker(f"worker {i}", mutations, i, together)
                        for i in range(workers)]
        super().__init__(
            [*self.workers,
             *(Producer(f"producer {i}", mutations, n) for i, n in enumerate(producers)),
             *(Closer(f"closer {i}", mutations) for i in range(closers))],
            token=0, pushed=0, taken=0, closed=False, stack=(), word=(AWAKE,) * workers,
            running=0, done=0)
        self.closes = closers > 0

    def invariant(self, g, threads):
        owners = sum(bool(vars(t).get("searching")) + bool(vars(t).get("holds"))
                     for t in threads) + g.word.count(CALLED)
        require(owners <= 1, "the token has two owners")
        require(g.token >= owners, "somebody thinks that he owns a token that is free")

    def at_rest(self, g, threads):
        workers = threads[:len(self.workers)]
        require(g.token == 0, "the token is lost")
        if self.closes:
            require(all(w.pc == END for w in workers), "closed, and a worker never leaves")
            require(not g.stack, "a worker that left is still parked")
        else:
            require(g.pushed == g.taken and g.done == self.count,
                    "a task waits and nobody will run it")
            require(all(w.pc == "sleep" for w in workers), "a worker hangs")
