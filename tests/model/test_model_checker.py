"""The checker finds what a tiny model with a known fault does."""
import pytest
from checker import END, Model, Program, Violation, explore, require


class Increment(Program):
    """Read and write a counter in two steps."""

    start = "load"

    def load(self, g, p):
        p.seen = g.counter
        return "store"

    def store(self, g, p):
        g.counter = p.seen + 1
        return END


class Counter(Model):
    def at_rest(self, g, threads):
        require(g.counter == len(threads), f"the counter is {g.counter}")


def test_a_lost_update_is_found_with_a_shortest_run():
    report = explore(Counter([Increment("a", seen=0), Increment("b", seen=0)], counter=0))
    assert "the counter is 1" in report.reason
    assert sorted(report.run) == ["a: load", "a: store", "b: load", "b: store"]
    assert report.run[:2] in (["a: load", "b: load"], ["b: load", "a: load"])


def test_one_thread_alone_is_right():
    report = explore(Counter([Increment("a", seen=0)], counter=0))
    assert report.reason is None
    assert (report.states, report.steps) == (3, 2)


class Waiter(Program):
    """Waits until somebody has counted."""

    start = "wait"

    def wait(self, g, p):
        return END if g.counter else None


class Deadlock(Model):
    def at_rest(self, g, threads):
        require(all(t.pc == END for t in threads), "a thread waits for ever")


def test_a_deadlock_is_found():
    assert "waits for ever" in explore(Deadlock([Waiter("a")], counter=0)).reason
    threads = [Waiter("a"), Increment("b", seen=0)]
    assert explore(Deadlock(threads, counter=0)).reason is None


class Restless(Program):
    start = "there"

    def there(self, g, p):
        return "back"

    def back(self, g, p):
        return "there"


def test_running_in_circles_is_found():
    assert "for ever" in explore(Model([Restless("a")])).reason


class Chooser(Program):
    start = "choose"

    def steps(self, label):
        return [("left", self.left), ("right", self.right)]

    def left(self, g, p):
        g.went = "left"
        return END

    def right(self, g, p):
        raise Violation("went right")


def test_each_choice_is_taken():
    report = explore(Model([Chooser("a")], went=""))
    assert report.reason == "violation: went right"
    assert report.run == ["a: right"]


class Bounded(Model):
    def invariant(self, g, threads):
        require(g.counter < 1, "too far")


def test_an_invariant_is_looked_at_in_each_state():
    report = explore(Bounded([Increment("a", seen=0)], counter=0))
    assert report.reason == "invariant: too far"
    assert report.run == ["a: load", "a: store"]


def test_a_model_that_is_too_large_says_so():
    with pytest.raises(RuntimeError, match="more than 2 states"):
        explore(Counter([Increment("a", seen=0)], counter=0), most=2)
