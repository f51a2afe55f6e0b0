"""The rich reprs of futures and executors: what they say, and that they can say anything
safely."""
import functools
import operator
import re
import threading
from html.parser import HTMLParser
from types import SimpleNamespace

import cfutures
import cfutures._html
import pytest
from cfutures._html_executor import Counts, live_executors, pools_html, pools_text
from testkit import add, boom, eventually, run_child


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
        if data.strip():
            self.text.append(data.strip())


def shown(thing):
    """The texts of the repr, one for each element of it."""
    return Text(thing._repr_html_()).text


@pytest.fixture
def future():
    return cfutures.Future()


# ---- futures ----

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
    (ValueError("no such thing"), ["ValueError", ": no such thing"]),
    (KeyError(), ["KeyError"]),
])
def test_an_exception_is_named_with_its_message(future, error, expected):
    future.set_exception(error)
    texts = shown(future)
    assert texts[:-1] == ["Future", "failed", *expected]
    assert texts[-1].startswith(type(error).__name__)       # the traceback, folded


def test_what_the_program_made_is_escaped(future):
    future.set_result("<script>alert(1)</script>")
    html = future._repr_html_()
    assert "script" not in Text(html).tags
    assert "&lt;script&gt;" in html
    failed = cfutures.Future()
    failed.set_exception(type("<img>", (Exception,), {})("<b>&\"'"))
    assert Text(failed._repr_html_()).tags == {"div", "span", "b", "details", "summary", "pre"}
    assert shown(failed)[2:4] == ["<img>", ": <b>&\"'"]


def test_half_a_character_can_be_sent(future):
    future.set_exception(ValueError("\ud800"))
    assert "\\ud800" in future._repr_html_().encode().decode()


@pytest.mark.parametrize("value", [
    "x" * 10**6, list(range(10**6)), {n: n for n in range(10**5)}, 10**4000,
    [[["x" * 1000] * 1000] * 10] * 10], ids=["str", "list", "dict", "int", "nested"])
def test_a_large_result_is_shortened(future, value):
    future.set_result(value)
    assert len(future._repr_html_()) < 3000


def test_a_long_message_is_shortened(future):
    future.set_exception(ValueError("x" * 10**6))
    assert len(future._repr_html_()) < 10_000


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


TIME = r"(<10 ms|\d+ ms|\d+\.\d s)"
TIMES = f"queued {TIME}, ran {TIME}"


def test_a_task_shows_its_function_its_thread_and_its_times():
    with cfutures.ThreadPoolExecutor(1, thread_name_prefix="<cook>") as pool:
        future = pool.submit(add, 2, 5)
        future.result()
        kind, state, name, worker, times, result = shown(future)
    assert (kind, state, name, worker, result) == (
        "Future", "finished", "add()", "<cook>_0", "7")
    assert re.fullmatch(TIMES, times)


def test_a_task_in_a_process_shows_its_function_its_process_and_its_times():
    with cfutures.ProcessPoolExecutor(1) as pool:
        future = pool.submit(add, 2, 5)
        future.result()
        (pid,) = pool._processes
        kind, state, name, worker, times, result = shown(future)
    assert (kind, state, name, worker, result) == (
        "Future", "finished", "add()", f"process {pid}", "7")
    assert re.fullmatch(TIMES, times)


def test_a_running_task_shows_its_worker_and_a_waiting_one_how_long(gate):
    started, go = threading.Event(), gate()
    with cfutures.ThreadPoolExecutor(1, thread_name_prefix="cook") as pool:
        running = pool.submit(lambda: (started.set(), go.wait()))
        waiting = pool.submit(add, 1)
        started.wait()
        assert shown(running)[1] == "running"
        assert "cook_0" in shown(running)
        state, name, times = shown(waiting)[1:]
        assert (state, name) == ("pending", "add()")
        assert re.fullmatch(f"queued {TIME}", times)
        assert waiting.cancel()
        assert shown(waiting)[1:3] == ["cancelled", "add()"]
        go.set()


def test_a_task_that_runs_in_a_process_shows_it(tmp_path):
    path = tmp_path / "go"
    with cfutures.ProcessPoolExecutor(1) as pool:
        future = pool.submit(wait_for_file, str(path))
        try:
            assert eventually(future.running)
            (pid,) = pool._processes
            assert eventually(lambda: f"process {pid}" in shown(future))
            assert shown(future)[1] == "running"
        finally:
            path.touch()


def wait_for_file(path):
    import os
    return eventually(lambda: os.path.exists(path))


class Adder:
    def __init__(self):
        self.total = 0

    def add(self, n):
        return n

    def __call__(self, n):
        return n

    @staticmethod
    def double(n):
        return 2 * n


@pytest.mark.parametrize(("function", "arguments", "name"), [
    (add, (1,), "add"),
    (pow, (2, 2), "pow"),
    (int, ("5",), "int"),
    (Adder().add, (1,), "Adder.add"),
    (Adder.double, (1,), "Adder.double"),
    (Adder(), (1,), "Adder"),
    (functools.partial(add, 1), (2,), "add"),
    (functools.partial(functools.partial(add, 1)), (2,), "add"),
    ("a,b".split, (",",), "split"),
    (operator.itemgetter(0), ([1],), "itemgetter"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_any_callable_has_a_name(executor, function, arguments, name):
    future = executor.submit(function, *arguments)
    future.result()
    assert shown(future)[2] == f"{name}()"


def test_an_exception_folds_the_traceback_of_the_worker(executor):
    future = executor.submit(boom, "<boom>")
    future.exception()
    html = future._repr_html_()
    page = Text(html)
    assert {"details", "summary", "pre"} <= page.tags
    assert page.text.index("ValueError") < page.text.index(": <boom>") < len(page.text) - 1
    assert re.search(r"Traceback.*in boom\n.*ValueError: <boom>", page.text[-1], re.S)
    assert page.text[-1].startswith("Traceback")
    assert page.text[-1].count("ValueError: <boom>") == 1
    assert " open" not in html


@pytest.mark.parametrize(("seconds", "text"), [
    (0.0, "0 ms"), (0.0123, "12 ms"), (1.26, "1.3 s"), (61, "1 min 01 s"),
    (3661, "1 h 01 min")])
def test_times_are_readable(seconds, text):
    assert cfutures._html.duration(seconds) == text


def test_the_repr_does_not_wait(gate):
    go = gate()
    with cfutures.ThreadPoolExecutor(1) as pool:
        futures = [pool.submit(go.wait) for _ in range(3)]
        assert all("Future" in shown(future) for future in futures)
        go.set()


# ---- executors ----

def figures(pool):
    """The numbers that the repr shows, by what they count."""
    texts = shown(pool)
    found = {}
    for text in texts:
        match = re.fullmatch(r"(queued|running|done|failed|cancelled) ([\d,]+)", text)
        if match:
            found[match[1]] = int(match[2].replace(",", ""))
    return SimpleNamespace(**found), texts


def test_an_executor_shows_what_became_of_its_tasks(executor):
    assert list(executor.map(add, range(20))) == list(range(1, 21))
    for _ in range(3):
        assert isinstance(executor.submit(boom).exception(), ValueError)
    assert eventually(lambda: figures(executor)[0].running == 0)
    counts, texts = figures(executor)
    assert (counts.done, counts.failed, counts.cancelled, counts.queued) == (20, 3, 0, 0)
    assert texts[0] == type(executor).__name__
    assert "open" in texts
    assert re.fullmatch(r"workers [12] of 2", next(t for t in texts if "workers" in t))


def test_waiting_running_and_cancelled_tasks_are_counted(gate):
    go = gate()
    with cfutures.ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(go.wait) for _ in range(5)]
        assert eventually(lambda: figures(pool)[0].running == 2)
        assert figures(pool)[0].queued == 3
        assert futures[-1].cancel()
        assert (figures(pool)[0].queued, figures(pool)[0].cancelled) == (2, 1)
        go.set()
        cfutures.wait(futures)
        assert eventually(lambda: (figures(pool)[0].cancelled, figures(pool)[0].done) == (1, 4))
        assert figures(pool)[0].queued == 0


def test_waiting_running_and_cancelled_tasks_of_processes_are_counted(tmp_path):
    path = tmp_path / "go"
    with cfutures.ProcessPoolExecutor(2) as pool:
        futures = [pool.submit(wait_for_file, str(path)) for _ in range(5)]
        try:
            assert eventually(lambda: figures(pool)[0].running == 2)
            assert figures(pool)[0].queued == 3
            assert futures[-1].cancel()
            assert figures(pool)[0].queued == 2
        finally:
            path.touch()
        cfutures.wait(futures)
        assert eventually(lambda: figures(pool)[0].running == 0)
        counts = figures(pool)[0]
        assert (counts.cancelled, counts.done, counts.queued) == (1, 4, 0)


def test_shutdown_with_cancel_futures_is_counted(gate):
    go = gate()
    pool = cfutures.ThreadPoolExecutor(1)
    futures = [pool.submit(go.wait) for _ in range(4)]
    assert eventually(futures[0].running)
    pool.shutdown(wait=False, cancel_futures=True)
    assert figures(pool)[0].cancelled == 3
    go.set()
    pool.shutdown()
    counts, texts = figures(pool)
    assert (counts.done, counts.cancelled) == (1, 3)
    assert "shut down" in texts
    assert "workers 0 of 1" in texts


def test_a_task_that_cannot_be_pickled_has_failed():
    with cfutures.ProcessPoolExecutor(1) as pool:
        assert pool.submit(add, threading.Lock()).exception() is not None
        assert figures(pool)[0].failed == 1


def test_tasks_of_a_worker_that_crashed_have_failed():
    with cfutures.ProcessPoolExecutor(1, on_crash="replace") as pool:
        assert pool.submit(crash).exception() is not None
        assert pool.submit(add, 1).result() == 2
        assert eventually(lambda: figures(pool)[0].running == 0)
        assert (figures(pool)[0].failed, figures(pool)[0].done) == (1, 1)
        assert "open" in shown(pool)


def crash():
    import os
    import signal
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_broken_pool_says_why():
    with cfutures.ProcessPoolExecutor(1) as pool:
        assert pool.submit(crash).exception() is not None
        texts = shown(pool)
        assert "broken" in texts
        assert any("SIGKILL" in text or "terminated" in text for text in texts)


def test_counts_outlive_the_workers_that_counted():
    pool = cfutures.ProcessPoolExecutor(
        1, max_tasks_per_child=2, mp_context=None)
    with pool:
        assert list(pool.map(add, range(5))) == [1, 2, 3, 4, 5]
    assert figures(pool)[0].done == 5


def test_throughput_is_of_the_time_at_work():
    assert Counts(2, 0, 0, 90, 10, 5, 2.0).throughput() == 50
    assert Counts(2, 0, 0, 90, 10, 5, 0.0).throughput() is None


def test_a_pool_at_rest_is_not_at_work(executor):
    executor.submit(add, 1).result()
    assert eventually(lambda: resting(executor))


def resting(pool):
    """Whether the clock of the pool's work stands still."""
    before = Counts(*pool._counts()).active
    return not eventually(lambda: Counts(*pool._counts()).active > before, guard=0.1)


def test_a_pool_at_work_shows_its_throughput(executor):
    list(executor.map(nap, [0.02] * 10))
    assert Counts(*executor._counts()).active > 0.05
    assert any(re.fullmatch(r"[\d,.]+ tasks/(s|min)", text) for text in shown(executor))


def nap(seconds):
    threading.Event().wait(seconds)


def test_an_executor_of_somebody_else_has_no_rich_repr():
    class Mine(cfutures.Executor):
        pass
    assert Mine()._repr_html_() is None


@pytest.mark.parametrize("kind", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_an_executor_that_was_not_initialized_has_none(kind):
    class Mine(getattr(cfutures, kind)):
        def __init__(self):
            pass
    assert Mine()._repr_html_() is None


def test_a_pool_of_the_parent_can_be_shown_in_a_forked_child():
    assert "0\n" == run_child("""
with cf.ProcessPoolExecutor(1) as processes, cf.ThreadPoolExecutor(1) as threads:
    futures = [processes.submit(int), threads.submit(int)]
    cf.wait(futures)
    pid = os.fork()
    if pid == 0:
        pages = [thing._repr_html_() for thing in (processes, threads, *futures)]
        os._exit(not all(pages))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""").out


def test_what_an_executor_was_named_is_escaped():
    with cfutures.ThreadPoolExecutor(1, thread_name_prefix="<b>") as pool:
        assert "<b>" in shown(pool)


# ---- %cfutures ----

def test_live_pools_are_found_until_they_are_gone(executor):
    assert executor in live_executors()
    names = [type(pool).__name__ for pool in live_executors()]
    assert sum(text in names for text in Text(pools_html()).text) >= 1
    assert "workers" in pools_text()


def test_pools_that_are_gone_are_not_shown():
    pool = cfutures.ThreadPoolExecutor(1, thread_name_prefix="short-lived")
    assert "short-lived" in pools_text()
    assert "short-lived" in pools_html()
    del pool
    assert eventually(lambda: "short-lived" not in pools_text())
