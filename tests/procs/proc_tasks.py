"""What the tests have done in other processes; importable there under every start method."""
import ctypes
import fcntl
import functools
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref
import zlib

# --- at a door --------------------------------------------------------------------------


def announce(path, tag=None):
    """Say at the door that a task has come: its process and `tag`."""
    fd = os.open(path + ".entered", os.O_WRONLY)
    try:
        os.write(fd, f"{os.getpid()} {tag}\n".encode())
    finally:
        os.close(fd)


def wait_at(path, tag=None):
    """Say that a task has come, wait until the door is open, return `tag`."""
    announce(path, tag)
    with open(path) as door:
        fcntl.lockf(door, fcntl.LOCK_SH)
    return tag


def pid_at(path, tag=None):
    """As wait_at(); returns the process."""
    wait_at(path, tag)
    return os.getpid()


def announce_and_sleep(path, tag=None, seconds=3600):
    """Say that a task has come, and never end by itself."""
    announce(path, tag)
    time.sleep(seconds)


def announce_and_spin(path, tag=None):
    """Say that a task has come, and compute for ever."""
    announce(path, tag)
    while True:
        pass


# --- ordinary work ----------------------------------------------------------------------


def add(a, b=1):
    return a + b


def echo(value):
    return value


def call(function, *args, **kwargs):
    return function(*args, **kwargs)


def everything(*args, **kwargs):
    return args, kwargs


def keywords(**kwargs):
    return kwargs


def same(a, b):
    return a is b


def describe(value):
    """The exact type and the text of a value, but for addresses."""
    text = re.sub("0x[0-9a-f]+", "0x", repr(value))
    return type(value).__module__, type(value).__qualname__, text


def twice(value):
    """The same object two times."""
    return [value, value]


def boom(text="boom"):
    raise ValueError(text)  # a remote line


def raise_it(exception):
    raise exception


def raise_chained():
    try:
        raise KeyError("the first")
    except KeyError as error:
        raise OSError("the second") from error


def pid(*_):
    return os.getpid()


def slow_pid(_=None, seconds=0.005):
    time.sleep(seconds)
    return os.getpid()


def sleep_and_return(seconds, value):
    time.sleep(seconds)
    return value


def whereabouts():
    """Who runs this: the process, its parent, its names, the thread."""
    import multiprocessing
    process = multiprocessing.current_process()
    return {
        "pid": os.getpid(), "name": process.name, "daemon": process.daemon,
        "parent": multiprocessing.parent_process().pid,
        "main thread": threading.current_thread() is threading.main_thread(),
        "method": multiprocessing.get_start_method(allow_none=True),
    }


def nested(implementation, method):
    """A process pool and a thread pool inside a worker."""
    import importlib
    import multiprocessing
    cf = importlib.import_module({"stdlib": "concurrent.futures"}.get(
        implementation, implementation))
    with cf.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        inner = pool.submit(pid).result()
    with cf.ThreadPoolExecutor(1) as pool:
        assert pool.submit(pid).result() == os.getpid()
    return os.getpid(), inner


def burn(seconds):
    """Compute for some seconds of processor time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return seconds


def ignore_interrupts(seconds):
    """Sleep on, whatever comes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(seconds)
        except KeyboardInterrupt:
            pass


def start_sleeper(seconds):
    """A process that outlives the task; its number."""
    return subprocess.Popen(
        ["sleep", str(seconds)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL).pid


def isprime(n):
    return n > 1 and all(n % k for k in range(2, int(n**0.5) + 1))


# --- initializers -----------------------------------------------------------------------

prepared = []


def prepare(*args):
    prepared.append(args)


def read_prepared(_=None):
    return os.getpid(), list(prepared)


def prepare_badly(text="not today"):
    raise LookupError(text)


def die_once(path, status=9):
    """Ends the first process that gets here."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os._exit(status)


def die_every_other_time(path, status=9):
    """Ends the first, the third, ... process that gets here."""
    with open(path, "ab") as file:
        file.write(b".")
    if os.path.getsize(path) % 2:
        os._exit(status)


# --- values that are more than they seem ------------------------------------------------


class MyInt(int):
    pass


class MyStr(str):
    pass


class MyBytes(bytes):
    pass


class MyList(list):
    pass


class MyDict(dict):
    pass


class Point:
    """An ordinary object, with methods to submit."""

    def __init__(self, x=0):
        self.x = x

    def __eq__(self, other):
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self):
        return hash(self.x)

    def __call__(self, y):
        return self.x + y

    def moved(self, by):
        return Point(self.x + by)

    @classmethod
    def at(cls, x):
        return cls(x)

    @staticmethod
    def half(x):
        return x / 2


class Singular(Exception):
    """An exception with attributes of its own."""

    def __init__(self, message, code):
        super().__init__(message, code)
        self.code = code
        self.seen = ["here"]


class Falsy(Exception):
    def __bool__(self):
        return False

    def __len__(self):
        return 0


class TwoArguments(Exception):
    """Its constructor does not take what pickle hands it."""

    def __init__(self, left, right):
        super().__init__(f"{left} and {right}")


class WithLock(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


def raise_two_arguments():
    raise TwoArguments("salt", "pepper")


def raise_with_lock():
    raise WithLock("locked in")


def make_lock():
    return threading.Lock()


def echo_with_lock(value):
    return [value, make_lock()]


def make_deep(depth):
    """A list in a list, `depth` times."""
    value = []
    for _ in range(depth):
        value = [value]
    return value


class LoadsBadly:
    """Pickles, but does not unpickle: says `text`."""

    def __init__(self, text="will not load"):
        self.text = text

    def __reduce__(self):
        return _refuse, (self.text,)


def _refuse(text):
    raise ArithmeticError(text)


class CallableThatLoadsBadly(LoadsBadly):
    def __call__(self):
        return "called"


class DumpsBadly:
    """Does not pickle, with an exception of its own."""

    def __init__(self, text="will not dump"):
        self.text = text

    def __reduce__(self):
        raise ArithmeticError(self.text)


class RaisesLoadsBadly(Exception):
    """An exception with something inside that does not unpickle."""

    def __init__(self, text="odd"):
        super().__init__(text, LoadsBadly())


def raise_loads_badly():
    raise RaisesLoadsBadly


# --- who lives how long -----------------------------------------------------------------

living = weakref.WeakSet()


class Tracked:
    """Each process knows which of these are alive in it; `buddy` makes them larger."""

    def __init__(self, buddy=None):
        self.buddy = buddy
        living.add(self)

    def __setstate__(self, state):
        self.__dict__ = state
        living.add(self)


def count_living():
    return len(living)


def track_and_return(_=None):
    return Tracked()


def fail_with(value):
    raise ValueError("with an argument")


kept = []


def keep(value):
    """Keep the value in the worker."""
    kept.append(value)
    return len(kept)


def look_at_kept():
    return [zlib.crc32(value) for value in kept]


def drop_kept():
    kept.clear()


# --- ways to die ------------------------------------------------------------------------


def no_core():
    """The tests make enough of a mess."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def die_exit(status=3):
    os._exit(status)


def die_kill():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(3600)


def die_segfault():
    no_core()
    ctypes.string_at(0)


def die_abort():
    no_core()
    os.abort()


def _deeper(_):
    return max([0], key=_deeper)


def die_stack_overflow():
    """Recursion through C, on a stack that may not grow."""
    no_core()
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (64 << 10, hard))
    sys.setrecursionlimit(1_000_000)
    _deeper(0)
    raise AssertionError("the stack is still there")


class DiesOnLoad:
    """Ends the process that unpickles it."""

    def __init__(self, status=5):
        self.status = status

    def __setstate__(self, state):
        os._exit(state["status"])


class DiesOnDump:
    """Ends the process that pickles it."""

    def __reduce__(self):
        os._exit(6)


def return_dies_on_dump():
    return DiesOnDump()


def return_dies_on_load():
    return DiesOnLoad()


def keep_and_die(value):
    kept.append(value)
    os._exit(4)


partial_add = functools.partial(add, b=10)
