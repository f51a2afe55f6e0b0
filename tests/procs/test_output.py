"""What tasks print arrives where the user looks, in whole lines, however much it is."""
import contextlib
import io
import os
import sys
import threading

import output_tasks as tasks
import pytest
from cfutures import _output
from prockit import run_program
from testkit import GUARD, eventually, ours

pytestmark = [ours("there it is lost, or cut to pieces, unless it goes to descriptors 1 and 2")]


@pytest.fixture
def run(implementation, method):
    """Run a program to its end."""
    def run(code, **options):
        return run_program(
            "import output_tasks as tasks\n" + code, implementation, method, **options)
    return run


@contextlib.contextmanager
def user_looks_at(stdout, stderr=None):
    """sys.stdout and sys.stderr are these streams meanwhile."""
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr or sys.stderr):
        yield


# --- streams that are not descriptors 1 and 2 -------------------------------------------

def test_text_is_there_when_shutdown_returns(procs):
    out, err = io.StringIO(), io.StringIO()
    with user_looks_at(out, err), procs(2) as executor:
        futures = [executor.submit(tasks.say, f"out {n}", f"err {n}") for n in range(20)]
        for future in futures:
            future.result(GUARD)
    assert sorted(out.getvalue().splitlines()) == sorted(f"out {n}" for n in range(20))
    assert sorted(err.getvalue().splitlines()) == sorted(f"err {n}" for n in range(20))


def test_text_of_one_worker_is_in_order(procs):
    out = io.StringIO()
    with user_looks_at(out), procs(1) as executor:
        list(executor.map(tasks.say, range(200)))
    assert out.getvalue().splitlines() == [str(n) for n in range(200)]


def test_lines_of_several_workers_are_whole(procs):
    out = io.StringIO()
    with user_looks_at(out), procs(4) as executor:
        list(executor.map(tasks.say_long_lines, "abcd" * 4, [40] * 16, [9000] * 16))
    lines = out.getvalue().splitlines()
    assert len(lines) == 16 * 40
    assert {len(line) for line in lines} == {9000}
    assert all(len(set(line)) == 1 for line in lines)


def test_much_text_while_nobody_waits(procs):
    """More than any pipe holds, from all workers at once, and callbacks besides."""
    out, called = io.StringIO(), threading.Semaphore(0)
    with user_looks_at(out):
        executor = procs(3)
        for _ in range(6):
            executor.submit(tasks.say_long_lines, "x", 400, 1000).add_done_callback(
                lambda future: called.release())
        for _ in range(6):
            assert called.acquire(timeout=GUARD)
        executor.shutdown()
    assert out.getvalue().count("\n") == 6 * 400


def test_incomplete_line_is_shown_when_the_worker_has_nothing_to_do(procs):
    out = io.StringIO()
    with user_looks_at(out):
        executor = procs(1)
        executor.submit(tasks.write, "no newline").result(GUARD)
        assert eventually(lambda: out.getvalue() == "no newline")
        executor.submit(tasks.write, ", but now\n").result(GUARD)
        executor.shutdown()
    assert out.getvalue() == "no newline, but now\n"


def test_progress_bars_are_shown_as_they_move(procs, door):
    out, gate = io.StringIO(), door()
    with user_looks_at(out):
        executor = procs(1)
        future = executor.submit(tasks.write_and_wait_at, "\r10%", gate.path)
        gate.entered()
        assert eventually(lambda: out.getvalue() == "\r10%")
        gate.open()
        future.result(GUARD)
        executor.shutdown()


def test_characters_of_any_language(procs):
    out = io.StringIO()
    text = "Größe, 数, \N{SNOWMAN}" * 3000
    with user_looks_at(out), procs(1) as executor:
        executor.submit(tasks.say, text).result(GUARD)
    assert out.getvalue() == text + "\n"


def test_text_goes_to_what_sys_stdout_is_by_then(procs):
    first, second = io.StringIO(), io.StringIO()
    with user_looks_at(first):
        executor = procs(1)
        executor.submit(tasks.say, "to the first").result(GUARD)
        assert eventually(lambda: first.getvalue())
    with user_looks_at(second):
        executor.submit(tasks.say, "to the second").result(GUARD)
        executor.shutdown()
    assert first.getvalue() == "to the first\n"
    assert second.getvalue() == "to the second\n"


def test_only_the_stream_that_is_redirected_goes_another_way(run):
    result = run("""
import contextlib, io
out = io.StringIO()
with contextlib.redirect_stdout(out), cf.ProcessPoolExecutor(1, mp_context=context) as executor:
    executor.submit(tasks.say, "out", "err").result(GUARD)
say(repr(out.getvalue()))
""")
    assert result.out == "'out\\n'\n"
    assert result.err == "err\n"


def test_text_of_the_initializer_and_of_exit(run):
    result = run("""
import contextlib, io
out = io.StringIO()
with contextlib.redirect_stdout(out), cf.ProcessPoolExecutor(
        1, mp_context=context, initializer=tasks.say_now_and_at_exit) as executor:
    executor.submit(tasks.add, 1).result(GUARD)
say(repr(out.getvalue()))
""")
    assert result.out == "'initializer\\nfinalizer\\n'\n"


@pytest.mark.parametrize("stream", ["closed", "raising"])
def test_a_stream_that_fails_does_not_stop_anything(run, stream):
    """The text is written to descriptor 1 instead; the reason is logged once."""
    result = run(f"""
import io, logging
logging.basicConfig(level=logging.ERROR)
class Raising(io.StringIO):
    def write(self, text):
        raise ZeroDivisionError("no")
broken = Raising()
if {stream!r} == "closed":
    broken.close()
before, sys.stdout = sys.stdout, broken
with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
    assert list(executor.map(tasks.say_long_lines, "ab", [100] * 2, [1000] * 2)) == [None] * 2
sys.stdout = before
""")
    assert sorted(set(result.out.splitlines())) == ["a" * 1000, "b" * 1000]
    assert result.out.count("\n") == 200
    assert result.err.count("cannot show what tasks print") == 1


def test_no_streams_at_all(run):
    run("""
sys.stdout = sys.stderr = None
with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
    assert executor.submit(tasks.add, 1).result(GUARD) == 2
    executor.submit(tasks.say, "nobody hears this").result(GUARD)
""")


def test_programs_that_tasks_start_print_to_the_real_descriptors(run):
    result = run("""
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()):
    with cf.ProcessPoolExecutor(1, mp_context=context) as executor:
        executor.submit(tasks.echo_by_a_program, "from a program").result(GUARD)
""")
    assert result.out == "from a program\n"


def test_process_left_behind_by_a_task_does_not_hold_shutdown(run):
    """It has the pipe open; the end of the text is told all the same."""
    run("""
import contextlib, io
out = io.StringIO()
with contextlib.redirect_stdout(out), cf.ProcessPoolExecutor(1, mp_context=context) as executor:
    left = executor.submit(tasks.fork_sleeper, 3600).result(GUARD)
    executor.submit(tasks.say, "said").result(GUARD)
os.kill(left, signal.SIGKILL)
assert out.getvalue() == "said\\n", out.getvalue()
""")


def test_what_was_printed_before_a_crash_is_shown(procs):
    out = io.StringIO()
    with user_looks_at(out), procs(1, on_crash="replace") as executor:
        assert executor.submit(tasks.say_and_die, "last words").exception(GUARD) is not None
        executor.submit(tasks.say, "the next").result(GUARD)
    assert out.getvalue() == "last words\nthe next\n"


def test_redirection_costs_no_descriptor_and_no_thread_for_long(cf, context):
    def use():
        with user_looks_at(io.StringIO()), cf.ProcessPoolExecutor(1, mp_context=context) as e:
            e.submit(tasks.say, "x").result(GUARD)

    use()
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(3):
        use()
    assert eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
    assert threading.active_count() == threads


# --- a terminal, a file, a pipe ---------------------------------------------------------

def test_lines_in_a_pipe_are_whole_and_complete(run):
    result = run("""
with cf.ProcessPoolExecutor(4, mp_context=context) as executor:
    list(executor.map(tasks.say_long_lines, "abcd" * 2, [50] * 8, [3000] * 8))
""")
    lines = result.out.splitlines()
    assert len(lines) == 8 * 50 and {len(line) for line in lines} == {3000}
    assert all(len(set(line)) == 1 for line in lines)


def test_lines_in_a_file_are_complete(run, tmp_path):
    path = tmp_path / "log"
    run(f"""
fd = os.open({str(path)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(fd, 1)
with cf.ProcessPoolExecutor(3, mp_context=context) as executor:
    list(executor.map(tasks.say_long_lines, "abc", [100] * 3, [500] * 3))
    executor.submit(tasks.write, "the end").result(GUARD)
""")
    lines = path.read_text().splitlines()
    assert len(lines) == 301 and {line[0] for line in lines[:300]} == set("abc")
    assert lines[300] == "the end"


def test_text_is_seen_while_the_worker_waits(run):
    """Not only when it ends, though standard output is a pipe."""
    run("""
import threading
reader, writer = os.pipe()
before = os.dup(1)
os.dup2(writer, 1)
executor = cf.ProcessPoolExecutor(1, mp_context=context)
executor.submit(tasks.say, "line").result(GUARD)
assert os.read(reader, 100) == b"line\\n"
executor.submit(tasks.write, "no newline").result(GUARD)
assert os.read(reader, 100) == b"no newline"
executor.shutdown()
os.dup2(before, 1)
""")


def test_buffered_text_of_the_parent_is_not_written_again(run):
    result = run("""
sys.stdout.reconfigure(line_buffering=False, write_through=False)
sys.stdout = open(1, "w", buffering=65536, closefd=False)
print("parent", end=" ")
with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
    list(executor.map(tasks.add, range(4)))
print("parent again")
sys.stdout.flush()
""")
    assert result.out == "parent parent again\n"


def test_reader_that_has_gone_is_the_task_s_error(run):
    run("""
import threading
reader, writer = os.pipe()
before = os.dup(1)
os.dup2(writer, 1)
executor = cf.ProcessPoolExecutor(1, mp_context=context)
executor.submit(tasks.add, 1).result(GUARD)
os.close(reader)
error = executor.submit(tasks.say, "nobody reads").exception(GUARD)
assert error is None or isinstance(error, OSError), error
assert executor.submit(tasks.add, 1).result(GUARD) == 2
os.dup2(before, 1)
executor.shutdown()
""")


# --- the parts --------------------------------------------------------------------------

def frames(*written):
    """The bytes that reach the parent when a worker writes these."""
    reader, writer = os.pipe()
    try:
        stream = _output.Frames(writer, "stdout", 7)
        for data in written:
            assert stream.write(data) == len(data)
        os.close(writer)
        with open(reader, "rb", closefd=False) as pipe:
            return pipe.read()
    finally:
        os.close(reader)


@pytest.mark.parametrize("size", [1, 4083, 4084, 4085, 10000])
def test_a_frame_is_never_larger_than_what_is_written_at_once(implementation, size):
    data = bytearray(frames(b"x" * size))
    found = list(_output._frames_of(data))
    assert not data
    assert b"".join(payload for _, _, payload in found) == b"x" * size
    assert {(stream, number) for stream, number, _ in found} == {(1, 7)}
    assert all(len(payload) + _output._HEAD.size <= 4096 for _, _, payload in found)


def test_frames_are_found_wherever_the_pipe_is_cut(implementation):
    whole = frames(b"one", b"two" * 2000, b"three")
    for cut in range(0, len(whole), 7):
        data = bytearray(whole[:cut])
        payloads = [payload for _, _, payload in _output._frames_of(data)]
        data += whole[cut:]
        payloads += [payload for _, _, payload in _output._frames_of(data)]
        assert b"".join(payloads) == b"one" + b"two" * 2000 + b"three"
        assert not data


def test_what_is_no_frame_is_shown_as_it_is(implementation):
    data = bytearray(frames(b"good\n") + b"something else wrote this to our pipe\n")
    assert [payload for _, _, payload in _output._frames_of(data)] == [
        b"good\n", b"something else wrote this to our pipe\n"]
