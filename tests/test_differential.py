"""Random sequences of operations on one future: both implementations must tell the same story.

What each operation returns or raises, with its text, and what the private
attributes hold afterwards is written down for the standard library and for
cfutures, and compared.
"""
import logging
import random
import re

import pytest
import testkit

SEQUENCES = 400


class Lies(Exception):
    """Raised by callbacks."""


def operations(future, told, make):
    """The operations on `future`; callbacks write into the list `told`."""
    def note(name):
        def callback(f):
            told.append((name, f is future, f.done()))
        return callback

    def failing(f):
        told.append("failing")
        raise Lies("callback")

    def nested(f):
        told.append("nested")
        f.add_done_callback(note("inner"))

    def meddling(f):
        told.append("meddling")
        f.cancel()
        try:
            f.set_result("again")
        except Exception as error:
            told.append(type(error).__name__)

    class Waiter:
        """What other libraries put into `_waiters`."""

        def add_result(self, f):
            told.append(("waiter result", f is future, f._state))

        def add_exception(self, f):
            told.append(("waiter exception", f is future, f._state))

        def add_cancelled(self, f):
            told.append(("waiter cancelled", f is future, f._state))

    return {
        "cancel": future.cancel,
        "run": future.set_running_or_notify_cancel,
        "set": lambda: future.set_result(17),
        "set none": lambda: future.set_result(None),
        "fail": lambda: future.set_exception(ValueError("bad")),
        "fail none": lambda: future.set_exception(None),
        "fail class": lambda: future.set_exception(OSError),
        "fail junk": lambda: future.set_exception("junk"),
        "result": lambda: future.result(0),
        "result positive": lambda: future.result(1e-9),
        "result negative": lambda: future.result(timeout=-1),
        "exception": lambda: future.exception(0),
        "repr": lambda: repr(future),
        "look": lambda: (future.running(), future.cancelled(), future.done()),
        "note": lambda: future.add_done_callback(note("outer")),
        "note failing": lambda: future.add_done_callback(failing),
        "note nested": lambda: future.add_done_callback(nested),
        "note meddling": lambda: future.add_done_callback(meddling),
        "note nothing": lambda: future.add_done_callback(None),
        "wait": lambda: [len(s) for s in make.wait([future], 0)],
        "wait first": lambda: [len(s) for s in make.wait(
            [future, future], timeout=0, return_when=make.FIRST_COMPLETED)],
        "wait exception": lambda: [len(s) for s in make.wait(
            [future], timeout=0, return_when=make.FIRST_EXCEPTION)],
        "as completed": lambda: len(list(make.as_completed([future], timeout=0))),
        "waiter": lambda: future._waiters.append(Waiter()),
        "waiters": lambda: len(future._waiters),
        "state": lambda: future._state,
        "private": lambda: (repr(future._result), repr(future._exception)),
        "condition": lambda: future._condition.__enter__() and future._condition.__exit__(),
        "attribute": lambda: setattr(future, "colour", "red"),
        "attributes": lambda: getattr(future, "colour", None),
    }


def story(implementation, seed):
    """Carry out the sequence of this seed; return what was seen."""
    make = testkit.load(implementation)
    rng = random.Random(seed)
    future = make.Future()
    told = []
    possible = operations(future, told, make)
    names = list(possible)
    for _ in range(rng.randrange(1, 14)):
        name = rng.choice(names)
        try:
            outcome = repr(possible[name]())
        except BaseException as error:
            outcome = f"{type(error).__qualname__}: {error}"
        told.append((name, re.sub(r"0x[0-9a-f]+", "0x", outcome)))
    return told


@pytest.mark.ours("compares with the standard library itself")
@pytest.mark.parametrize("block", range(8))
def test_both_tell_the_same_story(cf, block, caplog):
    caplog.set_level(logging.CRITICAL + 1, logger="concurrent.futures")
    for seed in range(block * SEQUENCES, (block + 1) * SEQUENCES):
        assert story("cfutures", seed) == story("stdlib", seed), f"seed {seed}"


@pytest.mark.ours("compares with the standard library itself")
def test_both_log_the_same(cf, caplog):
    for seed in range(SEQUENCES):
        records = []
        for implementation in testkit.PACKAGES:
            caplog.clear()
            story(implementation, seed)
            records.append([
                (r.name, r.levelname, re.sub(r"0x[0-9a-f]+|\b\d{9,}\b", "#", r.getMessage()),
                 r.exc_info and r.exc_info[0]) for r in caplog.records])
        assert records[0] == records[1], f"seed {seed}"
