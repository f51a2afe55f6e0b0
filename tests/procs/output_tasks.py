"""Tasks that print, for test_output; importable in workers under every start method."""
import multiprocessing.util
import os
import signal
import subprocess
import sys
import time

from proc_tasks import add, wait_at  # noqa: F401 -- tests find all their tasks here


def say(out, err=None):
    """Print a line, and one on standard error."""
    print(out)
    if err is not None:
        print(err, file=sys.stderr)


def say_long_lines(letter, count, length):
    """Print `count` lines of one letter, `length` characters each."""
    for _ in range(count):
        print(letter * length)


def write(text):
    """Print without the newline, and leave it at that."""
    print(text, end="")


def write_and_wait_at(text, door):
    """Show a text without newline, as progress bars do, then wait."""
    print(text, end="", flush=True)
    wait_at(door)


def say_and_die(text):
    """Print a line and crash."""
    print(text)
    os.kill(os.getpid(), signal.SIGKILL)


def say_now_and_at_exit():
    """For an initializer: print now, and when the worker ends."""
    print("initializer")
    multiprocessing.util.Finalize(None, print, args=("finalizer",), exitpriority=1)


def echo_by_a_program(text):
    """Have a program print, to what Python says standard output is."""
    subprocess.run(["echo", text], stdout=sys.stdout, check=True)


def fork_sleeper(seconds):
    """Leave a process behind that has all descriptors of this one; its number."""
    pid = os.fork()
    if pid == 0:
        time.sleep(seconds)
        os._exit(0)
    return pid
