"""Lifetimes of pools leave nothing: no memory, descriptor, mapping, thread or process.

A few lifetimes of each kind; with --deep (make soak) a thousand.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from testkit import FREE_THREADED, eventually

PROGRAM = Path(__file__).with_name("soak.py")
#: Lifetimes of each kind: usually, and with --deep.
LIFETIMES = {"threads": (300, 1000), "processes": (25, 1000), "pool": (25, 1000),
             "queue": (25, 1000)}
SECONDS = 3000      # only what hangs takes longer: 1,000 lifetimes take 2 to 90

#: By how much the others may differ: once, and for each lifetime.  The smallest leak there
#: can be is an object a lifetime.  What comes once: free lists, tables that grow, a second
#: arena of malloc.
SLACK = {"objects": (800, 0.1), "malloc": (32 << 10, 16), "mappings": (20, 0.02),
         "resident": (4 << 20, 1024)}
if FREE_THREADED:
    # Mimalloc, not malloc; and objects that are freed by another thread are not counted
    # as such until that one looks.
    del SLACK["objects"], SLACK["malloc"]


def names():
    """What has a name in shared memory, on the whole machine."""
    folder = Path("/dev/shm")
    return set(os.listdir(folder)) if folder.is_dir() else set()


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("kind", LIFETIMES)
def test_lifetimes_leave_nothing(kind, request):
    lifetimes = LIFETIMES[kind][bool(request.config.getoption("--deep"))]
    shared = names()
    done = subprocess.run([sys.executable, PROGRAM, kind, str(lifetimes)],
                          stdout=subprocess.PIPE, timeout=SECONDS, check=True)
    before, after = json.loads(done.stdout).values()
    growth = {key: after[key] - before[key] for key in before}
    print(f"{lifetimes} lifetimes; before: {before}; growth: {growth}")
    allowed = {key: SLACK[key][0] + SLACK[key][1] * lifetimes if key in SLACK else 0
               for key in before if key in SLACK or key not in ("objects", "malloc")}
    assert not {key: growth[key] for key in allowed if growth[key] > allowed[key]}
    # Other programs' names come and go.
    assert eventually(lambda: not names() - shared), names() - shared
