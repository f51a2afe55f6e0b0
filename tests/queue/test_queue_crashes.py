"""Processes that are killed in the middle of a put or a get block nobody."""
import os
import queue as standard
import random
import signal
import threading

import cfutures
import pytest
import queue_tasks
from testkit import GUARD, eventually

SIZES = [3, 50, 20_000, 5000]


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.join(GUARD)
    assert process.exitcode == -signal.SIGKILL


def in_order(items):
    """Whether of each producer the items come in its order, each whole."""
    last = {}
    for who, number, values in items:
        assert queue_tasks.check((who, number, values))
        assert number > last.get(who, -1)
        last[who] = number
    return True


@pytest.fixture
def seed(request):
    value = request.config.getoption("--seed") or random.randrange(1 << 30)
    print(f"seed {value}")
    return value


@pytest.mark.parametrize("maxsize", [0, 2])
def test_producers_killed_at_random_moments(start, seed, maxsize):
    chance = random.Random(seed)
    queue = cfutures.Queue(maxsize)
    for round in range(12):
        process = start(queue_tasks.put_for_ever, queue, round, SIZES)
        came = [queue.get(timeout=GUARD) for _ in range(chance.randrange(1, 60))]
        kill(process)
        while not queue.empty():
            came.append(queue.get(timeout=GUARD))
        assert in_order(item for item in came)
        queue.put("still open")
        assert queue.get(timeout=GUARD) == "still open"


@pytest.mark.parametrize("maxsize", [0, 2])
def test_consumers_killed_at_random_moments(start, seed, maxsize):
    chance = random.Random(seed)
    queue = cfutures.Queue(maxsize)
    number = 0
    for _ in range(12):
        process = start(queue_tasks.get_for_ever, queue)
        for _ in range(chance.randrange(1, 60)):
            size = SIZES[number % len(SIZES)]
            queue.put((0, number, [number] * size), timeout=GUARD)
            number += 1
        kill(process)
        # What it was taking is gone with it, and no more than that.
        rest = []
        while not queue.empty():
            rest.append(queue.get(timeout=GUARD))
        assert [item[1] for item in rest] == list(range(number - len(rest), number))
        assert in_order(rest)


def test_all_sides_killed_and_replaced(start, seed):
    chance = random.Random(seed)
    queue = cfutures.Queue(5)
    makers = {"put": lambda n: start(queue_tasks.put_for_ever, queue, n, SIZES),
              "get": lambda n: start(queue_tasks.get_for_ever, queue)}
    crew = [(kind, makers[kind](n)) for n, kind in enumerate(["put", "put", "get", "get"])]
    for n in range(4, 24):
        place = chance.randrange(len(crew))
        for _ in range(chance.randrange(5)):
            assert queue_tasks.check(queue.get(timeout=GUARD))
        kind, process = crew[place]
        assert process.exitcode is None
        kill(process)
        crew[place] = kind, makers[kind](n)
    for _, process in crew:
        kill(process)
    while not queue.empty():
        assert queue_tasks.check(queue.get(timeout=GUARD))


def test_a_waiting_process_that_is_killed_is_no_loss(start):
    queue, ready = cfutures.Queue(), cfutures.Queue()
    for _ in range(3):
        process = start(queue_tasks.get_one, queue)
        ready.put(1)
        kill(process)
    results = cfutures.Queue()
    start(queue_tasks.echo, queue, results)
    queue.put("who lives gets it")
    assert results.get(timeout=GUARD) == "who lives gets it"


def test_a_full_queue_whose_consumer_is_killed_has_room_when_somebody_takes(start):
    queue = cfutures.Queue(1)
    queue.put(0)
    process = start(queue_tasks.put_one, queue, 1)
    assert eventually(lambda: process.exitcode is None and queue.full())
    kill(process)
    with pytest.raises(standard.Full):
        queue.put(2, timeout=0.01)
    assert queue.get() == 0
    queue.put(3, timeout=GUARD)
    assert queue.get(timeout=GUARD) == 3
    assert queue.empty()


def test_memory_that_a_dead_process_held_comes_back(start):
    queue, ready = cfutures.Queue(), cfutures.Queue()
    block = b"x" * (4 << 20)
    _, device, inode = queue._descriptor()

    def memory():
        fd, *_ = queue._descriptor()
        return os.fstat(fd).st_blocks * 512

    held = []
    for _ in range(6):
        process = start(queue_tasks.hold_one, queue, ready)
        queue.put(bytearray(block))
        assert ready.get(timeout=GUARD) == len(block)
        kill(process)
        held.append(memory())
    def after_a_wait():
        with pytest.raises(standard.Empty):
            queue.get(timeout=1.5)
        return memory()

    # A member that waits looks after the dead, of which the last is still there, and its own
    # memory at rest.
    assert held[-1] > len(block)
    assert eventually(lambda: after_a_wait() < len(block) // 2), held
    assert (device, inode) == queue._descriptor()[1:]


def test_hundreds_of_short_lived_processes(start):
    queue = cfutures.Queue()
    for number in range(60):
        process = start(queue_tasks.put_one, queue, number)
        process.join(GUARD)
    assert [queue.get(timeout=GUARD) for _ in range(60)] == list(range(60))


def test_threads_go_on_while_a_process_is_killed(start):
    queue, came, count = cfutures.Queue(2), [], 400

    def consume():
        while (item := queue.get()) != "end":
            came.append(item)

    threads = [threading.Thread(target=consume, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    victim = start(queue_tasks.put_for_ever, queue, 0, [3])
    assert eventually(lambda: len(came) > 20)
    kill(victim)
    for number in range(count):
        queue.put((1, number, [number]), timeout=GUARD)
    for _ in threads:
        queue.put("end", timeout=GUARD)
    for thread in threads:
        thread.join(GUARD)
    assert sum(item[0] == 1 for item in came) == count
