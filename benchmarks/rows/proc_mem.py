"""What a queued task weighs in the process that submitted it."""
from __future__ import annotations

import gc
import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from meter import Meter, Sample, verify
from registry import proc_row

from rows import proc_pool
from rows.tasks import echo

PATIENCE = 60   # seconds a worker waits for its gate, should the caller have died


@proc_row(cases=[{"n": 100_000}], quick=[{"n": 30_000}], unit="bytes/task")
def proc_mem(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """Growth of the caller's memory by n submits behind a blocked worker; bytes a task.

    Private and shared memory: what is written to shared files counts even where the
    caller has not mapped it. The list that holds the futures exists before; the task and
    its argument are shared. No warm-up: memory that an earlier burst left free would make
    it look smaller. Extras: "private", "shared" bytes a task.
    """
    futures: list = [None] * n
    with tempfile.TemporaryDirectory() as where:
        gate, started = Path(where) / "gate", Path(where) / "started"
        with proc_pool.make(lib, 1) as pool:
            try:
                blocker = pool.submit(block, str(started), str(gate))
                verify(wait_for(started), "the worker did not begin")
                gc.collect()
                private, shared = usage()
                for i in range(n):
                    futures[i] = pool.submit(echo, n)
                gc.collect()
                private, shared = (now - then for now, then
                                   in zip(usage(), (private, shared), strict=True))
                verify(not gate.exists(), "the gate was open")
            finally:
                gate.touch()
            verify(blocker.result(), "the gate never opened")
            verify(all(future.result() == n for future in futures), "wrong result")
    return Sample(value=(private + shared) / n, items=n,
                  extra={"private": private / n, "shared": shared / n})


def block(started: str, gate: str) -> bool:
    """A task that says that it runs, and runs until the gate exists."""
    Path(started).touch()
    return wait_for(Path(gate))


def wait_for(path: Path) -> bool:
    """Wait for a file; false if it does not come."""
    until = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def usage() -> tuple[int, int]:
    """Bytes of private memory of this process, and of shared memory it holds.

    Shared: what is resident of its mappings, or what its memory files have allocated,
    whichever is more.
    """
    sizes = {}
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssShmem"):
            sizes[name] = int(value.split()[0]) << 10
    files = {}
    for entry in os.scandir("/proc/self/fd"):
        try:
            if "memfd:" in os.readlink(entry.path):
                found = os.stat(entry.path)
                files[found.st_dev, found.st_ino] = found.st_blocks * 512
        except FileNotFoundError:
            continue    # the descriptor of the directory itself
    return sizes["RssAnon"], max(sizes["RssShmem"], sum(files.values()))
