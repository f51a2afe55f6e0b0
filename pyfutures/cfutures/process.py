"""ProcessPoolExecutor: for now the standard library's own.

The native process pool is not there yet.  Until it is, the names here are those of
``concurrent.futures.process``, so that a program that uses both kinds of pool runs
with one import line changed.
"""
import concurrent.futures.process as _standard
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

__all__ = ["BrokenProcessPool", "ProcessPoolExecutor"]


def __getattr__(name: str) -> object:
    return getattr(_standard, name)
