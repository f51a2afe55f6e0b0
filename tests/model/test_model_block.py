"""Every interleaving of allocating, adopting, returning, ending messages, and deaths."""
import os

import pytest
from block_model import MUTATIONS, Arena
from checker import explore

DEEP = pytest.mark.skipif(
    not os.environ.get("CFUTURES_MODEL_DEEP"),
    reason="minutes and gigabytes; CFUTURES_MODEL_DEEP=1 runs it")


def check(**setting):
    report = explore(Arena(**setting))
    assert report.reason is None, report


@pytest.mark.parametrize("blocks, sends, receivers", [
    (1, 1, 1), (1, 3, 1), (1, 3, 2), (2, 3, 2), pytest.param(3, 4, 2, marks=DEEP)])
def test_blocks_of_the_parent_come_back(blocks, sends, receivers):
    check(blocks=blocks, sends=sends, receivers=receivers)


@pytest.mark.parametrize("blocks, sends, receivers, mortal", [
    (1, 2, 1, 1), (2, 3, 1, 1), (2, 2, 2, 1), (2, 2, 2, 2), (1, 3, 2, 2),
    pytest.param(2, 4, 2, 2, marks=DEEP), pytest.param(3, 4, 2, 1, marks=DEEP)])
def test_blocks_of_the_parent_come_back_from_the_dead(blocks, sends, receivers, mortal):
    check(blocks=blocks, sends=sends, receivers=receivers, mortal=mortal)


@pytest.mark.parametrize("blocks, sends, receivers", [(1, 2, 1), (2, 4, 2), (2, 3, 3)])
def test_blocks_of_a_worker_come_back(blocks, sends, receivers):
    check(blocks=blocks, sends=sends, receivers=receivers, results=True)


@pytest.mark.parametrize("blocks, sends, receivers, results", [
    (1, 3, 1, False), (2, 3, 2, False), (1, 3, 1, True), (2, 4, 2, True)])
def test_of_two_that_return_a_block_at_once_one_does(blocks, sends, receivers, results):
    check(blocks=blocks, sends=sends, receivers=receivers, results=results, rival=True)


ONE_DIES = dict(blocks=1, sends=2, receivers=1, mortal=1)
TWO = dict(blocks=2, sends=2, receivers=2)
TWO_RETURN_ONE = dict(blocks=1, sends=3, receivers=1, rival=True)
LOOKED_AT = "while somebody looks at it"

# What is broken, where it shows, and as what.
BROKEN = {
    "linked after the push": (TWO, "a block is lost"),
    "returned without a compare-and-swap": (
        dict(blocks=1, sends=2, receivers=1, results=True, rival=True), "not FREE"),
    "no turns": (TWO_RETURN_ONE, LOOKED_AT),
    "a late return looks at the next use": (TWO_RETURN_ONE, "not LIVE"),
    "the holder is forgotten when it is returned": (ONE_DIES, "a block is lost"),
    "reclaimed before the stack is collected": (
        dict(blocks=2, sends=3, receivers=2, mortal=1), "a block is lost"),
    "what was returned is not reclaimed": (ONE_DIES, "a block is lost"),
    "released although it was adopted": (TWO, LOOKED_AT),
    "used again before its message has ended": (
        dict(blocks=1, sends=2, receivers=2), LOOKED_AT),
    "an adopted block has no holder": (ONE_DIES, "a block is lost"),
    "the stack is read and then emptied": (TWO, "a block is lost"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_broken_protocol_is_found_out(mutation):
    setting, symptom = BROKEN[mutation]
    report = explore(Arena(**setting, mutations=[mutation]))
    assert report.reason is not None, "nothing was found"
    assert symptom in report.reason, report
