"""What the processes of the queue tests run; importable under every start method."""
import os
import time

import numpy


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __eq__(self, other):
        return type(other) is Point and (self.x, self.y) == (other.x, other.y)

    __hash__ = None


def echo(incoming, outgoing):
    """Send back what comes, until None comes."""
    while (item := incoming.get()) is not None:
        outgoing.put(item)


def put_numbers(queue, who, count):
    for number in range(count):
        queue.put((who, number))


def get_numbers(queue, results, end):
    """Take items until `end` comes, then tell what came."""
    came = []
    while (item := queue.get()) != end:
        came.append(item)
    results.put((os.getpid(), came))


def put_one(queue, item):
    queue.put(item)
    return os.getpid()


def get_one(queue):
    return queue.get(timeout=60)


def put_and_exit_hard(queue, items):
    for item in items:
        queue.put(item)
    os._exit(0)


def put_for_ever(queue, who, sizes):
    """Items of these sizes, one after the other, each complete in itself."""
    number = 0
    while True:
        size = sizes[number % len(sizes)]
        item = numpy.full(size, number) if size > 10_000 else [number] * size
        queue.put((who, number, item))
        number += 1


def check(item):
    """Whether an item of put_for_ever() is as it was sent."""
    _, number, values = item
    return bool(len(values)) and values[0] == number and values[-1] == number


def get_for_ever(queue):
    while True:
        if not check(queue.get()):
            os._exit(3)


def hold_one(queue, ready):
    """Take an item and keep it."""
    item = queue.get()
    ready.put(len(item))
    time.sleep(3600)


_queue = None


def set_queue(queue):
    global _queue
    _queue = queue


def put_into_the_set_one(item):
    _queue.put(item)
    return item


def put_queue(queue, other):
    queue.put(other)


def overwrite(queue, results):
    array = queue.get()
    array[:] = 7
    results.put(float(array.sum()))
