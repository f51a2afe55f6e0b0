"""A queue between processes, under every start method; both implementations where both can."""
import os
import queue as standard
import signal
import subprocess
import sys
import textwrap
import time

import cfutures
import numpy
import pytest
import queue_tasks
from queue_tasks import Point
from testkit import GUARD, eventually


def drained(queue, count):
    return [queue.get(timeout=GUARD) for _ in range(count)]


def test_items_go_there_and_back(new_queue, ctx, run):
    there, back = new_queue(0, ctx), new_queue(0, ctx)
    process = run(queue_tasks.echo, there, back)
    items = [1, "text", [1, {"a": 2}], Point(3, 4), b"x" * 200_000, None]
    for item in items:
        there.put(item)
    assert drained(back, len(items) - 1) == items[:-1]
    process.join(GUARD)
    assert process.exitcode == 0


def test_several_producers_and_consumers(new_queue, ctx, run):
    work, results, count = new_queue(10, ctx), new_queue(0, ctx), 200
    consumers = [run(queue_tasks.get_numbers, work, results, "end") for _ in range(2)]
    producers = [run(queue_tasks.put_numbers, work, who, count) for who in range(2)]
    for process in producers:
        process.join(GUARD)
    for _ in consumers:
        work.put("end")
    lists = [items for _, items in drained(results, len(consumers))]
    everything = sorted(item for items in lists for item in items)
    assert everything == [(who, n) for who in range(2) for n in range(count)]
    for items in lists:
        for who in range(2):
            mine = [number for sender, number in items if sender == who]
            assert mine == sorted(mine)


def test_a_bound_holds_between_processes(new_queue, ctx, run):
    queue = new_queue(3, ctx)
    process = run(queue_tasks.put_numbers, queue, "other", 10)
    assert drained(queue, 7) == [("other", number) for number in range(7)]
    process.join(GUARD)         # the last three have room
    assert process.exitcode == 0
    assert drained(queue, 3) == [("other", number) for number in range(7, 10)]
    with pytest.raises(standard.Empty):
        queue.get(timeout=0.01)


def test_an_initializer_can_have_it(new_queue, ctx):
    queue = new_queue(0, ctx)
    with ctx.Pool(2, queue_tasks.set_queue, (queue,)) as pool:
        assert pool.map(queue_tasks.put_into_the_set_one, range(8)) == list(range(8))
        # Within: the standard queue's items go with a worker that is terminated too early.
        assert sorted(drained(queue, 8)) == list(range(8))


# ---- ours ----


def test_an_initializer_of_our_pool_can_have_it(ctx):
    queue = cfutures.Queue()
    with cfutures.ProcessPoolExecutor(
            2, ctx, queue_tasks.set_queue, (queue,)) as pool:
        assert list(pool.map(queue_tasks.put_into_the_set_one, range(8))) == list(range(8))
    assert sorted(drained(queue, 8)) == list(range(8))


def test_it_is_an_argument_of_a_task(ctx):
    queue = cfutures.Queue()
    with cfutures.ProcessPoolExecutor(2, ctx) as pool:
        pids = [pool.submit(queue_tasks.put_one, queue, item).result(GUARD)
                for item in range(10)]
        assert drained(queue, 10) == list(range(10))
        assert os.getpid() not in pids
        future = pool.submit(queue_tasks.get_one, queue)
        queue.put(Point(1, 2))
        assert future.result(GUARD) == Point(1, 2)
    with ctx.Pool(1) as pool:
        pool.apply(queue_tasks.put_one, (queue, "from the standard pool"))
    assert queue.get(timeout=GUARD) == "from the standard pool"


def test_it_goes_through_another_queue(ctx, run):
    outer, inner = cfutures.Queue(), cfutures.Queue()
    process = run(queue_tasks.put_queue, outer, inner)
    process.join(GUARD)         # it is gone; this process has the queue anyway
    twin = outer.get(timeout=GUARD)
    twin.put("through")
    assert inner.get() == "through"


def test_items_of_a_process_that_has_ended_are_there(ctx, run):
    queue = cfutures.Queue()
    items = ["small", b"x" * 300_000, list(range(1000))]
    process = run(queue_tasks.put_and_exit_hard, queue, items)
    process.join(GUARD)
    assert queue.qsize() == 3
    assert drained(queue, 3) == items


def test_an_array_is_shared_memory_writable_and_its_own(ctx, run):
    queue, results = cfutures.Queue(), cfutures.Queue()
    array = numpy.arange(200_000.0)
    process = run(queue_tasks.overwrite, queue, results)
    queue.put(array)
    assert results.get(timeout=GUARD) == 7 * 200_000.0
    process.join(GUARD)
    assert array[1] == 1.0
    queue.put(array)
    first = queue.get()
    queue.put(array)
    second = queue.get()
    first[:] = -1
    assert (second == array).all()
    assert not first.flags.owndata and first.flags.writeable


def test_an_array_outlives_its_sender_and_its_queue(ctx, run):
    queue = cfutures.Queue()
    process = run(queue_tasks.put_and_exit_hard, queue, [numpy.arange(100_000)])
    process.join(GUARD)
    array = queue.get(timeout=GUARD)
    queue.close()
    del queue
    for _ in range(10):
        cfutures.Queue().put(numpy.zeros(100_000))
    assert (array == numpy.arange(100_000)).all()
    array[0] = 5
    assert array[0] == 5


HERE = os.path.dirname(os.path.abspath(__file__))


def environment():
    """That of a script which can import queue_tasks, too."""
    path = [HERE, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def script(text, *args, timeout=GUARD * 2):
    """Run a script of its own, so that all it leaves behind is its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *args], env=environment(),
        capture_output=True, text=True, timeout=timeout, check=False)


def test_an_item_that_finds_no_room_in_shared_memory_goes_through_the_file():
    # Where the address space is limited the arenas are small.
    ended = script("""
        import resource
        import cfutures, numpy
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (6 << 30),) * 2)
        queue = cfutures.Queue()
        big = [numpy.full(1 << 20, n) for n in range(12)]
        for _ in range(2):
            for array in big:
                queue.put(array)
            queue.put(bytes(50_000_000))
            for n, array in enumerate(big):
                came = queue.get()
                assert (came == array).all() and came.flags.writeable
            assert queue.get() == bytes(50_000_000)
            queue.put("small")
            assert queue.get() == "small" and queue.empty()
        """)
    assert ended.returncode == 0, ended.stderr


def test_classes_of_main_come_back_as_what_they_are(ctx, tmp_path):
    path = tmp_path / "main_script.py"
    path.write_text(textwrap.dedent("""
        import multiprocessing, sys
        import cfutures

        class Mine:
            def __init__(self, value):
                self.value = value

        def double(mine):
            return Mine(mine.value * 2)

        def work(there, back):
            while (item := there.get()) is not None:
                function, mine = item
                assert isinstance(mine, Mine)
                back.put(function(mine))

        if __name__ == "__main__":
            ctx = multiprocessing.get_context(sys.argv[1])
            there, back = cfutures.Queue(), cfutures.Queue()
            process = ctx.Process(target=work, args=(there, back))
            process.start()
            there.put((double, Mine(4)))
            there.put((lambda mine: mine, Mine(5)))
            for expected in (8, 5):
                came = back.get(timeout=30)
                assert isinstance(came, Mine) and came.value == expected
            there.put(None)
            process.join()
            assert process.exitcode == 0
        """))
    ended = subprocess.run([sys.executable, path, ctx.get_start_method()],
                           capture_output=True, text=True, timeout=GUARD * 2, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_class_that_the_receiver_does_not_have_goes_by_value():
    # As in a notebook: there is no file that a worker could import __main__ from.
    ended = script("""
        import cfutures, multiprocessing
        from queue import Empty

        with cfutures.ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn")) as pool:
            queue, back = cfutures.Queue(), cfutures.Queue()
            def work():
                back.put(queue.get(timeout=30).value)
                return back.qsize()
            class Cell:
                value = 11
            queue.put(Cell())
            assert pool.submit(work).result() == 1
            assert back.get() == 11
        """)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_another_member():
    queue, back = cfutures.Queue(), cfutures.Queue()
    array = numpy.arange(50_000)
    queue.put(array)
    mine = queue.get()
    queue.put("for the child")
    pid = os.fork()
    if pid == 0:
        try:
            back.put((queue.get(timeout=GUARD), int(mine.sum())))
            del mine            # not the child's to give back
            back.put(array)
        finally:
            os._exit(0)
    assert back.get(timeout=GUARD) == ("for the child", int(array.sum()))
    os.waitpid(pid, 0)
    assert (back.get(timeout=GUARD) == array).all()
    assert (mine == array).all()
    for _ in range(3):
        queue.put(array + 1)
        assert (queue.get() == array + 1).all()
    assert (mine == array).all()


def test_a_fork_while_other_threads_wait_and_put():
    ended = script("""
        import os, threading
        import cfutures

        queue, echo, stop = cfutures.Queue(5), cfutures.Queue(), threading.Event()
        def produce():
            while not stop.is_set():
                queue.put(list(range(50)))
        def consume():
            while queue.get() is not None:
                pass
        threads = [threading.Thread(target=f) for f in (produce, consume, consume)]
        for thread in threads:
            thread.start()
        for number in range(20):
            pid = os.fork()
            if pid == 0:
                echo.put(number)
                queue.put(["from a child"])
                os._exit(0)
            assert echo.get(timeout=30) == number
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        threads[0].join()
        queue.put(None)
        queue.put(None)
        for thread in threads:
            thread.join()
        """)
    assert ended.returncode == 0, ended.stderr


def sleeps(process):
    """Whether a process sleeps whenever it is looked at."""
    looks = []
    for _ in range(10):
        with open(f"/proc/{process.pid}/stat") as stat:
            looks.append(stat.read().rpartition(")")[2].split()[0])
        time.sleep(0.001)
    return set(looks) == {"S"}


@pytest.mark.parametrize("call", ["queue.get()", "queue.get(timeout=60)", "full.put(1)"])
def test_ctrl_c_ends_a_wait_at_once_and_the_queue_goes_on(call):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(f"""
            import sys, cfutures
            queue, full = cfutures.Queue(), cfutures.Queue(1)
            full.put(0)
            try:
                print("ready", flush=True)
                {call}
            except KeyboardInterrupt:
                queue.put(5)
                assert queue.get() == 5 and full.get() == 0
                sys.exit(7)
            """)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    assert eventually(lambda: sleeps(process))
    process.send_signal(signal.SIGINT)
    assert process.wait(GUARD) == 7
    process.stdout.close()


def test_the_interpreter_exits_while_threads_wait():
    ended = script("""
        import threading, cfutures
        queue = cfutures.Queue()
        for _ in range(3):
            threading.Thread(target=queue.get, daemon=True).start()
        print("end")
        """)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "end\n"


def test_nothing_is_left_when_a_family_is_killed():
    before = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    ended = script("""
        import multiprocessing, os, signal
        import cfutures, queue_tasks
        queue, ready = cfutures.Queue(3), cfutures.Queue()
        for target in (queue_tasks.put_for_ever, queue_tasks.get_for_ever):
            args = (queue, 0, [10, 20_000]) if target is queue_tasks.put_for_ever else (queue,)
            multiprocessing.get_context("fork").Process(target=target, args=args,
                                                        daemon=True).start()
        for child in multiprocessing.active_children():
            print(child.pid)
        print(end="", flush=True)
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
        """)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len(ended.stdout.split()) == 2
    if before:
        left = {name for name in set(os.listdir("/dev/shm")) - before if "cfutures" in name}
        assert not left


def test_a_main_script_that_puts_at_its_top_level_can_be_spawned(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent("""
        import cfutures, multiprocessing
        class C: pass
        queue = cfutures.Queue()
        queue.put(C())
        assert type(queue.get()) is C
        def nothing(): pass
        if __name__ == "__main__":
            process = multiprocessing.get_context("spawn").Process(target=nothing)
            process.start()
            process.join()
            raise SystemExit(process.exitcode)
    """))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True,
                          timeout=GUARD)
    assert done.returncode == 0, done.stderr
