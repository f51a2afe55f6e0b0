"""The board of a process pool (csrc/ipc/board.c, board_idle.c): tasks are posted and taken,
workers sleep and call each other, and one of them dies, anywhere.

A sleeper on a futex is in the kernel's queue (`asleep`) until somebody wakes it: here a
caller can die between changing the word and the wake-up.  A look at the order is one step
(it reads the head, then the tail: "empty" is exact at the second, "not empty" may be stale,
which is harmless).  Each task has a slot of its own; the ring of the order is as short as
the setting says, so that entries are overwritten that a slow worker still has to read.
"""
from __future__ import annotations

from checker import END, Model, Program, put, require

AWAKE, PARKED, CALLED = "AWAKE", "PARKED", "CALLED"
FREE, QUEUED, DONE, FAILED, CANCELLED = "FREE", "QUEUED", "DONE", "FAILED", "CANCELLED"
PARENT = "parent"

MUTATIONS = (
    "the head is moved before the task is taken",
    "the head is moved without looking",
    "the ring is never full",
    "no last look",
    "announced after the look",
    "the token is given back after the look",
    "told before the push",
    "found without a look",
    "no second look after letting go",
    "the callee gets the token after the call",
    "a token that went astray is not taken back",
    "who leaves keeps the token",
    "who is interrupted keeps the token",
    "only its own token is taken from the dead",
    "those whom the dead called are not woken",
    "the berth of the dead is not cleared",
    "nobody is called after a death",
    "being closed is no reason",
    "closed after the calls",
    "the last look asks for tasks alone",
)


def waits(g):
    return g.head != g.tail


class Caller(Program):
    """cf_board_notify() and call(), after which it goes on at `p.then`.  A worker has
    given the token back or holds it as its number; a thread of the parent holds it as
    PARENT."""

    mine: object

    def is_reason(self, g):
        if "being closed is no reason" in self.mutations:
            return waits(g)
        return g.closed or waits(g)

    def parked(self, g):
        for i, (bit, berth) in enumerate(zip(g.bits, g.berth, strict=True)):
            if bit and berth == PARKED:
                return i
        return -1

    def notify(self, g, p):
        """notify: load token"""
        return "notify_parked" if g.token == 0 else p.then

    def notify_parked(self, g, p):
        """notify: find_parked"""
        return "notify_take" if self.parked(g) >= 0 else p.then

    def notify_take(self, g, p):
        """notify: move_token (0, mine)"""
        if g.token != 0:
            return p.then
        g.token = self.mine
        return "call"

    def call(self, g, p):
        """call: find_parked"""
        p.callee = self.parked(g)
        if p.callee < 0:
            return "call_let_go"
        if "the callee gets the token after the call" in self.mutations:
            return "call_rouse"
        return "call_transfer"

    def call_transfer(self, g, p):
        """call: move_token (mine, the callee)"""
        if g.token != self.mine:
            return self.called(p)
        g.token = p.callee + 1
        if "the callee gets the token after the call" in self.mutations:
            return self.called(p)
        return "call_rouse"

    def call_rouse(self, g, p):
        """rouse: compare berth and set CALLED"""
        if g.berth[p.callee] == PARKED:
            g.berth = put(g.berth, p.callee, CALLED)
            return "call_wake"
        if "the callee gets the token after the call" in self.mutations:
            return "call"
        if "a token that went astray is not taken back" in self.mutations:
            return self.called(p)
        return "call_take_back"

    def call_wake(self, g, p):
        """rouse: cf_wake32"""
        g.asleep = put(g.asleep, p.callee, False)
        if "the callee gets the token after the call" in self.mutations:
            return "call_transfer"
        return self.called(p)

    def call_take_back(self, g, p):
        """call: move_token (the callee, mine)"""
        if g.token != p.callee + 1:
            return self.called(p)
        g.token = self.mine
        return "call"

    def call_let_go(self, g, p):
        """call: move_token (mine, 0)"""
        if g.token != self.mine:
            return self.called(p)
        g.token = 0
        if "no second look after letting go" in self.mutations:
            return self.called(p)
        return "call_look"

    def call_look(self, g, p):
        """call: is_reason"""
        return "call_look_parked" if self.is_reason(g) else self.called(p)

    def call_look_parked(self, g, p):
        """call: find_parked"""
        return "call_again" if self.parked(g) >= 0 else self.called(p)

    def call_again(self, g, p):
        """call: move_token (0, mine)"""
        if g.token != 0:
            return self.called(p)
        g.token = self.mine
        return "call"

    def called(self, p):
        p.callee = -1
        return p.then


class Poster(Caller):
    """A thread of the parent that submits `count` tasks, takes the first one back if it
    `cancels`, and at last closes the board if it `closes`."""

    mine = PARENT
    start = "next"

    def __init__(self, name, mutations, first, count, cancels, closes):
        super().__init__(name, mutations, at=first, then="", callee=-1, to_close=closes)
        self.first = first
        self.end = first + count
        self.cancels = cancels

    def next(self, g, p):
        """(the next task)"""
        if p.at < self.end:
            if "told before the push" in self.mutations:
                p.then = "fill"
                return "notify"
            return "fill"
        if self.cancels and g.slots[self.first] == QUEUED:
            return "cancel"
        if not p.to_close:
            return END
        if g.tail < len(g.slots):
            return None             # no more tasks will come
        return "rouse_next" if "closed after the calls" in self.mutations else "close"

    def fill(self, g, p):
        """cf_board_push: store word and entry"""
        if g.posting or g.tail - g.head >= len(g.order):
            if g.posting or "the ring is never full" not in self.mutations:
                return None         # the pool's lock; CF_AGAIN
        g.posting = True
        g.slots = put(g.slots, p.at, QUEUED)
        g.order = put(g.order, g.tail % len(g.order), p.at)
        return "publish"

    def publish(self, g, p):
        """cf_board_push: store tail"""
        g.tail += 1
        g.posting = False
        p.at += 1
        p.then = "next"
        return "next" if "told before the push" in self.mutations else "notify"

    def cancel(self, g, p):
        """cf_board_cancel"""
        if g.slots[self.first] == QUEUED:
            g.slots = put(g.slots, self.first, CANCELLED)
        return "next"

    def close(self, g, p):
        """cf_board_close: store closed"""
        g.closed = True
        if "closed after the calls" in self.mutations:
            p.to_close = False
            return END
        p.callee = 0
        return "rouse_next"

    def rouse_next(self, g, p):
        """cf_board_close: rouse"""
        p.callee = max(p.callee, 0)
        if p.callee == len(g.berth):
            p.to_close = False
            p.callee = -1
            return "close" if "closed after the calls" in self.mutations else END
        if g.berth[p.callee] == PARKED:
            g.berth = put(g.berth, p.callee, CALLED)
            return "rouse_wake"
        p.callee += 1
        return "rouse_next"

    def rouse_wake(self, g, p):
        """cf_board_close: rouse, cf_wake32"""
        g.asleep = put(g.asleep, p.callee, False)
        p.callee += 1
        return "rouse_next"


class Worker(Caller):
    """work() in csrc/procs/worker.c.

    together: tasks that can only end when that many run at once (or have ended);
    dies: it may stop at any point; signals: how often a signal may end its sleep."""

    start = "take"

    def __init__(self, name, mutations, number, together, dies, signals):
        super().__init__(name, mutations, head=0, task=-1, then="", callee=-1,
                         signals=signals)
        self.number = number
        self.mine = number + 1
        self.together = together
        self.dies = dies

    def steps(self, label):
        choices = [(label, getattr(self, label))]
        if label == "sleeping":
            choices.append(("interrupted", self.interrupted))
        if self.dies:
            choices.append(("die", self.die))
        return choices

    def die(self, g, p):
        """SIGKILL"""
        g.dead = put(g.dead, self.number, True)
        g.asleep = put(g.asleep, self.number, False)
        return END

    # cf_board_take()

    def take(self, g, p):
        """cf_board_take: load head, tail"""
        p.head = g.head
        if not waits(g):
            return "leave_look"
        if "the head is moved before the task is taken" in self.mutations:
            return "pass_first"
        return "take_entry"

    def pass_first(self, g, p):
        """(broken) move the head, then take"""
        if g.head != p.head:
            return "take"
        g.head += 1
        return "take_entry"

    def take_entry(self, g, p):
        """cf_board_take: load entry"""
        p.task = g.order[p.head % len(g.order)]
        return "take_slot"

    def take_slot(self, g, p):
        """cf_board_take: compare QUEUED and set TAKEN"""
        if g.slots[p.task] == QUEUED:
            g.slots = put(g.slots, p.task, self.number)
        else:
            p.task = -1
        if "the head is moved before the task is taken" in self.mutations:
            return self.passed(p)
        return "pass_head"

    def pass_head(self, g, p):
        """pass: compare head and add one"""
        if "the head is moved without looking" in self.mutations:
            g.head = min(g.head + 1, g.tail)
        elif g.head == p.head:
            g.head += 1
        return self.passed(p)

    def passed(self, p):
        p.head = 0
        if p.task < 0:
            return "take"
        p.then = "begin"
        return "found"

    def begin(self, g, p):
        """the task begins"""
        g.begun += 1
        g.runs = put(g.runs, p.task, g.runs[p.task] + 1)
        require(g.runs[p.task] == 1, "a task is run twice")
        return "run"

    def run(self, g, p):
        """the task ends"""
        return "finish" if g.begun + g.failed >= self.together else None

    def finish(self, g, p):
        """cf_board_finish: add to word"""
        require(g.slots[p.task] == self.number, "a task is finished that is somebody else's")
        g.slots = put(g.slots, p.task, DONE)
        p.task = -1
        return "take"

    # cf_board_found()

    def found(self, g, p):
        """cf_board_found: load token"""
        return "found_let_go" if g.token == self.mine else p.then

    def found_let_go(self, g, p):
        """cf_board_found: move_token (mine, 0)"""
        if g.token != self.mine:
            return p.then
        g.token = 0
        return p.then if "found without a look" in self.mutations else "found_look"

    def found_look(self, g, p):
        """cf_board_found: is_reason"""
        return "notify" if self.is_reason(g) else p.then

    # cf_board_spin()

    def must_leave(self, g):
        return g.closed and not waits(g)

    def leave(self, p):
        p.then = END
        return END if "who leaves keeps the token" in self.mutations else "found"

    def leave_look(self, g, p):
        """cf_board_spin: must_leave"""
        return self.leave(p) if self.must_leave(g) else "search"

    def search(self, g, p):
        """cf_board_spin: searches"""
        if g.token == 0:
            g.token = self.mine
        return "spin" if g.token == self.mine else "park"

    def spin(self, g, p):
        """spin_until_pushed, the look that ends it"""
        if waits(g):
            return "take"
        if "the token is given back after the look" in self.mutations:
            return "park"
        p.then = "sleep_look" if "announced after the look" in self.mutations else "park"
        return "found"

    # cf_board_sleep()

    def park(self, g, p):
        """park: store berth"""
        g.berth = put(g.berth, self.number, PARKED)
        return "park_bit"

    def park_bit(self, g, p):
        """park: set the bit"""
        g.bits = put(g.bits, self.number, True)
        if "announced after the look" in self.mutations:
            return "doze"
        if "the token is given back after the look" in self.mutations:
            return "sleep_look"
        return "sleep_let_go"

    def sleep_let_go(self, g, p):
        """cf_board_sleep: move_token (mine, 0)"""
        if g.token == self.mine:
            g.token = 0
        if "the token is given back after the look" in self.mutations:
            return "doze"
        return "sleep_leave"

    def sleep_leave(self, g, p):
        """cf_board_sleep: must_leave"""
        return "unpark" if self.must_leave(g) else "sleep_look"

    def sleep_look(self, g, p):
        """cf_board_sleep: the last look"""
        if "announced after the look" in self.mutations:
            return "take" if waits(g) else "park"
        if "the token is given back after the look" in self.mutations:
            return "unpark" if waits(g) and g.token == self.mine else "sleep_let_go"
        if "no last look" in self.mutations:
            return "doze"
        if "the last look asks for tasks alone" in self.mutations:
            return "sleep_search" if waits(g) else "doze"
        return "sleep_search" if self.is_reason(g) else "doze"

    def sleep_search(self, g, p):
        """cf_board_sleep: searches"""
        if g.token == 0:
            g.token = self.mine
        return "unpark" if g.token == self.mine else "doze"

    def doze(self, g, p):
        """cf_wait32: compare berth and sleep"""
        if g.berth[self.number] != PARKED:
            return "unpark"
        g.asleep = put(g.asleep, self.number, True)
        return "sleeping"

    def sleeping(self, g, p):
        """cf_wait32: woken"""
        return None if g.asleep[self.number] else "doze"

    def interrupted(self, g, p):
        """cf_wait32: a signal"""
        if p.signals == 0:
            return None
        p.signals -= 1
        g.asleep = put(g.asleep, self.number, False)
        p.then = "handle"
        return "unpark"

    def handle(self, g, p):
        """a signal handler takes its time"""
        if g.begun + g.failed < self.together:
            return None
        return "take"

    def unpark(self, g, p):
        """unpark: clear the bit"""
        g.bits = put(g.bits, self.number, False)
        return "unpark_berth"

    def unpark_berth(self, g, p):
        """unpark: store berth"""
        g.berth = put(g.berth, self.number, AWAKE)
        return "woken"

    def woken(self, g, p):
        """cf_board_sleep: must_leave"""
        if self.must_leave(g):
            return self.leave(p)
        if p.then != "handle":
            return "take"
        return "handle" if "who is interrupted keeps the token" in self.mutations else "found"


class Undertaker(Caller):
    """The pool, once the process is known to be gone: cf_board_bury(), then cf_board_fail()
    for what it had taken."""

    mine = PARENT
    start = "bury"

    def __init__(self, name, mutations, number):
        super().__init__(name, mutations, then="", callee=-1, at=0)
        self.number = number

    def bury(self, g, p):
        """cf_board_bury: clear the bit"""
        if not g.dead[self.number]:
            return None
        if "the berth of the dead is not cleared" in self.mutations:
            return "take_token"
        g.bits = put(g.bits, self.number, False)
        return "clear_berth"

    def clear_berth(self, g, p):
        """cf_board_bury: store berth"""
        g.berth = put(g.berth, self.number, AWAKE)
        return "take_token"

    def take_token(self, g, p):
        """cf_board_bury: take the token"""
        if "only its own token is taken from the dead" in self.mutations:
            if g.token == self.number + 1:
                g.token = 0
        elif g.token != PARENT:
            g.token = 0
        return "wake_called"

    def wake_called(self, g, p):
        """cf_board_bury: wake who is CALLED"""
        if p.at == len(g.berth):
            p.at = 0
            p.then = "fail"
            if "nobody is called after a death" in self.mutations:
                return "fail"
            return "look_after"
        if (g.berth[p.at] == CALLED
                and "those whom the dead called are not woken" not in self.mutations):
            g.asleep = put(g.asleep, p.at, False)
        p.at += 1
        return "wake_called"

    def look_after(self, g, p):
        """cf_board_bury: is_reason"""
        return "notify" if self.is_reason(g) else "fail"

    def fail(self, g, p):
        """cf_board_fail"""
        if p.at == len(g.slots):
            return END
        if g.slots[p.at] == self.number:
            g.slots = put(g.slots, p.at, FAILED)
            g.failed += not g.runs[p.at]
        p.at += 1
        return "fail"


class Board(Model):
    """posters: how many tasks each of them submits; ring: entries of the order; asleep:
    how many workers sleep at the beginning, the last ones; dies: worker 0 may be killed;
    together, signals: see Worker; cancels, closes: see Poster (the last one closes)."""

    def __init__(self, posters, workers, ring=2, asleep=0, dies=False, together=0,
                 signals=0, cancels=False, closes=False, mutations=()):
        m = frozenset(mutations)
        count = sum(posters)
        self.workers = [Worker(f"worker {i}", m, i, together, dies and i == 0,
                               signals if i == workers - 1 else 0)
                        for i in range(workers)]
        sleeps = tuple(i >= workers - asleep for i in range(workers))
        for worker, is_asleep in zip(self.workers, sleeps, strict=True):
            if is_asleep:
                worker.start = "sleeping"
        others = [Poster(f"poster {i}", m, sum(posters[:i]), n, cancels and i == 0,
                         closes and i == len(posters) - 1)
                  for i, n in enumerate(posters)]
        if dies:
            others.append(Undertaker("undertaker", m, 0))
        super().__init__(
            [*self.workers, *others],
            head=0, tail=0, order=(0,) * ring, posting=False, slots=(FREE,) * count,
            runs=(0,) * count, token=0, closed=False, begun=0, failed=0,
            berth=tuple(PARKED if s else AWAKE for s in sleeps), bits=sleeps,
            asleep=sleeps, dead=(False,) * workers)
        self.closes = closes

    def invariant(self, g, threads):
        require(0 <= g.head <= g.tail, "the head is ahead of the tail")

    def at_rest(self, g, threads):
        workers, others = threads[:len(self.workers)], threads[len(self.workers):]
        for other in others:
            require(other.pc == END or other.pc == "bury", f"somebody hangs at {other.pc}")
        for slot, runs in zip(g.slots, g.runs, strict=True):
            require(slot in (DONE, FAILED, CANCELLED), "a task waits and nobody will run it")
            require(runs == 1 if slot == DONE else runs <= (slot == FAILED),
                    "a task is told to have ended otherwise than it did")
            require(slot != FAILED or any(g.dead), "a task fails and nobody died")
        alive = [(w.pc, i) for i, w in enumerate(workers) if not g.dead[i]]
        for pc, i in alive:
            if self.closes:
                require(pc == END, "closed, and a worker never leaves")
            else:
                require(pc == "sleeping", f"a worker hangs at {pc}")
                require(g.bits[i] and g.berth[i] == PARKED, "a sleeper cannot be called")
        require(g.token == 0, "the token is lost")


# ---- announcements ----

ANNOUNCE_MUTATIONS = (
    "the manager looks before it says that it sleeps",
    "the bell before the announcement",
    "a slot is free when it is done",
    "nobody looks for what the dead has not told",
    "the list is read after the slots of the dead",
)


class Finisher(Program):
    """A worker that finishes the tasks of `slots`, one after the other, as soon as they
    are there; its last one kills it anywhere if it `dies`."""

    start = "finish"

    def __init__(self, name, mutations, number, slots, dies):
        super().__init__(name, mutations, at=0, top=0, watched=False)
        self.number = number
        self.slots = slots
        self.dies = dies

    def steps(self, label):
        choices = [(label, getattr(self, label))]
        if self.dies:
            choices.append(("die", self.die))
        return choices

    def die(self, g, p):
        """SIGKILL"""
        g.dead = True
        p.top = 0
        return END

    def finish(self, g, p):
        """cf_board_finish: add to word"""
        if p.at == len(self.slots):
            return END
        slot = self.slots[p.at]
        if g.state[slot] != QUEUED:
            return None
        g.state = put(g.state, slot, DONE)
        g.by = put(g.by, slot, self.number)
        if not g.watched[slot]:
            p.at += 1
            return "finish"
        if "the bell before the announcement" in self.mutations:
            return "look"
        return "load_top"

    def load_top(self, g, p):
        """tell: load announced"""
        p.top = g.top
        return "link"

    def link(self, g, p):
        """tell: store next"""
        g.next = put(g.next, self.slots[p.at], p.top)
        return "announce"

    def announce(self, g, p):
        """tell: compare announced and set it"""
        if g.top != p.top:
            p.top = g.top
            return "link"
        g.top = self.slots[p.at] + 1
        p.top = 0
        if "the bell before the announcement" in self.mutations:
            p.at += 1
            return "finish"
        return "look"

    def look(self, g, p):
        """tell: load manager_asleep"""
        return "exchange" if g.manager_asleep else self.told(p)

    def exchange(self, g, p):
        """tell: exchange manager_asleep"""
        if not g.manager_asleep:
            return self.told(p)
        g.manager_asleep = False
        return "ring"

    def ring(self, g, p):
        """cf_bell_ring"""
        g.bell = True
        return self.told(p)

    def told(self, p):
        if "the bell before the announcement" in self.mutations:
            return "load_top"
        p.at += 1
        return "finish"


class User(Program):
    """Uses each of its slots `times` times: posts, watches, waits for the end, frees."""

    start = "post"

    def __init__(self, name, mutations, slots, times):
        super().__init__(name, mutations, at=0)
        self.uses = [slot for _ in range(times) for slot in slots]

    def post(self, g, p):
        """cf_board_push"""
        if p.at == len(self.uses):
            return END
        slot = self.uses[p.at]
        g.state = put(g.state, slot, QUEUED)
        g.by = put(g.by, slot, -1)
        g.watched = put(g.watched, slot, False)
        g.told = put(g.told, slot, 0)
        return "watch"

    def watch(self, g, p):
        """cf_board_watch"""
        slot = self.uses[p.at]
        if g.state[slot] == QUEUED:
            g.watched = put(g.watched, slot, True)
            g.expected = put(g.expected, slot, True)
        return "wait"

    def wait(self, g, p):
        """the task has ended; cf_board_free"""
        slot = self.uses[p.at]
        if g.state[slot] not in (DONE, FAILED):
            return None
        if (g.expected[slot] and not g.told[slot]
                and "a slot is free when it is done" not in self.mutations):
            return None
        g.expected = put(g.expected, slot, False)
        g.state = put(g.state, slot, FREE)
        p.at += 1
        return "post"


class Manager(Program):
    """Reads the list, sleeps, hears the bell or of a death; after a death it fails what the
    dead worker had not finished, and takes what it had finished and not told."""

    start = "collect"

    def __init__(self, name, mutations, dead):
        super().__init__(name, mutations, rest=0, buried=False, at=0, looked=False)
        self.dead = dead        # whose tasks they are: slot -> number of the worker

    def tell(self, g, slot):
        g.told = put(g.told, slot, g.told[slot] + 1)
        require(g.told[slot] == 1, "a slot is told twice")
        require(g.expected[slot], "a slot is told that nobody watches")

    def collect(self, g, p):
        """cf_board_announced: exchange"""
        steps, at, chain = 0, g.top, []
        while at != 0:
            steps += 1
            require(steps <= len(g.next), "the list runs into itself")
            chain.append(at - 1)
            at = g.next[at - 1]
        g.top = 0
        for slot in reversed(chain):
            require(g.state[slot] in (DONE, FAILED), "a slot is told that is not done")
            self.tell(g, slot)
        if p.buried == 1:
            return "scan"
        if p.buried and "the list is read after the slots of the dead" in self.mutations:
            p.buried = 2
        if "the manager looks before it says that it sleeps" in self.mutations:
            return "look"
        return "sleep"

    def sleep(self, g, p):
        """cf_board_manager_sleeps: store manager_asleep"""
        g.manager_asleep = True
        if "the manager looks before it says that it sleeps" in self.mutations:
            return "poll"
        return "look"

    def look(self, g, p):
        """cf_board_manager_sleeps: load announced"""
        if g.top:
            return "wake"
        if "the manager looks before it says that it sleeps" in self.mutations:
            return "sleep"
        return "poll"

    def poll(self, g, p):
        """cf_poll"""
        if not g.bell and not (g.dead and not p.buried):
            return None
        g.bell = False
        return "wake"

    def wake(self, g, p):
        """cf_board_manager_wakes"""
        g.manager_asleep = False
        if g.dead and not p.buried:
            p.buried = 1
            p.at = 0
            if "the list is read after the slots of the dead" in self.mutations:
                return "scan"
        return "collect"

    def scan(self, g, p):
        """the slots of the dead"""
        if p.at == len(g.state):
            p.buried = 2
            return "collect"
        slot = p.at
        p.at += 1
        if self.dead[slot] and g.state[slot] == QUEUED and not g.failing[slot]:
            # cf_board_fail(): the manager itself announces, here in one step.
            g.failing = put(g.failing, slot, True)
            g.state = put(g.state, slot, FAILED)
            if g.expected[slot]:
                self.tell(g, slot)
        elif (g.state[slot] == DONE and g.by[slot] == 0 and g.expected[slot]
                and not g.told[slot]
                and "nobody looks for what the dead has not told" not in self.mutations):
            self.tell(g, slot)
        return "scan"


class Announcements(Model):
    """slots: how many; times: how often each is used; dies: worker 0 may be killed.  Slot
    n is used by user n, and its tasks are run by worker n (in this model)."""

    def __init__(self, slots, times=1, dies=False, mutations=()):
        m = frozenset(mutations)
        programs = [Finisher(f"worker {i}", m, i, (i,) * times, dies and i == 0)
                    for i in range(slots)]
        programs += [User(f"user {i}", m, (i,), times) for i in range(slots)]
        programs.append(Manager("manager", m, tuple(dies and i == 0 for i in range(slots))))
        nothing = (False,) * slots
        super().__init__(
            programs, state=(FREE,) * slots, by=(-1,) * slots, watched=nothing,
            expected=nothing, told=(0,) * slots, next=(0,) * slots, top=0,
            manager_asleep=False, bell=False, dead=False, failing=nothing)

    def at_rest(self, g, threads):
        *others, manager = threads
        for thread, program in zip(others, self.programs, strict=False):
            if isinstance(program, User):
                require(thread.pc == END or (g.dead and thread.pc == "wait"
                                             and g.state[program.uses[0]] == QUEUED),
                        f"{program.name} waits for ever at {thread.pc}")
        require(manager.pc == "poll", f"the manager hangs at {manager.pc}")
        require(g.top == 0, "something is announced and nobody reads it")
