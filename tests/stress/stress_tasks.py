"""What the stress tests have done in threads and processes; importable there."""
import os
import time
import zlib


def add(a, b=1):
    return a + b


def echo(value):
    return value


def fail(text):
    raise ValueError(text)


def checksum(data):
    return zlib.crc32(data)


def grow(byte, size):
    """A large result that the worker makes."""
    return bytearray([byte]) * size


_kept = []


def keep(data, most=8):
    """Hold an array in the worker for some tasks; its checksum."""
    _kept.append(data)
    del _kept[:-most]
    return zlib.crc32(data)


def sleep(seconds, value):
    time.sleep(seconds)
    return value


def burn(seconds, value):
    """Compute in Python for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return value


def die(number):
    """End the process that runs this by a signal."""
    os.kill(os.getpid(), number)
    time.sleep(3600)


def leave(status):
    """End it without a signal."""
    os._exit(status)


class Unpicklable:
    """Cannot be pickled, and says so."""

    def __reduce__(self):
        raise TypeError("not to be pickled")


def return_unpicklable():
    return Unpicklable()


def put(queue, item):
    queue.put(item)


def get(queue):
    return queue.get(timeout=60)
