"""progress() and map(progress=True): they count completions, and change nothing else."""
import concurrent.futures
import importlib
import io
import itertools
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import cfutures
import pytest
from cfutures import _bars, _progress
from testkit import add, boom, eventually, prelude


class Recorder:
    """A bar that remembers what it was told."""

    def __init__(self, total, desc):
        self.desc, self.totals, self.shown, self.last = desc, [total], [], None
        self.closed = threading.Event()

    def show(self, done, total, failed, cancelled):
        assert self.last is None
        self.totals.append(total)
        self.shown.append((done, failed, cancelled))

    def close(self, done, total, failed, cancelled):
        self.show(done, total, failed, cancelled)
        self.last = (done, total, failed, cancelled)
        self.closed.set()


@pytest.fixture
def bars(monkeypatch):
    """The bars that were made."""
    made = []

    def make(total, desc):
        made.append(Recorder(total, desc))
        return made[-1]

    monkeypatch.setattr(_progress, "make_bar", make)
    return made


@pytest.fixture
def threads(gate):
    """Make thread pools that are shut down after the test, even if it failed."""
    pools = []

    def make(workers):
        pools.append(cfutures.ThreadPoolExecutor(workers))
        return pools[-1]

    yield make
    gate.open_all()
    for pool in pools:
        pool.shutdown()


def even(n):
    if n % 2:
        raise ValueError(n)
    return n


# ---- the wrapper ----

def test_futures_are_yielded_as_they_are_done_each_once(executor, bars):
    futures = [executor.submit(add, n) for n in range(20)]
    done = list(cfutures.progress(futures + futures[:3], desc="adding"))
    assert sorted(future.result() for future in done) == list(range(1, 21))
    assert bars[0].desc == "adding"
    assert bars[0].last == (20, 20, 0, 0)


def test_a_task_counts_when_it_ends_not_when_the_loop_comes_to_it(gate, threads, bars):
    go = gate()
    pool = threads(2)
    first, waits = pool.submit(add, 1), pool.submit(go.wait)
    others = [pool.submit(add, n) for n in range(5)]
    shown = cfutures.progress([first, waits, *others])
    next(shown)
    # The loop has seen one of them.
    assert eventually(lambda: shown.done == 6)
    assert eventually(lambda: bars[0].shown and bars[0].shown[-1] == (6, 0, 0))
    go.set()
    assert len(list(shown)) == 6
    assert bars[0].last == (7, 7, 0, 0)


def test_failed_and_cancelled_tasks_are_told_apart(gate, threads, bars):
    go = gate()
    pool = threads(1)
    futures = [pool.submit(go.wait), *(pool.submit(even, n) for n in range(6))]
    futures.append(pool.submit(add, 1))
    assert futures[-1].cancel()
    shown = cfutures.progress(futures)
    go.set()
    assert set(shown) == set(futures)
    assert (shown.done, shown.failed, shown.cancelled, shown.total) == (8, 3, 1, 8)
    assert bars[0].last == (8, 8, 3, 1)


def test_futures_of_the_standard_library_and_ours(bars):
    with concurrent.futures.ThreadPoolExecutor(1) as theirs, \
            cfutures.ThreadPoolExecutor(1) as ours:
        futures = {pool.submit(even, n): n for n in range(4) for pool in (ours, theirs)}
        assert set(cfutures.progress(futures)) == set(futures)
    assert bars[0].last == (8, 8, 4, 0)


def test_a_generator_that_submits(executor, bars):
    done = list(cfutures.progress(executor.submit(add, n) for n in range(5)))
    assert sorted(future.result() for future in done) == [1, 2, 3, 4, 5]
    assert bars[0].last == (5, 5, 0, 0)


@pytest.mark.parametrize("as_completed", [
    cfutures.as_completed, concurrent.futures.as_completed], ids=["ours", "theirs"])
def test_an_iterator_of_as_completed_is_not_emptied_first(gate, threads, bars, as_completed):
    go = gate()
    pool = threads(1)
    futures = [pool.submit(add, 1), pool.submit(go.wait), pool.submit(boom)]
    shown = cfutures.progress(as_completed(futures), total=3)
    assert next(shown) is futures[0]
    go.set()
    assert len(list(shown)) == 2
    assert bars[0].last == (3, 3, 1, 0)


def test_results_of_map_come_in_order(executor, bars):
    results = executor.map(add, range(9))
    assert list(cfutures.progress(results)) == list(range(1, 10))
    assert bars[0].last == (9, 9, 0, 0)


@pytest.mark.parametrize(("items", "total"), [
    ([1, 2, 3], 3), (iter("abc"), None), (range(3), 3)], ids=["list", "iterator", "range"])
def test_other_items_are_counted_when_the_next_is_asked_for(bars, items, total):
    shown = cfutures.progress(items)
    assert shown.total == total
    next(shown)
    assert shown.done == 0
    next(shown)
    assert shown.done == 1
    assert len(list(shown)) == 1
    assert bars[0].last == (3, total, 0, 0)


def test_nothing_to_wait_for(bars):
    assert list(cfutures.progress([])) == []
    assert bars[0].last == (0, 0, 0, 0)


def test_what_is_no_iterable_is_refused(bars):
    with pytest.raises(TypeError):
        cfutures.progress(3)
    assert bars == []


# ---- its end ----

def test_leaving_the_loop_closes_the_bar(gate, threads, bars):
    go = gate()
    pool = threads(1)
    futures = [pool.submit(add, 1), pool.submit(go.wait)]
    for _ in cfutures.progress(futures):
        break
    assert bars[0].closed.wait(30)
    assert bars[0].last == (1, 2, 0, 0)
    go.set()


def test_an_exception_in_the_loop_closes_the_bar(gate, threads, bars):
    go = gate()
    pool = threads(1)
    with pytest.raises(ZeroDivisionError) as caught:
        for _ in cfutures.progress([pool.submit(add, 1), pool.submit(go.wait)]):
            1 / 0  # noqa: B018
    assert bars[0].last == (1, 2, 0, 0)
    assert caught.traceback


def test_a_bar_that_something_still_refers_to_ends_with_the_tasks(gate, threads, bars):
    go = gate()
    pool = threads(1)
    futures = [pool.submit(add, 1), pool.submit(go.wait)]
    shown = cfutures.progress(futures)
    with pytest.raises(ZeroDivisionError):
        for _ in shown:
            1 / 0  # noqa: B018
    assert not bars[0].closed.is_set()
    go.set()
    assert bars[0].closed.wait(30)
    assert bars[0].last == (2, 2, 0, 0)


def test_ctrl_c_while_waiting_closes_the_bar(gate, threads, bars, monkeypatch):
    go = gate()

    class Interrupted:
        def __next__(self):
            raise KeyboardInterrupt

    pool = threads(1)
    shown = cfutures.progress([pool.submit(go.wait)])
    monkeypatch.setattr(shown, "_items", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        next(shown)
    assert bars[0].last == (0, 1, 0, 0)
    go.set()


def test_a_with_block_closes_the_bar(gate, threads, bars):
    go = gate()
    pool = threads(1)
    with cfutures.progress([pool.submit(go.wait)]) as shown:
        assert shown.done == 0
    assert bars[0].last == (0, 1, 0, 0)
    go.set()


def test_a_bar_that_nobody_iterates_over_ends_with_the_tasks(executor, bars):
    shown = cfutures.progress([executor.submit(add, n) for n in range(3)])
    assert bars[0].closed.wait(30)
    assert (shown.done, repr(shown)) == (3, "<progress 3/3, 0 failed, 0 cancelled>")


def test_counting_is_not_reading(bars, caplog):
    before = cfutures.warn_unread()
    try:
        with cfutures.ThreadPoolExecutor(1) as pool:
            list(cfutures.progress([pool.submit(boom)]))
            assert eventually(lambda: "nobody asked" in caplog.text)
    finally:
        cfutures.warn_unread(before)


# ---- map ----

@pytest.mark.parametrize("options", [
    {}, {"buffersize": 3}, {"chunksize": 4}, {"chunksize": 4, "buffersize": 2}], ids=str)
@pytest.mark.parametrize("sized", [True, False], ids=["list", "generator"])
def test_map_counts_calls(executor, bars, options, sized):
    items = range(10) if sized else (n for n in range(10))
    results = executor.map(add, items, progress="adding", **options)
    assert list(results) == list(range(1, 11))
    assert bars[0].desc == "adding"
    done, total, failed, cancelled = bars[0].last
    assert (done, failed, cancelled) == (10, 0, 0)
    # How long a generator is nobody knows before its end.
    assert total == (10 if sized or "buffersize" not in options else None)


def test_map_counts_up_to_its_shortest_iterable(executor, bars):
    assert list(executor.map(add, range(10), [1, 2], progress=True)) == [1, 3]
    assert bars[0].last == (2, 2, 0, 0)
    assert list(executor.map(add, itertools.count(), [1, 2], progress=True)) == [1, 3]
    assert bars[1].last == (2, 2, 0, 0)


def test_map_counts_completions_out_of_order(gate, threads, bars):
    go = gate()
    pool = threads(2)
    results = pool.map(lambda n: go.wait() if n == 0 else n, range(6), progress=True)
    assert eventually(lambda: bars[0].shown and bars[0].shown[-1] == (5, 0, 0))
    go.set()
    assert list(results)[1:] == [1, 2, 3, 4, 5]


def test_map_for_its_effects_alone(bars):
    """An iterator that was dropped before it began cancels nothing, with a bar or without."""
    seen = []
    with cfutures.ThreadPoolExecutor(1) as pool:
        pool.map(seen.append, range(5), progress=True)
    assert seen == [0, 1, 2, 3, 4]


def test_a_failing_call_raises_and_closes_the_bar(executor, bars):
    results = executor.map(even, [0, 2, 3, 4], progress=True)
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(ValueError, match="3"):
        next(results)
    assert bars[0].closed.is_set()
    assert list(results) == []
    done, total, failed, cancelled = bars[0].last
    assert (total, failed) == (4, 1)
    assert done in (3, 4) and cancelled in (0, 1)


def test_close_cancels_the_rest(gate, threads, bars):
    go = gate()
    pool = threads(1)
    results = pool.map(lambda n: n == 0 or go.wait(), range(5), progress=True)
    assert next(results) is True
    results.close()
    assert list(results) == []
    go.set()
    assert bars[0].last[3] >= 3


@pytest.mark.parametrize("off", [False, None])
def test_without_progress_nothing_is_shown(executor, bars, off):
    assert list(executor.map(add, range(3), progress=off)) == [1, 2, 3]
    assert bars == []


def test_a_subclass_that_overrides_submit(bars):
    class Mine(cfutures.ThreadPoolExecutor):
        submitted = 0

        def submit(self, fn, /, *args, **kwargs):
            self.submitted += 1
            return super().submit(fn, *args, **kwargs)

    with Mine(1) as pool:
        assert list(pool.map(add, range(3), progress=True)) == [1, 2, 3]
        assert pool.submitted == 3
    assert bars[0].last == (3, 3, 0, 0)


def test_a_subclass_that_overrides_map(bars):
    class Mine(cfutures.ThreadPoolExecutor):
        def map(self, fn, *iterables, timeout=None, chunksize=1):
            return super().map(fn, *iterables, timeout=timeout, chunksize=chunksize)

    with Mine(1) as pool:
        assert list(cfutures.progress(pool.map(add, range(3)))) == [1, 2, 3]
    assert bars[0].last == (3, 3, 0, 0)


def test_the_function_may_have_an_argument_of_that_name(bars):
    with cfutures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(dict, progress=3).result() == {"progress": 3}
    assert bars == []


# ---- the pictures ----

def test_text_is_a_line_at_the_end(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    bar = _bars._TextBar(4, "counting")
    bar.show(1, 4, 0, 0)
    bar.close(4, 4, 1, 2)
    assert re.fullmatch(r"counting: 4/4 tasks, .*, 1 failed, 2 cancelled\n", stream.getvalue())


def test_text_on_a_terminal_changes(monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stream)
    bar = _bars._TextBar(None, "")
    bar.show(1, None, 0, 0)
    bar.close(2, 2, 0, 0)
    first, second, third = stream.getvalue().split("\r")[1:]
    assert first.startswith("0/? tasks")
    assert second.startswith("1/? tasks")
    assert third.startswith("2/2 tasks") and third.endswith("\n")


def test_a_program_without_a_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    bar = _bars._TextBar(1, "")
    bar.close(1, 1, 0, 0)


class FakeTqdm:
    def __init__(self, *, total, desc, unit, mininterval):
        self.total, self.desc, self.n = total, desc, 0
        self.postfix, self.calls = "", []

    def refresh(self):
        self.calls.append((self.n, self.total, self.postfix))

    def set_postfix_str(self, text, refresh):
        assert refresh is False
        self.postfix = text

    def close(self):
        self.calls.append("closed")


def test_tqdm_is_told_the_figures():
    bar = _bars._TqdmBar(FakeTqdm, None, "x")
    bar.show(3, 9, 0, 0)
    bar.close(9, 9, 2, 1)
    assert bar._bar.calls == [
        (3, 9, ""), (9, 9, "2 failed, 1 cancelled"), "closed"]


@pytest.mark.parametrize(("notebook", "widgets", "tqdm", "kind"), [
    (True, True, True, "_TqdmBar"), (True, False, True, "_HtmlBar"),
    (True, True, False, "_HtmlBar"), (False, False, True, "_TqdmBar"),
    (False, False, False, "_TextBar")])
def test_the_best_bar_that_there_is(monkeypatch, notebook, widgets, tqdm, kind):
    monkeypatch.setattr(_bars, "_in_notebook", lambda: notebook)
    monkeypatch.setattr(_bars.importlib.util, "find_spec", lambda name: widgets or None)
    module = SimpleNamespace(tqdm=FakeTqdm) if tqdm else None
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    monkeypatch.setitem(sys.modules, "tqdm", SimpleNamespace(auto=module))
    monkeypatch.setattr(_bars._HtmlBar, "__init__", lambda self, total, desc: None)
    assert type(_bars.make_bar(3, "x")).__name__ == kind


def test_tqdm_itself(capsys):
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    importlib.invalidate_caches()
    with cfutures.ThreadPoolExecutor(2) as pool:
        assert list(pool.map(add, range(5), progress="adding")) == [1, 2, 3, 4, 5]
    assert re.search(r"adding: 100%.* 5/5 ", capsys.readouterr().err)


class FakeHandle:
    def __init__(self, page):
        self.pages = [page]

    def update(self, page, *, raw):
        assert raw
        self.pages.append(page)


def test_html_is_one_output_that_changes(monkeypatch):
    display = pytest.importorskip("IPython.display", reason="IPython is not installed")
    monkeypatch.setattr(display, "display",
                        lambda page, raw, display_id: FakeHandle(page))
    bar = _bars._HtmlBar(4, "<b>")
    bar.show(1, 4, 0, 0)
    bar.close(4, 4, 1, 0)
    pages = [page["text/html"] for page in bar._handle.pages]
    assert "4/4 tasks" in bar._handle.pages[2]["text/plain"]
    assert len(pages) == 3
    assert "0/4 tasks" in pages[0] and "&lt;b&gt;" in pages[0]
    assert "1/4 tasks" in pages[1]
    assert "4/4 tasks" in pages[2] and "1 failed" in pages[2]


def test_a_program_ends_with_its_bar_drawn():
    code = prelude("cfutures") + (
        "sys.modules['tqdm'] = None\n"
        "if __name__ == '__main__':\n"
        "    pool = cf.ThreadPoolExecutor(2)\n"
        "    shown = cf.progress([pool.submit(time.sleep, 0.2) for _ in range(4)])\n")
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                           timeout=60)
    assert child.returncode == 0
    assert re.fullmatch(r"4/4 tasks.*\n", child.stderr)
