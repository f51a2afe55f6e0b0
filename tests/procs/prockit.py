"""What the tests of process pools share: doors, the process table, shared memory."""
import contextlib
import fcntl
import gc
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver, resource_tracker
from types import SimpleNamespace

import pytest
from testkit import GUARD, eventually, prelude

METHODS = tuple(m for m in ("fork", "forkserver", "spawn")
                if m in multiprocessing.get_all_start_methods())
HERE = os.path.dirname(os.path.abspath(__file__))
RESOURCES = "/dev/shm"


class Door:
    """Tasks in other processes wait at it until it is opened; see proc_tasks.wait_at.

    A file that this process has locked (a record lock: no child inherits it, and it is
    gone with the process), and a FIFO by which tasks say that they have come.
    """

    def __init__(self, folder, name="door"):
        self.path = os.path.join(folder, name)
        self._lock = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        os.mkfifo(self.path + ".entered")
        # Open for writing as well, or it would be at its end between two tasks.
        self._fifo = os.open(self.path + ".entered", os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""

    def open(self):
        """Let all in, now and from now on."""
        fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def entered(self, count=1, guard=GUARD):
        """Wait for `count` more tasks to come; their (process, tag) in order."""
        came = []
        end = time.monotonic() + guard
        while len(came) < count:
            line, found, rest = self._rest.partition(b"\n")
            if found:
                self._rest = rest
                pid, _, tag = line.decode().partition(" ")
                came.append((int(pid), tag))
                continue
            ready, _, _ = select.select([self._fifo], [], [], max(0, end - time.monotonic()))
            if not ready:
                pytest.fail(f"{len(came)} of {count} tasks have come to the door")
            self._rest += os.read(self._fifo, 65536)
        return came

    def latecomers(self):
        """Those that have come since entered() was last asked, without waiting."""
        try:
            self._rest += os.read(self._fifo, 65536)
        except BlockingIOError:
            pass
        return self.entered(self._rest.count(b"\n"))

    def close(self):
        self.open()
        os.close(self._lock)
        os.close(self._fifo)


# --- the process table ------------------------------------------------------------------

def processes():
    """What the system says of each process: {pid: its parent, session, state}."""
    table = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                stat = file.read()
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent, _, session = stat.rpartition(")")[2].split()[:4]
        table[int(name)] = SimpleNamespace(
            parent=int(parent), session=int(session), state=state)
    return table


def helpers():
    """The processes of multiprocessing that live as long as this one."""
    return {forkserver._forkserver._forkserver_pid,
            getattr(resource_tracker._resource_tracker, "_pid", None)} - {None}


def offspring():
    """The processes that this one has started, at any remove; zombies count."""
    table = processes()
    found, news = set(), {os.getpid()}
    while news:
        news = {pid for pid, entry in table.items() if entry.parent in news}
        found |= news
    return found - helpers()


def alive(pid):
    entry = processes().get(pid)
    return entry is not None and entry.state not in "ZX"


def of_session(session):
    """The living processes of a session."""
    return {pid for pid, entry in processes().items()
            if entry.session == session and entry.state not in "ZX"}


@contextlib.contextmanager
def no_new_offspring():
    """Fail if processes that were started in this block, or zombies of them, are left."""
    before = offspring()
    yield
    if not eventually(lambda: not offspring() - before, 5):
        gc.collect()
        left = [command_of(pid) for pid in sorted(offspring() - before)]
        assert eventually(lambda: not offspring() - before), (
            "processes left behind:\n" + "\n".join(left))


def command_of(pid):
    """For messages: what the process is."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return f"{pid}: " + file.read().replace(b"\0", b" ").decode(errors="replace")[:200]
    except OSError:
        return f"{pid}: gone"


def left_behind(names):
    """What is new in RESOURCES since `names` were listed, and no living process uses.

    Other programs of this machine have semaphores there, too: theirs are mapped.
    """
    new = {}
    for name in set(os.listdir(RESOURCES)) - names:
        try:
            new[str(os.stat(f"{RESOURCES}/{name}").st_ino)] = name
        except FileNotFoundError:
            continue            # gone since it was listed
    for pid in processes() if new else ():
        try:
            with open(f"/proc/{pid}/maps") as maps:
                # By number: a semaphore is mapped under another name than it gets.
                used = [line.split()[4] for line in maps if f" {RESOURCES}/" in line]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue            # it has ended; or it is another user's, as is what it has
        for inode in used:
            new.pop(inode, None)
    return set(new.values())


# --- memory -----------------------------------------------------------------------------

def shared_memory():
    """Bytes of memory in the unnamed files that this process has open.

    See the fixture used_memory, which leaves out what other pools have.
    """
    total = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:"):
                total += os.stat(f"/proc/self/fd/{fd}").st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def shared_mappings():
    """The unnamed files that are mapped into this process or open in it."""
    with open("/proc/self/maps", encoding="utf-8") as file:
        found = [line.strip() for line in file if "/memfd:" in line]
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
        if target.startswith("/memfd:"):
            found.append(f"descriptor {fd}: {target}")
    return found


# --- programs ---------------------------------------------------------------------------

PROGRAM = """\
import multiprocessing, os, signal
import proc_tasks as tasks
context = multiprocessing.get_context({method!r})
"""


class Program:
    """A Python program that uses process pools, in a session of its own.

    `cf`, `tasks`, `context` and `say(*words)` exist there.  It is killed with all it
    started if it takes longer than `limit` seconds.
    """

    def __init__(self, code, implementation="cfutures", method="fork", limit=GUARD):
        source = prelude(implementation, limit) + PROGRAM.format(method=method) + code
        path = os.pathsep.join([HERE, *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}
        self.limit = limit
        self.names = set(os.listdir(RESOURCES)) if os.path.isdir(RESOURCES) else set()
        # Unbuffered, or line() would take more than its line from communicate().
        self.process = subprocess.Popen(
            [sys.executable, "-c", source], env=environment, bufsize=0,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True)
        self.pid = self.process.pid
        self.out = self.err = ""

    def line(self):
        """The next line that it prints; waits for it, "" if there is none."""
        return self.process.stdout.readline().decode().rstrip("\n")

    def interrupt(self):
        """Ctrl-C at a terminal: every process of the group gets it."""
        os.killpg(self.pid, signal.SIGINT)

    def kill(self):
        """End the program itself, not what it started."""
        os.kill(self.pid, signal.SIGKILL)

    def ends(self, status=0):
        """Wait for its end, with this exit status; nothing that it started may be left.

        Returns what it printed since line(), and its standard error.
        """
        try:
            # The pipes are open as long as a worker is: this waits for all of them.
            self._read(self.limit + 15)
        except subprocess.TimeoutExpired:
            left = [command_of(pid) for pid in sorted(of_session(self.pid))]
            self.destroy()
            pytest.fail(f"it hangs; exit status {self.process.poll()}, these are left:\n"
                        + "\n".join(left) + f"\n--- stderr\n{self.err}")
        told = f"--- stdout\n{self.out}\n--- stderr\n{self.err}"
        if status is not None and self.process.returncode != status:
            self.destroy()
            pytest.fail(f"exit status {self.process.returncode}, expected {status}\n{told}")
        if not eventually(lambda: not of_session(self.pid), 20):
            left = [command_of(pid) for pid in sorted(of_session(self.pid))]
            self.destroy()
            pytest.fail("left running:\n" + "\n".join(left) + f"\n{told}")
        if os.path.isdir(RESOURCES):
            assert eventually(lambda: not left_behind(self.names), 20), (
                f"left in {RESOURCES}: {left_behind(self.names)}")
        return self

    def destroy(self):
        """Kill all of it."""
        for pid in of_session(self.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if not self.process.stdout.closed:
            self._read(GUARD)

    def _read(self, guard):
        self.out, self.err = (
            text.decode(errors="replace") for text in self.process.communicate(timeout=guard))


def run_program(code, implementation="cfutures", method="fork", *, limit=GUARD, status=0):
    """Run a program to its end; see Program."""
    return Program(code, implementation, method, limit).ends(status)
