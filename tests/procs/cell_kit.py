"""For programs that stand in for a notebook: cells that are run in ``__main__``."""
import functools
import linecache
import os
import sys
import types

# A program finds what is beside it; testkit is one folder up.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from testkit import GUARD

_count = 0


def cell(source):
    """Run the source as a notebook runs a cell: in ``__main__``, the source in no file."""
    global _count
    _count += 1
    name = f"<cell {_count}>"
    lines = source.splitlines(keepends=True)
    linecache.cache[name] = (len(source), None, lines, name)
    exec(compile(source, name, "exec"), vars(sys.modules["__main__"]))


def error_of(future):
    """The exception of a future that must fail."""
    error = future.exception(GUARD)
    assert error is not None, "it did not fail"
    return error


class Described:
    """Counts what the C core asks Python to describe."""

    def __init__(self):
        from cfutures import _cells, _core

        self.functions = []
        self.made = []          # those for which new bytes were made

        @functools.wraps(_cells.describe)
        def describe(fn, *last):
            self.functions.append(fn)
            found = _cells.describe(fn, *last)
            if type(found) is tuple and found[0] is not None:
                self.made.append(fn)
            return found

        _core._configure(describe=describe)


def in_module(name, source):
    """A module of this process only, with the source run in it."""
    module = types.ModuleType(name)
    exec(source, vars(module))
    return module


def apply(function, *args):
    """Call what has been sent as an argument."""
    return function(*args)


def give(value):
    """Return what has been sent as an argument."""
    return value


def type_name(value):
    """The name of its type, seen where the task runs."""
    return type(value).__qualname__
