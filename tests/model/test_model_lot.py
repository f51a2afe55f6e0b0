"""Every interleaving of pushing, searching, parking, being called, and closing."""
import os

import lot_model as lot
import pytest
from checker import explore

DEEP = pytest.mark.skipif(
    not os.environ.get("CFUTURES_MODEL_DEEP"),
    reason="minutes and gigabytes; CFUTURES_MODEL_DEEP=1 runs it")


@pytest.mark.parametrize("producers, workers", [
    ([1], 1), ([3], 1), ([2], 2), ([3], 2), ([1, 1], 2), ([2, 1], 2), ([1], 3), ([2], 3),
    pytest.param([1, 1], 3, marks=DEEP), pytest.param([2, 2], 2, marks=DEEP),
])
def test_every_task_is_run_and_then_all_sleep(producers, workers):
    report = explore(lot.Lot(producers, workers))
    assert report.reason is None, report


@pytest.mark.parametrize("producers, workers", [
    ([2], 2), ([1, 1], 2), ([2], 3), pytest.param([3], 3, marks=DEEP),
    pytest.param([1, 1], 3, marks=DEEP),
])
def test_tasks_that_need_each_other_all_get_a_worker(producers, workers):
    report = explore(lot.Lot(producers, workers, together=sum(producers)))
    assert report.reason is None, report


@pytest.mark.parametrize("producers, workers, closers", [
    ([], 2, 1), ([], 3, 1), ([], 2, 2), ([1], 1, 1), ([1], 2, 1), ([2], 2, 1),
    pytest.param([1, 1], 2, 1, marks=DEEP), pytest.param([1], 3, 1, marks=DEEP),
    pytest.param([1], 2, 2, marks=DEEP),
])
def test_whenever_it_is_closed_all_workers_leave(producers, workers, closers):
    report = explore(lot.Lot(producers, workers, closers))
    assert report.reason is None, report


# What is broken, where it shows, and as what.
BROKEN = {
    "no last look": (dict(producers=[1], workers=1), "a task waits"),
    "announced after the look": (dict(producers=[1], workers=1), "a task waits"),
    "token given back after the look": (dict(producers=[1], workers=1), "a task waits"),
    "found without a look": (dict(producers=[2], workers=2, together=2), "a task waits"),
    "no second look after giving back": (dict(producers=[1, 1], workers=2), "a task waits"),
    "told before the push": (dict(producers=[1], workers=1), "a task waits"),
    "the callee does not own the token": (dict(producers=[1], workers=1), "token is lost"),
    "dismissed before closed": (dict(producers=[1], workers=2, closers=1), "never leaves"),
    "a worker leaves with the token": (
        dict(producers=[1], workers=2, closers=1), "token is lost"),
}


@pytest.mark.parametrize("mutation", lot.MUTATIONS)
def test_the_broken_protocol_is_found_out(mutation):
    setting, symptom = BROKEN[mutation]
    report = explore(lot.Lot(**setting, mutations=[mutation]))
    assert report.reason is not None, "nothing was found"
    assert symptom in report.reason, report
