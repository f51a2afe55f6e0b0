"""Tasks and initializers for test_control; importable in workers under every start method."""
import os
import signal
import threading
import time

from proc_tasks import (  # noqa: F401 -- tests find all their tasks here
    add,
    announce,
    announce_and_sleep,
    die_kill,
    pid,
    sleep_and_return,
    slow_pid,
    wait_at,
)


def handler_of(number):
    """What this process does on a signal: "default", "ignore" or the handler's name."""
    handler = signal.getsignal(number)
    return {signal.SIG_DFL: "default", signal.SIG_IGN: "ignore", None: "unknown"}.get(
        handler, getattr(handler, "__name__", "?"))


def signals_blocked():
    """The signals that this thread does not get."""
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def wakeup_fd():
    """Where signals are told, as an event loop wants it."""
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    return fd


def interrupt_oneself():
    """What Ctrl-C does to a task."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)


def terminate_oneself():
    """What SIGTERM does to a task."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def ignore_signals_at(path, *numbers):
    """Say that a task has come, and never end because of one of these signals."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    announce_and_sleep(path)


def outlast_interrupts_at(path):
    """Say that a task has come; each KeyboardInterrupt is caught, and told."""
    announce(path)
    for _ in range(1000):
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            announce(path, "interrupted")


def clean_up_at(path):
    """Say that a task has come; on a KeyboardInterrupt do something, and end by it."""
    announce(path)
    try:
        time.sleep(60)
    finally:
        announce(path, "cleaned up")


def wait_and_raise(path):
    """An initializer that waits, then raises."""
    wait_at(path)
    raise RuntimeError("the initializer does not want to")


def raise_interrupt():
    """An initializer that Ctrl-C ends."""
    raise KeyboardInterrupt


def thread_that_stays(path):
    """Leave a thread behind that is not a daemon and ends when a door opens."""
    threading.Thread(target=wait_at, args=(path, "thread")).start()
