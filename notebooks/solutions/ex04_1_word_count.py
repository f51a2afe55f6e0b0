"""Exercise 4.1: count the words of all texts, a text a task, and add the counts up."""

import collections
import functools


def merge(one, other):
    """The reduce: two counts become one."""
    one.update(other)
    return one


def solve(pool, count_words, paths):
    """Return {word: occurrences in all texts}; pool() makes an executor with processes."""
    with pool() as e:
        # map gives the counts in order, each as soon as it is there and those before it.
        return functools.reduce(merge, e.map(count_words, paths), collections.Counter())
