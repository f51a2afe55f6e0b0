"""Submitting while a pool grows, is closed, breaks, or the interpreter exits (submit() in
csrc/threads/pool_type.c, worker.c, the starts, cf_pool_close() and cf_pool_break() in
pool.c, and _python_exit() and shutdown() in pyfutures/cfutures/thread.py).

How a sleeping worker is found is left to the model of the lot: here it may wake whenever
the length is not 0.  Who has the queue's lock is modelled, since a worker says that it is
busy while it holds it.
"""
from __future__ import annotations

from checker import END, Model, Program, put, require

SHUTDOWN, BROKEN, FINALIZING = 1, 2, 4
PENDING, RUNNING, DONE, FAILED, CANCELLED = "PENDING RUNNING DONE FAILED CANCELLED".split()
NOT_PUSHED = "NOT_PUSHED"

MUTATIONS = (
    "the queue closed before the state",
    "no look after the push",
    "no look at finalizing after the start",
    "the exit hook looks before it says so",
    "idle workers counted before the push",
    "the flags read before the length",
    "what was pushed read before what was taken",
    "busy after the task has left the length",
    "tasks failed before the pool is broken",
    "a worker leaves without a look at the length",
    "whether it is closed asked last",
    "shutdown does not wait for starts",
    "a start begins after the pool is closed",
    "a start ends before the thread is registered",
    "a start ends before those who rely on it are told",
    "no more starts before the state",
    "a start is given up when the pool is closed",
    "who closes does not look whether nothing starts",
)


class Closer(Program):
    """shutdown(); cancel: shutdown(cancel_futures=True)."""

    start = "close"

    def __init__(self, name, mutations=frozenset(), cancel=False, waits=False, **local):
        if waits:
            local["items"] = ()
        super().__init__(name, mutations, **local)
        self.cancel = cancel
        self.waits = waits

    bit = SHUTDOWN

    def close(self, g, p):
        """(cf_pool_close)"""
        if "the queue closed before the state" in self.mutations:
            return "close_queue"
        if "no more starts before the state" in self.mutations:
            return "close_growth"
        return "close_state"

    def close_state(self, g, p):
        """cf_pool_close: add to state"""
        g.state |= self.bit
        if "no more starts before the state" in self.mutations:
            return "close_queue"
        return "close_growth"

    def close_growth(self, g, p):
        """cf_pool_close: add to growth"""
        g.no_starts = True
        if not g.starting and "who closes does not look whether nothing starts" \
                not in self.mutations:
            return "close_settled"
        return self.growth_closed(g, p)

    def close_settled(self, g, p):
        """cf_pool_close: settled"""
        g.settled = True
        return self.growth_closed(g, p)

    def growth_closed(self, g, p):
        if "no more starts before the state" in self.mutations:
            return "close_state"
        if "the queue closed before the state" in self.mutations:
            return self.closed(g, p)
        return "close_queue"

    def close_queue(self, g, p):
        """cf_pool_close: cf_taskq_close"""
        g.closed = True
        if "the queue closed before the state" in self.mutations:
            return "close_state"
        return self.closed(g, p)

    def closed(self, g, p):
        return "cancel_queued" if self.cancel else self.after()

    def after(self):
        if not self.waits:
            return END
        if "shutdown does not wait for starts" in self.mutations:
            return "list_threads"
        return "settle"

    def settle(self, g, p):
        """shutdown: _settle()"""
        return "list_threads" if g.settled else None

    def list_threads(self, g, p):
        """shutdown: list of the threads"""
        p.items = g.registered
        return "join"

    def join(self, g, p):
        """shutdown: the last one is joined"""
        if not all(g.ended[number] for number in p.items):
            return None
        p.items = ()
        g.returned = True
        return END

    def cancel_queued(self, g, p):
        """cf_pool_cancel_queued: take a task and cancel it"""
        if g.locked:
            return None
        if not g.queue:
            # Counted, and about to be linked?
            return self.after() if g.pushed == g.taken else None
        number, g.queue = g.queue[0], g.queue[1:]
        g.taken += 1
        if g.tasks[number] == PENDING:
            g.tasks = put(g.tasks, number, CANCELLED)
        return "cancel_queued"


class ExitHook(Closer):
    """_python_exit(), after which the interpreter joins all threads that were started."""

    start = "begin"
    bit = FINALIZING

    def begin(self, g, p):
        """(_python_exit)"""
        if "the exit hook looks before it says so" in self.mutations:
            return "snapshot"
        return "say_so"

    def say_so(self, g, p):
        """_python_exit: _finalize()"""
        g.finalizing = True
        if "the exit hook looks before it says so" in self.mutations:
            return "close" if p.items else END
        return "snapshot"

    def snapshot(self, g, p):
        """_python_exit: list of the threads"""
        p.items = g.registered
        if "the exit hook looks before it says so" in self.mutations:
            return "say_so"
        return "close" if p.items else END


class Submitter(Closer):
    """submit() of one task, which may start a thread and, if the interpreter exits
    meanwhile, close the pool; fails: no thread can be started."""

    start = "look"
    bit = FINALIZING

    def __init__(self, name, mutations, number, fails=False):
        super().__init__(name, mutations, idle=0, waiting=-1, at=0, new=-1, relies=False)
        self.number = number
        self.fails = fails

    def outcome(self, g, what):
        g.outcomes = put(g.outcomes, self.number, what)
        return END

    def look(self, g, p):
        """submit: load state"""
        return self.outcome(g, "refused") if g.state else "look_finalizing"

    def look_finalizing(self, g, p):
        """submit: load finalizing"""
        if g.finalizing:
            return self.outcome(g, "refused")
        if "idle workers counted before the push" in self.mutations:
            return "look_threads"
        return "count"

    def count(self, g, p):
        """cf_taskq_push: add to pushed"""
        g.pushed += 1
        g.tasks = put(g.tasks, self.number, PENDING)
        return "link"

    def link(self, g, p):
        """cf_taskq_push: append"""
        g.queue = (*g.queue, self.number)
        return self.pushed(g, p)

    def pushed(self, g, p):
        if "idle workers counted before the push" in self.mutations:
            return "grow" if p.waiting >= p.idle else "look_again"
        return "look_threads"

    def look_threads(self, g, p):
        """submit: load threads"""
        if g.threads >= g.most:
            if "idle workers counted before the push" in self.mutations:
                p.idle = g.most + 1
                return "count"
            return "look_again"
        if "the flags read before the length" in self.mutations:
            return "read_flag"
        return self.read_length()

    def read_length(self):
        if "what was pushed read before what was taken" in self.mutations:
            return "read_pushed"
        return "read_taken"

    def read_taken(self, g, p):
        """enough_idle: load taken"""
        if "what was pushed read before what was taken" in self.mutations:
            p.waiting -= g.taken
            return self.length_read(p)
        p.waiting = g.taken
        return "read_pushed"

    def read_pushed(self, g, p):
        """enough_idle: load pushed"""
        if "what was pushed read before what was taken" in self.mutations:
            p.waiting = g.pushed
            return "read_taken"
        p.waiting = g.pushed - p.waiting
        return self.length_read(p)

    def length_read(self, p):
        if "the flags read before the length" in self.mutations:
            return self.decide(p)
        return "read_flag"

    def read_flag(self, g, p):
        """enough_idle: load busy of the next worker"""
        p.idle += g.listed[p.at] and not g.busy[p.at]
        p.at += 1
        if p.at < g.most:
            return "read_flag"
        if "the flags read before the length" in self.mutations:
            return self.read_length()
        return self.decide(p)

    def decide(self, p):
        if "idle workers counted before the push" in self.mutations:
            return "count"
        return "look_again" if p.idle >= p.waiting else "grow"

    def grow(self, g, p):
        """cf_pool_begin_start: compare growth, add a thread and a start"""
        p.idle, p.waiting, p.at = 0, -1, 0
        if g.threads >= g.most:
            return "look_again"
        if g.no_starts and "a start begins after the pool is closed" not in self.mutations:
            return "look_again"
        p.new = g.threads
        g.threads += 1
        g.starting += 1
        if "a start is given up when the pool is closed" in self.mutations:
            return "give_up"
        return self.spawn()

    def spawn(self):
        if "a start ends before the thread is registered" in self.mutations:
            return "end_start"
        return "look_for_workers" if self.fails else "register"

    def give_up(self, g, p):
        """submit: load state"""
        if not g.state:
            return self.spawn()
        g.threads -= 1
        p.new = -1
        return "end_start"

    def register(self, g, p):
        """_spawn: note the thread for the exit hook and shutdown"""
        g.registered = (*g.registered, p.new)
        return "start_thread"

    def start_thread(self, g, p):
        """_spawn: thread.start()"""
        g.started = put(g.started, p.new, True)
        p.new = -1
        if "a start ends before the thread is registered" in self.mutations:
            return self.spawned(p)
        return "end_start"

    def end_start(self, g, p):
        """cf_pool_started: subtract from growth"""
        g.starting -= 1
        if g.no_starts and not g.starting:
            return "end_settled"
        return self.start_ended(p)

    def end_settled(self, g, p):
        """cf_pool_started: settled"""
        g.settled = True
        return self.start_ended(p)

    def start_ended(self, p):
        if p.new != -1:
            return "register"
        return self.spawned(p)

    def spawned(self, p):
        if self.fails and not p.relies:
            return "failed"
        if "no look at finalizing after the start" in self.mutations:
            return "look_again"
        return "look_finalizing_again"

    # There is no thread.

    def look_for_workers(self, g, p):
        """_spawn: _has_workers()"""
        p.relies = any(g.listed)
        return "uncount"

    def uncount(self, g, p):
        """cf_pool_not_started: subtract from growth"""
        g.threads -= 1
        p.new = -1
        return "end_start" if p.relies else "withdraw"

    def withdraw(self, g, p):
        """grow: cf_future_commit_cancel"""
        if g.tasks[self.number] == PENDING:
            g.tasks = put(g.tasks, self.number, CANCELLED)
        if "a start ends before those who rely on it are told" in self.mutations:
            return "end_start"
        return "look_whether_any"

    def look_whether_any(self, g, p):
        """grow: load growth"""
        return self.told() if g.threads else "fail_queued"

    def fail_queued(self, g, p):
        """cf_pool_fail_queued: take a task, claim it, fail it"""
        if g.locked:
            return None
        if not g.queue:
            # Counted, and about to be linked?
            return self.told() if g.pushed == g.taken else None
        number, g.queue = g.queue[0], g.queue[1:]
        g.taken += 1
        if g.tasks[number] == PENDING:
            g.tasks = put(g.tasks, number, FAILED)
        return "fail_queued"

    def told(self):
        if "a start ends before those who rely on it are told" in self.mutations:
            return "raise_error"
        return "end_start"

    def failed(self, g, p):
        """(submit: the exception)"""
        if "a start ends before those who rely on it are told" in self.mutations:
            return "look_whether_any"
        return "raise_error"

    def raise_error(self, g, p):
        """(submit: raise)"""
        # A worker that was not counted on may have taken it, or it was failed.
        return self.outcome(g, "error")

    def look_finalizing_again(self, g, p):
        """submit: load finalizing"""
        return "close" if g.finalizing else "look_again"

    def closed(self, g, p):
        return "look_again"

    def look_again(self, g, p):
        """submit: load state"""
        p.idle, p.waiting, p.at = 0, -1, 0
        if g.state and "no look after the push" not in self.mutations:
            return "take_back"
        return self.outcome(g, "accepted")

    def take_back(self, g, p):
        """submit: cf_future_commit_cancel"""
        if g.tasks[self.number] == PENDING:
            g.tasks = put(g.tasks, self.number, CANCELLED)
            return self.outcome(g, "refused")
        return self.outcome(g, "accepted")


class Worker(Program):
    """A thread of the pool; breaks: its initializer fails.

    together: tasks that can only end when that many have begun."""

    start = "enlist"

    def __init__(self, name, mutations, number, together, breaks):
        super().__init__(name, mutations, task=-1, seen=-1)
        self.number = number
        self.together = together
        self.breaks = breaks

    def say_busy(self, g, busy):
        g.busy = put(g.busy, self.number, busy)

    def enlist(self, g, p):
        """worker_tp_call: enlist"""
        if not g.started[self.number]:
            return None
        g.listed = put(g.listed, self.number, True)
        self.say_busy(g, True)
        if not self.breaks:
            return "pop"
        if "tasks failed before the pool is broken" in self.mutations:
            return "break_pop"
        return "break_state"

    # work()

    def pop(self, g, p):
        """cf_taskq_pop: lock, take"""
        if g.locked:
            return None
        if not g.queue:
            # Counted, and about to be linked?
            return "say_idle" if g.pushed == g.taken else None
        g.locked = True
        p.task, g.queue = g.queue[0], g.queue[1:]
        if "busy after the task has left the length" in self.mutations:
            return "pop_count"
        return "pop_busy"

    def pop_busy(self, g, p):
        """cf_taskq_pop: store busy"""
        self.say_busy(g, True)
        if "busy after the task has left the length" in self.mutations:
            return "claim"
        return "pop_count"

    def pop_count(self, g, p):
        """cf_taskq_pop: add to taken, unlock"""
        g.taken += 1
        g.locked = False
        if "busy after the task has left the length" in self.mutations:
            return "pop_busy"
        return "claim"

    def claim(self, g, p):
        """cf_future_claim"""
        if g.tasks[p.task] == CANCELLED:
            p.task = -1
            return "task_gone"
        require(g.tasks[p.task] == PENDING, "a task is claimed twice")
        g.tasks = put(g.tasks, p.task, RUNNING)
        g.begun += 1
        return "run"

    def task_gone(self, g, p):
        """work: store busy"""
        self.say_busy(g, False)
        return "pop"

    def run(self, g, p):
        """run_task: the call ends, store busy"""
        if g.begun < self.together:
            return None
        self.say_busy(g, False)
        return "finish"

    def finish(self, g, p):
        """cf_future_finish"""
        g.tasks = put(g.tasks, p.task, DONE)
        p.task = -1
        return "pop"

    def say_idle(self, g, p):
        """work: store busy"""
        self.say_busy(g, False)
        if "whether it is closed asked last" in self.mutations:
            return "ended_taken"
        return "ended_closed"

    # cf_taskq_ended()

    def ended_closed(self, g, p):
        """work: load closed"""
        if "whether it is closed asked last" in self.mutations:
            return "delist" if g.closed else "sleep"
        if g.closed and "a worker leaves without a look at the length" in self.mutations:
            return "delist"
        return "ended_taken" if g.closed else "sleep"

    def ended_taken(self, g, p):
        """work: load taken"""
        p.seen = g.taken
        return "ended_pushed"

    def ended_pushed(self, g, p):
        """work: load pushed"""
        empty = p.seen == g.pushed
        p.seen = -1
        if empty and "whether it is closed asked last" in self.mutations:
            return "ended_closed"
        return "delist" if empty else "sleep"

    def sleep(self, g, p):
        """cf_lot_wait: there is a reason to be awake"""
        return "pop" if g.closed or g.pushed != g.taken else None

    def delist(self, g, p):
        """worker_tp_call: delist; the thread ends"""
        g.listed = put(g.listed, self.number, False)
        g.ended = put(g.ended, self.number, True)
        return END

    # cf_pool_break()

    def break_state(self, g, p):
        """cf_pool_break: add to state"""
        g.state |= BROKEN
        if "tasks failed before the pool is broken" in self.mutations:
            return "delist"
        return "break_pop"

    def break_pop(self, g, p):
        """cf_pool_break: take a task, claim it, fail it"""
        if g.locked:
            return None
        if g.queue:
            number, g.queue = g.queue[0], g.queue[1:]
            g.taken += 1
            if g.tasks[number] == PENDING:
                g.tasks = put(g.tasks, number, FAILED)
            return "break_pop"
        if g.pushed != g.taken:
            return None         # counted, and about to be linked
        if "tasks failed before the pool is broken" in self.mutations:
            return "break_state"
        return "delist"


class Pool(Model):
    """submitters of a task each; most: threads; idle: threads that wait at the beginning;
    shutdown, cancel, exits, breaks: what else happens; waits: shutdown(wait=True);
    fails: how many of the submitters can start no thread; together: see Worker."""

    def __init__(self, submitters, most, idle=0, shutdown=False, cancel=False, exits=False,
                 breaks=False, together=0, waits=False, fails=0, mutations=()):
        m = frozenset(mutations)
        self.workers = [Worker(f"worker {i}", m, i, together, breaks and i == 0)
                        for i in range(most)]
        for worker in self.workers[:idle]:
            worker.start = "sleep"
        others = []
        if shutdown or cancel:
            others.append(Closer("shutdown()", m, cancel, waits))
        if exits:
            others.append(ExitHook("exit", m, items=()))
        present = tuple(i < idle for i in range(most))
        super().__init__(
            [*self.workers,
             *(Submitter(f"submit {i}", m, i, i < fails) for i in range(submitters)),
             *others],
            state=0, finalizing=False, pushed=0, taken=0, closed=False, queue=(),
            locked=False, threads=idle, starting=0, no_starts=False, settled=False,
            returned=False, most=most, registered=tuple(range(idle)), started=present,
            listed=present, ended=(False,) * most, busy=(False,) * most,
            tasks=(NOT_PUSHED,) * submitters, outcomes=("",) * submitters, begun=0)
        self.ends = shutdown or cancel or exits
        self.cancel = cancel

    def invariant(self, g, threads):
        if not g.returned:
            return
        require(g.started == g.ended, "shutdown() did not wait for a thread")
        for outcome, task in zip(g.outcomes, g.tasks, strict=True):
            require(outcome != "accepted" or task not in (PENDING, RUNNING),
                    "shutdown() did not wait for a task")

    def at_rest(self, g, threads):
        workers, others = threads[:len(self.workers)], threads[len(self.workers):]
        for worker, started in zip(workers, g.started, strict=True):
            if started and worker.pc != END:
                require(worker.pc == "sleep", f"a worker hangs at {worker.pc}")
                require(not self.ends, "a worker never leaves")
        require(all(t.pc == END for t in others), "somebody hangs")
        for outcome, task in zip(g.outcomes, g.tasks, strict=True):
            if outcome == "refused":
                require(task in (NOT_PUSHED, CANCELLED), "a refused task is run")
            elif outcome == "error":
                require(task in (DONE, FAILED, CANCELLED), "nobody knows what became of a task")
            else:
                require(task in (DONE, FAILED) or (self.cancel and task == CANCELLED),
                        "a task is accepted and never run")
