"""What a forked child has of arrays that came through a pool: what it had when it began."""
import os
import pickle
import zlib

import proc_tasks as tasks
import pytest
from testkit import GUARD

np = pytest.importorskip("numpy", reason="NumPy is not installed")
there = pytest.importorskip("array_tasks")

MIB = 1 << 20
SIZES = pytest.mark.parametrize("size", [64 << 10, 8 * MIB], ids=["64 KiB", "8 MiB"])


class Child:
    """A process forked now that answers with look() when it is asked, and ends then."""

    def __init__(self, look):
        asked, self._ask = os.pipe()
        self._answer, answer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._ask)
                os.read(asked, 1)
                os.write(answer, pickle.dumps(look()))
            finally:
                os._exit(0)
        os.close(asked)
        os.close(answer)

    def ask(self):
        """Its answer."""
        os.write(self._ask, b"now")     # others that were forked since have this end, too
        os.close(self._ask)
        answer = os.read(self._answer, 65536)   # a grandchild may have the other end
        os.close(self._answer)
        os.waitpid(self.pid, 0)
        return pickle.loads(answer)


def received(pool, size, seed=0):
    return pool.submit(there.make_noise, size, seed).result(GUARD)


@SIZES
def test_it_keeps_what_the_parent_drops(shared, size):
    array = received(shared, size)
    expected = zlib.crc32(array)
    child = Child(lambda: zlib.crc32(array))
    array = None
    # They would lie where the first one lay.
    for seed in range(1, 6):
        received(shared, size, seed)
    assert child.ask() == expected


def test_so_do_children_of_different_times(shared):
    arrays = [received(shared, MIB, seed) for seed in range(3)]
    expected = [zlib.crc32(array) for array in arrays]
    children = []
    for _ in range(3):
        children.append(Child(lambda: [zlib.crc32(array) for array in arrays]))
        del arrays[0]
        received(shared, MIB, 9)
    # Not in the order in which they began.
    for index in (1, 0, 2):
        assert children[index].ask() == expected[index:]
        for seed in range(20, 24):
            received(shared, MIB, seed)


def test_a_grandchild_keeps_it_when_the_child_has_ended(shared, tmp_path):
    array = received(shared, MIB)
    expected = zlib.crc32(array)
    started, asked = tmp_path / "started", os.pipe()
    answered = os.pipe()

    def fork_again():
        if os.fork() == 0:
            os.read(asked[0], 1)
            os.write(answered[1], b"%d" % zlib.crc32(array))
            os._exit(0)
        started.touch()

    Child(fork_again).ask()
    assert started.exists()
    array = None
    for seed in range(1, 6):
        received(shared, MIB, seed)
    os.write(asked[1], b"now")
    assert os.read(answered[0], 100) == b"%d" % expected
    for fd in (*asked, *answered):
        os.close(fd)


@SIZES
def test_what_it_writes_is_its_own(shared, size):
    array = received(shared, size)
    expected = array.copy()

    def scribble():
        array[:] = 7
        return int(array.max()), int(array.min())

    assert Child(scribble).ask() == (7, 7)
    assert (array == expected).all()
    # And the pool's: another array may lie there next.
    array = None
    again = received(shared, size, 1)
    assert (again == np.frombuffer(there.noise(size, 1), np.uint8)).all()


def test_children_of_tasks_keep_their_arguments(shared, tmp_path):
    array = np.frombuffer(there.noise(MIB), np.uint8).copy()
    ask, answer = tmp_path / "ask", tmp_path / "answer"
    os.mkfifo(ask)
    shared.submit(there.fork_and_wait, array, ask, answer).result(GUARD)
    for _ in range(5):
        array += 1
        shared.submit(tasks.echo, array).result(GUARD)
    ask.write_bytes(b"now")
    assert there.wait_for_text(answer) == str(zlib.crc32(there.noise(MIB)))
