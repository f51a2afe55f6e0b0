"""Go through every interleaving of a few small programs (explicit states, breadth first).

A `Program` is one thread: a method for each atomic operation, which changes the shared
variables `g` and the thread's own `p` and returns the name of the next one, or None if
it cannot be made now (the thread waits).  The states that can be reached are all looked
at, under sequential consistency: what weaker memory orders allow beyond that is argued
where the orders stand, in csrc/sync, and looked for by ThreadSanitizer.

Found are: a `Violation` that a step or `Model.invariant` raises; a state in which nobody
can move and that `Model.at_rest` objects to (a deadlock, a lost wake-up); a state from
which no state of rest can be reached (threads that run in circles).  Each comes with a
shortest run that leads to it.
"""
from __future__ import annotations

import gc
from types import SimpleNamespace

END = "end"


class Violation(AssertionError):
    """The model does what it must not do."""


class Program:
    """One thread; a subclass has a method for each of its steps.

    local: its own variables at the beginning; start: its first step.  Where it can do
    one of several things it overrides `steps`.
    """

    start = END

    def __init__(self, name: str, mutations: frozenset[str] = frozenset(), **local):
        self.name = name
        self.mutations = mutations
        self.local = local

    def steps(self, label):
        """What can be done at `label`: names and methods."""
        return [(label, getattr(self, label))]


class Model:
    """Threads and what they share."""

    def __init__(self, programs: list[Program], **shared):
        self.programs = programs
        self.shared = shared

    def invariant(self, g, threads) -> None:
        """Raise Violation if this must never be seen."""

    def at_rest(self, g, threads) -> None:
        """Nobody can move: raise Violation if that is not how it should end."""


class Report(SimpleNamespace):
    """states, steps: how many were seen; reason: None, or what is wrong; run: how to
    get there, a line for each step."""

    def __str__(self):
        if self.reason is None:
            return f"{self.states} states, {self.steps} steps"
        return "\n".join([self.reason, *self.run])


def _freeze(record):
    return tuple(vars(record).values())


def explore(model: Model, most: int = 3_000_000) -> Report:
    """Look at every state; stop at the first that is wrong."""
    # Millions of tuples and no cycle: the collector would look at them again and again.
    gc_was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _explore(model, most)
    finally:
        if gc_was_enabled:
            gc.enable()


def _explore(model, most):
    programs = model.programs
    shared_names = list(model.shared)
    local_names = [["pc", *program.local] for program in programs]
    known_steps = {}
    first = (tuple(model.shared.values()),
             tuple((program.start, *program.local.values()) for program in programs))

    def thaw_all(state):
        return (SimpleNamespace(**dict(zip(shared_names, state[0], strict=True))),
                [SimpleNamespace(**dict(zip(names, values, strict=True)))
                 for names, values in zip(local_names, state[1], strict=True)])

    number = {first: 0}
    came_from = [(None, None)]          # (the state before, the step) of each state
    before = [[]]                       # all states one step before
    resting = []
    queue = [first]
    steps = 0

    def report(reason, at, last=None):
        taken = [last] if last else []
        while at is not None:
            at, step = came_from[at]
            if step:
                taken.append(step)
        run = [f"{program.name}: {(getattr(program, name).__doc__ or name).strip()}"
               for program, name in reversed(taken)]
        return Report(states=len(number), steps=steps, reason=reason, run=run)

    for here, state in enumerate(queue):        # which grows
        try:
            model.invariant(*thaw_all(state))
        except Violation as wrong:
            return report(f"invariant: {wrong}", here)
        shared, local = state
        moved = False
        for i, program in enumerate(programs):
            label = local[i][0]
            if label == END:
                continue
            choices = known_steps.get((i, label))
            if choices is None:
                choices = known_steps[i, label] = program.steps(label)
            for name, step in choices:
                g, p = SimpleNamespace(), SimpleNamespace()
                g.__dict__.update(zip(shared_names, shared, strict=True))
                p.__dict__.update(zip(local_names[i], local[i], strict=True))
                try:
                    p_next = step(g, p)
                except Violation as wrong:
                    return report(f"violation: {wrong}", here, (program, name))
                if p_next is None:
                    continue
                p.pc = p_next
                moved = True
                steps += 1
                after = (_freeze(g), (*local[:i], _freeze(p), *local[i + 1:]))
                at = number.setdefault(after, len(queue))
                if at == len(queue):
                    if at >= most:
                        raise RuntimeError(f"more than {most} states")
                    queue.append(after)
                    came_from.append((here, (program, name)))
                    before.append([])
                before[at].append(here)
        if not moved:
            resting.append(here)
            try:
                model.at_rest(*thaw_all(state))
            except Violation as wrong:
                return report(f"at rest: {wrong}", here)

    ends = set(resting)
    todo = list(resting)
    while todo:
        for earlier in before[todo.pop()]:
            if earlier not in ends:
                ends.add(earlier)
                todo.append(earlier)
    for here in range(len(queue)):
        if here not in ends:
            return report("goes round for ever from here", here)
    return Report(states=len(number), steps=steps, reason=None, run=[])


def put(values: tuple, index: int, value) -> tuple:
    """A copy of `values` with another one at `index`."""
    return (*values[:index], value, *values[index + 1:])


def require(truth, message) -> None:
    if not truth:
        raise Violation(message)
