"""The rich repr of a future: what it says, and that it can say anything safely."""
import re
from html.parser import HTMLParser

import cfutures
import pytest


class Text(HTMLParser):
    """Checks that tags are balanced, and collects text and tags."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.tags = [], [], set()
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def shown(future):
    """The texts of the repr, one for each element of it."""
    return Text(future._repr_html_()).text


@pytest.fixture
def future():
    return cfutures.Future()


def test_each_state_is_named(future):
    assert shown(future) == ["Future", "pending"]
    future.set_running_or_notify_cancel()
    assert shown(future) == ["Future", "running"]
    future.set_result(None)
    assert shown(future) == ["Future", "finished", "None"]


def test_cancelled_is_named_before_and_after_notification(future):
    future.cancel()
    assert shown(future) == ["Future", "cancelled"]
    future.set_running_or_notify_cancel()
    assert shown(future) == ["Future", "cancelled"]


@pytest.mark.parametrize(("error", "expected"), [
    (ValueError("no such thing"), ["ValueError", "no such thing"]),
    (KeyError(), ["KeyError"]),
])
def test_an_exception_is_named_with_its_message(future, error, expected):
    future.set_exception(error)
    assert shown(future) == ["Future", "failed", *expected]


def test_what_the_program_made_is_escaped(future):
    future.set_result("<script>alert(1)</script>")
    html = future._repr_html_()
    assert "script" not in Text(html).tags
    assert "&lt;script&gt;" in html
    failed = cfutures.Future()
    failed.set_exception(type("<img>", (Exception,), {})("<b>&\"'"))
    assert Text(failed._repr_html_()).tags == Text(html).tags - {"code"} | {"b"}
    assert shown(failed)[2:] == ["<img>", "<b>&\"'"]


@pytest.mark.parametrize("value", [
    "x" * 10**6, list(range(10**6)), {n: n for n in range(10**5)}, 10**4000,
    [[["x" * 1000] * 1000] * 10] * 10], ids=["str", "list", "dict", "int", "nested"])
def test_a_large_result_is_shortened(future, value):
    future.set_result(value)
    assert len(future._repr_html_()) < 3000


def test_a_long_message_is_shortened(future):
    future.set_exception(ValueError("x" * 10**6))
    assert len(future._repr_html_()) < 2000


class Hostile(Exception):
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


def test_an_object_whose_repr_fails_does_no_harm(future):
    future.set_result(Hostile())
    assert "Hostile" in future._repr_html_()
    failed = cfutures.Future()
    failed.set_exception(Hostile())
    assert "Hostile" in failed._repr_html_()


def test_the_name_of_a_subclass_is_shown():
    class Mine(cfutures.Future):
        pass
    assert shown(Mine())[0] == "Mine"


def test_a_task_shows_its_worker_and_its_time():
    with cfutures.ThreadPoolExecutor(1, thread_name_prefix="<cook>") as pool:
        future = pool.submit(pow, 2, 5)
        future.result()
        kind, state, worker, time, result = shown(future)
    assert (kind, state, worker, result) == ("Future", "finished", "<cook>_0", "32")
    assert re.fullmatch(r"\d+ ms|\d+\.\d s", time)


@pytest.mark.parametrize(("seconds", "text"), [
    (0.0, "0 ms"), (0.0123, "12 ms"), (1.26, "1.3 s"), (61, "1 min 01 s"),
    (3661, "1 h 01 min")])
def test_times_are_readable(future, monkeypatch, seconds, text):
    monkeypatch.setattr(cfutures.Future, "_elapsed", lambda self: seconds)
    assert shown(future) == ["Future", "pending", text]
