"""What the tests of large data have done in other processes."""
import os
import zlib
from pathlib import Path

import numpy as np
import proc_tasks as tasks
from testkit import eventually


def noise(size, seed=0):
    """Bytes that look like no others."""
    return np.random.default_rng(seed).bytes(size)


inherited = []      # bytes; forked workers have what is in it


def inherited_bytes(number):
    return inherited[number]


class Grid(np.ndarray):
    """An array of a class of the user's."""


def look(value):
    """What a worker sees of some bytes: type, content, whether it can be written to."""
    view = memoryview(value)
    return type(value).__name__, zlib.crc32(view), view.nbytes, view.readonly


def look_at_array(array):
    return (type(array).__name__, array.dtype.str, array.shape, array.flags.writeable,
            array.flags.c_contiguous, array.flags.f_contiguous, array.flags.aligned,
            zlib.crc32(np.ascontiguousarray(array)) if not array.dtype.hasobject
            else array.tolist())


def scribble(value, number=7):
    """Write into the argument, and send it back."""
    memoryview(value).cast("B")[:3] = bytes([number] * 3)
    return value


def scribble_array(array):
    array[...] = 5
    return array


def make_noise(size, seed):
    return np.frombuffer(noise(size, seed), np.uint8).copy()


def one_memory(left, right):
    return left is right, np.shares_memory(left, right)


def total(arrays):
    return sum(int(array.sum()) for array in arrays)


def keep_slice(array):
    """Keep some of the argument; that keeps all of it."""
    tasks.kept.append(array[10:20])
    return len(tasks.kept)


def kept_slices():
    return [bytes(piece) for piece in tasks.kept]


def first_kept():
    return tasks.kept[0]


def change_frame(frame):
    frame.loc[5, "x"] = -1
    return frame


def fork_and_wait(array, ask, answer):
    """Fork a process that reads `ask` (a FIFO), then writes into `answer` what it sees."""
    pid = os.fork()
    if pid != 0:
        os.waitpid(pid, 0)
    elif os.fork() != 0:
        os._exit(0)             # the worker need not wait for the other one
    else:
        try:
            Path(ask).read_bytes()
            part = Path(answer).with_suffix(".part")
            part.write_text(str(zlib.crc32(array)))
            part.rename(answer)
        finally:
            os._exit(0)


def wait_for_text(path):
    """What is in a file that is there soon."""
    assert eventually(path.exists)
    return path.read_text()
