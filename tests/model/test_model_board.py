"""Every interleaving of posting, taking, sleeping, calling, closing, and of one death."""
import os

import pytest
from board_model import ANNOUNCE_MUTATIONS, MUTATIONS, Announcements, Board
from checker import explore

DEEP = pytest.mark.skipif(
    not os.environ.get("CFUTURES_MODEL_DEEP"),
    reason="minutes and gigabytes; CFUTURES_MODEL_DEEP=1 runs it")


def check(model):
    report = explore(model)
    assert report.reason is None, report


@pytest.mark.parametrize("posters, workers, asleep", [
    ([1], 1, 0), ([3], 1, 0), ([1], 2, 1), ([2], 2, 2), ([1, 1], 2, 2), ([2], 3, 3),
    pytest.param([1], 2, 0, marks=DEEP), pytest.param([2], 2, 1, marks=DEEP),
])
def test_every_task_is_run_and_then_all_sleep(posters, workers, asleep):
    check(Board(posters, workers, asleep=asleep))


@pytest.mark.parametrize("posters, workers", [
    ([2], 2), ([1, 1], 2), ([2], 3), pytest.param([3], 3, marks=DEEP)])
def test_tasks_that_need_each_other_all_get_a_worker(posters, workers):
    check(Board(posters, workers, asleep=workers, together=sum(posters)))


@pytest.mark.parametrize("posters, ring", [([2], 1), ([1, 1], 1), ([3], 2)])
def test_the_ring_is_written_over_and_a_task_taken_back(posters, ring):
    check(Board(posters, 2, asleep=2, ring=ring, cancels=True))


@pytest.mark.parametrize("posters, workers, asleep", [
    ([], 2, 2), ([1], 1, 0), ([1], 2, 1), ([1], 2, 2), ([2], 2, 2),
    pytest.param([1], 2, 0, marks=DEEP), pytest.param([1, 1], 2, 2, marks=DEEP)])
def test_whenever_it_is_closed_all_workers_leave(posters, workers, asleep):
    check(Board(posters or [0], workers, asleep=asleep, closes=True))


@pytest.mark.parametrize("posters, workers, asleep", [
    ([1], 2, 1), ([1], 2, 2), ([2], 2, 2), ([1], 3, 3), pytest.param([1], 2, 0, marks=DEEP),
    pytest.param([1, 1], 2, 2, marks=DEEP), pytest.param([1], 3, 2, marks=DEEP)])
def test_wherever_a_worker_dies_the_others_go_on(posters, workers, asleep):
    check(Board(posters, workers, asleep=asleep, dies=True))


@pytest.mark.parametrize("posters, workers", [
    ([1], 2), pytest.param([2], 2, marks=DEEP)])
def test_wherever_a_worker_dies_while_it_is_closed_the_others_leave(posters, workers):
    check(Board(posters, workers, asleep=workers, dies=True, closes=True))


@DEEP
def test_wherever_a_worker_dies_tasks_that_need_each_other_get_the_others():
    check(Board([2], 3, asleep=3, dies=True, together=2))


@pytest.mark.parametrize("posters, workers, together", [
    ([1], 2, 1), pytest.param([2], 2, 1, marks=DEEP), pytest.param([2], 3, 2, marks=DEEP)])
def test_who_handles_a_signal_is_not_relied_on(posters, workers, together):
    check(Board(posters, workers, asleep=workers, signals=1, together=together))


@pytest.mark.parametrize("slots, times, dies", [
    (1, 1, False), (1, 3, False), (2, 1, False), (2, 2, False), (1, 1, True), (1, 2, True),
    (2, 1, True), pytest.param(2, 2, True, marks=DEEP), pytest.param(3, 1, False, marks=DEEP),
])
def test_what_is_watched_is_told_once(slots, times, dies):
    check(Announcements(slots, times, dies))


# What is broken, where it shows, and as what.
ONE = dict(posters=[1], workers=1)
DEATH = dict(posters=[1], workers=2, asleep=1, dies=True)
SIGNAL = dict(posters=[1], workers=2, asleep=1, signals=1, together=1)
CLOSED = dict(posters=[1], workers=2, asleep=2, closes=True)
STAYED = dict(posters=[2], workers=2, asleep=1, closes=True)

BROKEN = {
    "the head is moved before the task is taken": (DEATH, "a task waits"),
    "the head is moved without looking": (
        dict(posters=[2], workers=2, asleep=1, ring=1), "a task waits"),
    "the ring is never full": (
        dict(posters=[2], workers=2, asleep=2, ring=1), "a task waits"),
    "no last look": (ONE, "a task waits"),
    "announced after the look": (ONE, "a task waits"),
    "the token is given back after the look": (ONE, "a task waits"),
    "told before the push": (ONE, "a task waits"),
    "found without a look": (
        dict(posters=[2], workers=2, asleep=2, together=2), "a task waits"),
    "no second look after letting go": (SIGNAL, "a task waits"),
    "the callee gets the token after the call": (ONE, "the token is lost"),
    "a token that went astray is not taken back": (CLOSED, "the token is lost"),
    "who leaves keeps the token": (CLOSED, "the token is lost"),
    "who is interrupted keeps the token": (SIGNAL, "a task waits"),
    "only its own token is taken from the dead": (DEATH, "a task waits"),
    "those whom the dead called are not woken": (DEATH, "a task waits"),
    "the berth of the dead is not cleared": (DEATH, "a task waits"),
    "nobody is called after a death": (DEATH, "a task waits"),
    "being closed is no reason": (STAYED, "never leaves"),
    "closed after the calls": (CLOSED, "never leaves"),
    "the last look asks for tasks alone": (STAYED, "never leaves"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_broken_board_is_found_out(mutation):
    setting, symptom = BROKEN[mutation]
    report = explore(Board(**setting, mutations=[mutation]))
    assert report.reason is not None, "nothing was found"
    assert symptom in report.reason, report


BROKEN_ANNOUNCEMENTS = {
    "the manager looks before it says that it sleeps": (dict(slots=1), "waits for ever"),
    "the bell before the announcement": (dict(slots=1), "waits for ever"),
    "a slot is free when it is done": (dict(slots=1, times=2), "is told that"),
    "nobody looks for what the dead has not told": (
        dict(slots=1, dies=True), "waits for ever"),
    "the list is read after the slots of the dead": (dict(slots=1, dies=True), "told twice"),
}


@pytest.mark.parametrize("mutation", ANNOUNCE_MUTATIONS)
def test_the_broken_list_is_found_out(mutation):
    setting, symptom = BROKEN_ANNOUNCEMENTS[mutation]
    report = explore(Announcements(**setting, mutations=[mutation]))
    assert report.reason is not None, "nothing was found"
    assert symptom in report.reason, report
