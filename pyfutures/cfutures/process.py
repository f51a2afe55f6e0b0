"""ProcessPoolExecutor: for now the standard library's own.

The native process pool is not there yet.  Until it is, these names are those of
``concurrent.futures.process``, so that a program that uses both kinds of pool runs
with one import line changed.
"""
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

__all__ = ["BrokenProcessPool", "ProcessPoolExecutor"]
