"""Every interleaving of submitting, growing, closing, breaking, and the interpreter's exit."""
import os

import pytest
from checker import explore
from pool_model import MUTATIONS, Pool

DEEP = pytest.mark.skipif(
    not os.environ.get("CFUTURES_MODEL_DEEP"),
    reason="minutes and gigabytes; CFUTURES_MODEL_DEEP=1 runs it")


def check(**setting):
    report = explore(Pool(**setting))
    assert report.reason is None, report


@pytest.mark.parametrize("submitters, most, idle", [(1, 1, 0), (2, 1, 0), (2, 2, 0), (2, 2, 1)])
def test_what_is_accepted_is_run(submitters, most, idle):
    check(submitters=submitters, most=most, idle=idle)


@pytest.mark.parametrize("idle", [0, 1, 2])
def test_tasks_that_need_each_other_get_a_thread_each(idle):
    check(submitters=2, most=2, idle=idle, together=2)


@pytest.mark.parametrize("submitters, most, idle", [
    (1, 1, 0), (1, 1, 1), (2, 1, 0), (2, 1, 1), (1, 2, 2),
    pytest.param(2, 2, 0, marks=DEEP)])     # which waiting for the threads includes
def test_closed_while_tasks_are_submitted(submitters, most, idle):
    check(submitters=submitters, most=most, idle=idle, shutdown=True)


@pytest.mark.parametrize("submitters, most, idle", [
    (1, 1, 0), (2, 1, 1), (1, 2, 1), pytest.param(2, 2, 1, marks=DEEP)])
def test_closed_and_what_waits_is_cancelled(submitters, most, idle):
    check(submitters=submitters, most=most, idle=idle, cancel=True)


@pytest.mark.parametrize("submitters, most, idle, cancel", [
    (1, 1, 0, True), (1, 2, 1, False), (1, 2, 1, True), (2, 1, 0, False), (2, 1, 0, True),
    (2, 2, 0, False), pytest.param(2, 2, 0, True, marks=DEEP),
    pytest.param(2, 2, 1, False, marks=DEEP), pytest.param(3, 1, 0, False, marks=DEEP)])
def test_shutdown_waits_for_threads_that_are_being_started(submitters, most, idle, cancel):
    check(submitters=submitters, most=most, idle=idle, shutdown=True, waits=True,
          cancel=cancel)


@pytest.mark.parametrize("submitters, most, idle, fails", [
    (1, 1, 0, 1), (1, 2, 1, 1), (2, 1, 0, 1), (2, 1, 0, 2), (2, 2, 0, 1), (2, 2, 0, 2),
    pytest.param(2, 2, 1, 1, marks=DEEP)])
def test_no_thread_can_be_started(submitters, most, idle, fails):
    check(submitters=submitters, most=most, idle=idle, fails=fails)
    check(submitters=submitters, most=most, idle=idle, fails=fails, shutdown=True, waits=True)


@pytest.mark.parametrize("submitters, most, idle", [
    (1, 1, 0), (1, 1, 1), (2, 1, 0), (1, 2, 1), pytest.param(2, 2, 0, marks=DEEP),
    pytest.param(2, 2, 1, marks=DEEP)])
def test_the_interpreter_exits_while_tasks_are_submitted(submitters, most, idle):
    check(submitters=submitters, most=most, idle=idle, exits=True)


@pytest.mark.parametrize("submitters", [1, pytest.param(2, marks=DEEP)])
def test_the_interpreter_exits_while_the_pool_is_closed(submitters):
    check(submitters=submitters, most=1, exits=True, shutdown=True)


@pytest.mark.parametrize("submitters, most", [(1, 1), (2, 1), (2, 2)])
def test_an_initializer_fails_while_tasks_are_submitted(submitters, most):
    check(submitters=submitters, most=most, breaks=True)


def test_an_initializer_fails_while_the_pool_is_closed():
    check(submitters=2, most=1, breaks=True, shutdown=True)


WAITS = dict(submitters=2, most=1, shutdown=True, waits=True)
TOGETHER = dict(submitters=2, most=2, idle=1, together=2)

# What is broken, where it shows, and as what.
BROKEN = {
    "the queue closed before the state": (
        dict(submitters=2, most=1, shutdown=True), "accepted and never run"),
    "no look after the push": (
        dict(submitters=2, most=1, shutdown=True), "accepted and never run"),
    "no look at finalizing after the start": (
        dict(submitters=1, most=1, exits=True), "never leaves"),
    "the exit hook looks before it says so": (
        dict(submitters=1, most=1, exits=True), "never leaves"),
    "idle workers counted before the push": (TOGETHER, "hangs at run"),
    "the flags read before the length": (TOGETHER, "hangs at run"),
    "busy after the task has left the length": (TOGETHER, "hangs at run"),
    "tasks failed before the pool is broken": (
        dict(submitters=2, most=1, breaks=True), "accepted and never run"),
    "what was pushed read before what was taken": (
        dict(submitters=2, most=2, together=2), "hangs at run"),
    "a worker leaves without a look at the length": (
        dict(submitters=2, most=1, shutdown=True), "accepted and never run"),
    "whether it is closed asked last": (
        dict(submitters=2, most=1, shutdown=True), "accepted and never run"),
    "shutdown does not wait for starts": (WAITS, "did not wait for a t"),
    "a start begins after the pool is closed": (WAITS, "did not wait for a t"),
    "a start ends before the thread is registered": (WAITS, "did not wait for a t"),
    "a start ends before those who rely on it are told": (
        WAITS | {"fails": 1}, "did not wait for a task"),
    "no more starts before the state": (WAITS, "did not wait for a task"),
    "a start is given up when the pool is closed": (WAITS, "did not wait for a task"),
    "who closes does not look whether nothing starts": (
        dict(submitters=1, most=1, idle=1, shutdown=True, waits=True), "somebody hangs"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_broken_protocol_is_found_out(mutation):
    setting, symptom = BROKEN[mutation]
    report = explore(Pool(**setting, mutations=[mutation]))
    assert report.reason is not None, "nothing was found"
    assert symptom in report.reason, report
