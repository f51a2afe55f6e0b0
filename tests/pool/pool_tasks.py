"""What the tests of Pool have done; importable in workers under every start method."""
import multiprocessing
import os
import threading

import proc_tasks

wait_at = proc_tasks.wait_at
announce_and_sleep = proc_tasks.announce_and_sleep
STARTED = []        # what initializers of this process were given


def double(x):
    return 2 * x


def add(a, b=1):
    return a + b


def fail_at_3(x):
    if x == 3:
        raise ValueError(x)
    return x


def fail(*args):
    raise KeyError(*args)


def die_at_3(x):
    if x == 3:
        os._exit(7)
    return x


def pid(_=None):
    return os.getpid()


def worker_name():
    return multiprocessing.current_process().name


def thread_name():
    return threading.current_thread().name


def start(*args):
    STARTED.append(args)


def started():
    return STARTED


def fail_to_start():
    raise RuntimeError("no luck")


def write(path):
    """An initializer that leaves something to be seen: one line a process."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"started\n")
    os.close(fd)


class Counter:
    """Something to call that remembers its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, _):
        self.calls += 1
        return self.calls


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("cannot be pickled")


def unpicklable():
    return Unpicklable()
