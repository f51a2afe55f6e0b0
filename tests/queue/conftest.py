"""Queues of both kinds, and the processes that use them."""
import contextlib
import multiprocessing

import pytest

METHODS = tuple(m for m in ("fork", "forkserver", "spawn")
                if m in multiprocessing.get_all_start_methods())


@pytest.fixture(params=METHODS)
def ctx(request):
    """multiprocessing with each start method."""
    return multiprocessing.get_context(request.param)


@pytest.fixture
def new_queue(implementation):
    """Make a queue: new_queue(maxsize=0, ctx=multiprocessing)."""
    made = []

    def make(maxsize=0, ctx=multiprocessing):
        if implementation == "stdlib":
            queue = ctx.Queue(maxsize)
            # A test that fails must not wait for what nobody takes out.
            queue.cancel_join_thread()
        else:
            import cfutures

            queue = cfutures.Queue(maxsize)
        made.append(queue)
        return queue

    yield make
    for queue in made:
        queue.close()


@contextlib.contextmanager
def starter(ctx):
    """Start processes: start(function, *args); those that still run at the end are killed."""
    started = []

    def start(function, *args):
        process = ctx.Process(target=function, args=args, daemon=True)
        process.start()
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.join()
            process.close()


@pytest.fixture
def run(ctx):
    """Start processes with each start method, see starter()."""
    with starter(ctx) as start:
        yield start


@pytest.fixture
def start():
    """Start processes by fork, see starter()."""
    with starter(multiprocessing.get_context("fork")) as start:
        yield start
