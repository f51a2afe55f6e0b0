"""Every interleaving of claiming, cancelling, finishing, waiting, hooking and unhooking."""
import pytest
from checker import explore
from future_model import (
    EACH,
    FAILURE,
    LAST,
    MUTATIONS,
    Canceller,
    Futures,
    NotifiedWaiter,
    ResultWaiter,
    Watcher,
    Worker,
)


def setting(name, *mutations):
    """A model by its name; what is broken in it."""
    m = frozenset(mutations)

    def watcher(futures, as_completed=True, deadline=False):
        return Watcher("watcher", m, futures, as_completed, deadline)

    worker, second, failing = (Worker("worker", m), Worker("second worker", m, 1),
                               Worker("second worker", m, 1, failed=True))
    cancel, shutdown = Canceller("cancel()", m), Canceller("shutdown()", m, notifies=True)
    result, wait = ResultWaiter("result()", m), NotifiedWaiter("wait()", m)
    return {
        "result and wait, cancelled": lambda: Futures([worker, cancel, result, wait]),
        "cancelled twice": lambda: Futures([worker, cancel, shutdown, result]),
        "wait and as_completed, cancelled": lambda: Futures(
            [worker, cancel, wait, watcher(1)]),
        "as_completed with a deadline, cancelled by shutdown": lambda: Futures(
            [worker, shutdown, wait, watcher(1, deadline=True)]),
        "as_completed of two": lambda: Futures([worker, second, watcher(2)], 2, EACH),
        "as_completed of two, deadline": lambda: Futures(
            [worker, second, watcher(2, deadline=True)], 2, EACH),
        "wait for the first of two": lambda: Futures(
            [worker, second, watcher(2, False, True)], 2, EACH),
        "wait for a failure": lambda: Futures(
            [worker, failing, watcher(2, False, True)], 2, FAILURE),
        "wait for the last of two": lambda: Futures(
            [worker, second, watcher(2, False)], 2, LAST),
    }[name]()


NAMES = (
    "result and wait, cancelled", "cancelled twice", "wait and as_completed, cancelled",
    "as_completed with a deadline, cancelled by shutdown", "as_completed of two",
    "as_completed of two, deadline", "wait for the first of two", "wait for a failure",
    "wait for the last of two",
)


@pytest.mark.parametrize("name", NAMES)
def test_all_sleepers_wake_and_each_ticket_is_posted_once(name):
    report = explore(setting(name))
    assert report.reason is None, report


# What is broken, where it shows, and as what.
BROKEN = {
    "sleeps without saying so": ("result and wait, cancelled", "hangs at asleep"),
    "woken for done only": ("result and wait, cancelled", "wait() hangs at asleep"),
    "sleepers looked at before the move": ("result and wait, cancelled", "hangs at asleep"),
    "sleepers forgotten after waking": (
        "result and wait, cancelled", "wait() hangs at asleep"),
    "unlocked by a plain store": ("result and wait, cancelled", "hangs at asleep"),
    "claimed without the lock bit": (
        "result and wait, cancelled", "claimed and cancelled"),
    "taken, then forgotten": (
        "wait and as_completed, cancelled", "watcher hangs at asleep"),
    "ticket handed out without the lock": ("as_completed of two", "before it is done"),
    "hooked without a look at the state": (
        "wait and as_completed, cancelled", "watcher hangs at asleep"),
    "not unhooked after the deadline": (
        "as_completed of two, deadline", "a waiter that has gone is touched"),
    "posted, then counted by a store": (
        "wait for the last of two", "watcher hangs at asleep"),
    "a reason looked for before the push": (
        "as_completed of two", "watcher hangs at asleep"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_broken_protocol_is_found_out(mutation):
    name, symptom = BROKEN[mutation]
    report = explore(setting(name, mutation))
    assert report.reason is not None, "nothing was found"
    assert symptom in report.reason, report
