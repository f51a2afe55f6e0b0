"""Every interleaving of putting, taking, dying, burying; of sleeping and waking."""
import os

import pytest
from checker import explore
from queue_model import MUTATIONS, SLEEP_MUTATIONS, Order, Sleep

DEEP = pytest.mark.skipif(
    not os.environ.get("CFUTURES_MODEL_DEEP"),
    reason="minutes and gigabytes; CFUTURES_MODEL_DEEP=1 runs it")


def check(model, **setting):
    report = explore(model(**setting))
    assert report.reason is None, report


@pytest.mark.parametrize("setting", [
    dict(producers=(3,), consumers=1, blocks=2),
    dict(producers=(2, 1), consumers=1),
    dict(producers=(2,), consumers=2, blocks=2),
    dict(producers=(1, 1), consumers=2, bound=1),
    pytest.param(dict(producers=(2, 2), consumers=2, blocks=2), marks=DEEP),
], ids=str)
def test_each_item_is_taken_once_and_in_order(setting):
    check(Order, **setting)


@pytest.mark.parametrize("setting", [
    dict(producers=(2, 1), mortal=(1, 0, 0), blocks=2),
    dict(producers=(3,), consumers=2, mortal=(0, 1, 0), blocks=3),
    dict(producers=(1, 1), consumers=2, mortal=(1, 1, 0)),
    pytest.param(dict(producers=(2, 1), consumers=2, mortal=(2, 1, 0)), marks=DEEP),
], ids=str)
def test_a_death_holds_up_nobody(setting):
    # Without anybody who buries: entries of the dead are in use, so one lap must do.
    check(Order, ring=4, bound=3, undertakers=0, **setting)


@pytest.mark.parametrize("setting", [
    dict(producers=(2, 1), mortal=(1, 0, 0)),
    dict(producers=(2,), consumers=2, mortal=(0, 1, 0), blocks=2),
    pytest.param(dict(producers=(1, 1), consumers=2, mortal=(1, 1, 0)), marks=DEEP),
    dict(producers=(1,), consumers=2, undertakers=2, mortal=(1, 1, 1)),
    pytest.param(dict(producers=(3,), consumers=2, mortal=(0, 1, 0), blocks=2), marks=DEEP),
], ids=str)
def test_the_dead_are_buried_and_nothing_is_left_of_them(setting):
    check(Order, **{"undertakers": 1, **setting})


@pytest.mark.parametrize("setting", [
    dict(sleepers=1, puts=(1,)), dict(sleepers=2, puts=(2,)), dict(sleepers=2, puts=(1, 1)),
    dict(sleepers=3, puts=(2,)), dict(sleepers=2, leaving=1, puts=(1, 1)),
    pytest.param(dict(sleepers=3, leaving=2, puts=(2,)), marks=DEEP),
    pytest.param(dict(sleepers=3, leaving=1, puts=(2, 1)), marks=DEEP),
], ids=str)
def test_nobody_sleeps_while_there_is_an_item(setting):
    check(Sleep, **setting)


TWO = dict(producers=(2, 1), consumers=1)
TAKERS = dict(producers=(3,), consumers=2)
A_TAKER_DIES = dict(producers=(2,), consumers=2, undertakers=1, mortal=(0, 1, 0))
A_PRODUCER_DIES = dict(producers=(1, 1), consumers=1, undertakers=1, mortal=(1, 0, 0))

# What is broken, where it shows, and as what.
BROKEN = {
    "the tail is stored": (dict(producers=(2, 1), ring=4, bound=3), None),
    "the head is stored": (TAKERS, None),
    "put without a compare-and-swap": (TWO, None),
    "taken without a compare-and-swap": (TAKERS, "before its time, or twice"),
    "a take does not say who": (A_TAKER_DIES, "a block is lost"),
    "no laps": (dict(producers=(2, 2), consumers=1, ring=1, bound=1), None),
    "others do not move the tail": (dict(producers=(1, 1), mortal=(1, 0, 0)), "for ever"),
    "others do not move the head": (
        dict(producers=(2,), consumers=2, mortal=(0, 1, 0), ring=4), "held up"),
    "the entry is free before the block is adopted": (A_TAKER_DIES, "a block is lost"),
    "the bound is not looked at again": (
        dict(producers=(2,), ring=4, bound=1, blocks=2), "more items than there may be"),
    "what the dead were taking stays": (A_TAKER_DIES, "a block is lost"),
    "what the dead held stays": (A_TAKER_DIES, "a block is lost"),
    "an item of the dead is not looked for": (A_PRODUCER_DIES, "cleared with an item in it"),
    "who holds a block of the dead is not looked for": (
        A_PRODUCER_DIES, "cleared while somebody looks at it"),
}


def test_each_mutation_is_tried():
    assert set(BROKEN) == set(MUTATIONS)
    assert set(BROKEN_SLEEP) == set(SLEEP_MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_order_needs_every_part(mutation):
    setting, said = BROKEN[mutation]
    report = explore(Order(broken=[mutation], **setting))
    assert report.reason is not None
    assert said is None or said in report.reason, report


BROKEN_SLEEP = {
    "looks before it says that it sleeps": dict(sleepers=1, puts=(1,)),
    "wakes before it puts": dict(sleepers=1, puts=(1,)),
    "the word is cleared without waking": dict(sleepers=2, puts=(1, 1)),
    "the count stays": dict(sleepers=2, puts=(1, 1)),
    "who leaves passes nothing on": dict(sleepers=2, leaving=1, puts=(1,)),
}


@pytest.mark.parametrize("mutation", SLEEP_MUTATIONS)
def test_sleeping_needs_every_part(mutation):
    report = explore(Sleep(broken=[mutation], **BROKEN_SLEEP[mutation]))
    assert report.reason is not None
