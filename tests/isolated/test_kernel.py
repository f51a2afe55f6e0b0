"""A real Jupyter kernel, without a browser: its stop button interrupts every wait and the
pool is usable afterwards; what `%load_ext cfutures` gives.

The stop button sends SIGINT to the kernel's process group, so worker processes get it, too.
"""
import re
import sys
import time

import pytest
from testkit import GUARD

pytest.importorskip("ipykernel", reason="ipykernel is not installed")
manager = pytest.importorskip("jupyter_client.manager",
                              reason="jupyter_client is not installed")
kernelspec = pytest.importorskip("jupyter_client.kernelspec",
                                 reason="jupyter_client is not installed")


class ThisInterpreter(kernelspec.KernelSpecManager):
    """Names one kernel: the running interpreter, whatever kernels are registered."""

    def get_kernel_spec(self, kernel_name):
        return kernelspec.KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR",
                  "-f", "{connection_file}"],
            display_name="Python 3", language="python")


class Kernel:
    """Runs cells, and stops them."""

    def __init__(self):
        self.manager = manager.KernelManager(
            kernel_spec_manager=ThisInterpreter(), transport="ipc")
        self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=2 * GUARD)

    def run(self, code, stop_at=None):
        """Run a cell; interrupt it once it has printed `stop_at`.

        Returns the printed text, the MIME bundles displayed, and the name of the exception
        or None.
        """
        request = self.client.execute(code)
        text, bundles, error, stopped = "", [], None, stop_at is None
        end = time.monotonic() + 2 * GUARD
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.0, end - time.monotonic()))
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                text += content["text"]
            elif kind in ("display_data", "execute_result", "update_display_data"):
                bundles.append(content["data"])
            elif kind == "error":
                error = content["ename"]
                text += "\n".join(content["traceback"])
            elif kind == "status" and content["execution_state"] == "idle":
                assert stopped, f"the cell ended by itself: {text}"
                return text, bundles, error
            if not stopped and stop_at in text:
                self.manager.interrupt_kernel()
                stopped = True

    def ok(self, code):
        """Run a cell that must not raise; what it printed and displayed."""
        text, bundles, error = self.run(code)
        assert error is None, text
        return text, bundles

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel():
    """A kernel with what the cells below use."""
    kernel = Kernel()
    try:
        kernel.ok('''
import os, tempfile, threading, time
import cfutures
folder = tempfile.TemporaryDirectory()
go = os.path.join(folder.name, "go")
def hang(*_):
    while not os.path.exists(go):
        time.sleep(0.01)
    return "went"
def add(a, b=1):
    return a + b
def tell_when_waiting():
    """Print "waiting" once the main thread sleeps, which a print of its own would not tell."""
    main = threading.main_thread()
    def look():
        asleep = 0
        while asleep < 20:
            time.sleep(0.002)
            with open(f"/proc/self/task/{main.native_id}/stat") as stat:
                state = stat.read().rpartition(")")[2].split()[0]
            asleep = asleep + 1 if state == "S" else 0
        print("waiting")
    threading.Thread(target=look).start()
''')
        yield kernel
    finally:
        kernel.close()


#: How a cell waits for tasks that do not end.
WAITS = {
    "result": "pool.submit(hang).result()",
    "exception": "pool.submit(hang).exception()",
    "wait": "cfutures.wait([pool.submit(hang) for _ in range(9)])",
    "as_completed":
        "for future in cfutures.as_completed([pool.submit(hang) for _ in range(9)]): pass",
    "map": "list(pool.map(hang, range(9)))",
    "map with progress": "list(pool.map(hang, range(9), progress=True))",
    "progress":
        "for future in cfutures.progress([pool.submit(hang) for _ in range(9)]): pass",
}
ENDS = {
    "shutdown": "future = pool.submit(hang)\npool.shutdown()",
    "with": "with pool:\n    future = pool.submit(hang)",
    "result in with": "with pool:\n    future = pool.submit(hang)\n    future.result()",
}


@pytest.fixture(params=["ThreadPoolExecutor", "ProcessPoolExecutor"])
def pool(request, kernel):
    kernel.ok(f"pool = cfutures.{request.param}(2)\nassert pool.submit(add, 1).result() == 2")
    yield request.param
    # Threads of tasks that hang go when the file is there.
    kernel.ok("open(go, 'w').close()\npool.shutdown()\nos.unlink(go)")


@pytest.mark.parametrize("how", WAITS)
def test_stop_ends_a_wait_and_the_pool_goes_on(kernel, pool, how):
    text, _, error = kernel.run(f"tell_when_waiting()\n{WAITS[how]}", "waiting")
    assert error == "KeyboardInterrupt", text
    kernel.ok("open(go, 'w').close()")      # a thread cannot be interrupted
    text, _ = kernel.ok("""
assert [pool.submit(add, n).result(60) for n in range(20)] == list(range(1, 21))
assert list(pool.map(add, range(20), timeout=60)) == list(range(1, 21))
print("usable")
""")
    assert "usable" in text
    kernel.ok("os.unlink(go)")


@pytest.mark.parametrize("how", ENDS)
def test_stop_ends_a_shutdown_and_a_new_pool_works(kernel, pool, how):
    text, _, error = kernel.run(f"tell_when_waiting()\n{ENDS[how]}", "waiting")
    assert error == "KeyboardInterrupt", text
    text, _ = kernel.ok(f"""
another = cfutures.{pool}(2)
with another:
    assert list(another.map(add, range(20), timeout=60)) == list(range(1, 21))
print("usable")
""")
    assert "usable" in text
    # What was submitted before comes to an end.
    kernel.ok("open(go, 'w').close()\ncfutures.wait([future], 60)\n"
              "assert future.done(), future\nos.unlink(go)")


def test_stop_in_a_loop_over_results(kernel, pool):
    text, _, error = kernel.run("""
done = []
for future in cfutures.as_completed([pool.submit(add, n) for n in range(5)] +
                                    [pool.submit(hang)]):
    done.append(future.result())
    if len(done) == 5:
        tell_when_waiting()
""", "waiting")
    assert error == "KeyboardInterrupt", text
    kernel.ok("assert sorted(done) == [1, 2, 3, 4, 5]\nopen(go, 'w').close()\n"
              "assert pool.submit(add, 1).result(60) == 2\nos.unlink(go)")


# ---- %load_ext cfutures ----

@pytest.fixture
def extension(kernel):
    kernel.ok("%load_ext cfutures")
    yield
    kernel.ok("%unload_ext cfutures")


def test_the_magic_shows_live_pools(kernel, extension, pool):
    _, bundles = kernel.ok("pool.submit(add, 1).result()\n%cfutures")
    (bundle,) = bundles
    assert pool in bundle["text/html"]
    assert re.search(r"done \d", bundle["text/plain"])
    text, _, error = kernel.run("%cfutures nonsense")
    assert error == "ValueError"
    assert "takes no arguments" in text


def test_a_lost_exception_is_told_in_the_notebook(kernel, extension, pool):
    text, _ = kernel.ok("""
import logging, threading, time
told = threading.Event()
emit = logging.lastResort.emit
def emit_and_tell(record):
    emit(record)
    told.set()
logging.lastResort.emit = emit_and_tell

def fails():
    raise OSError("no such street")
pool.submit(fails)
end = time.monotonic() + 30
while not told.is_set() and time.monotonic() < end:
    pool.submit(add, 1).result()
logging.lastResort.emit = emit
""")
    assert "nobody asked for its result: fails()" in text
    assert "no such street" in text


def test_the_extension_can_be_taken_off(kernel):
    kernel.ok("%load_ext cfutures\n%unload_ext cfutures\n"
              "assert cfutures.warn_unread(False) is False")
    text, _ = kernel.ok("%cfutures")
    assert "not found" in text


def test_rich_reprs_of_a_cell(kernel, pool):
    _, (future,) = kernel.ok("future = pool.submit(add, 1)\nfuture.result()\nfuture")
    assert "add()" in future["text/html"] and "finished" in future["text/html"]
    _, (executor,) = kernel.ok("pool")
    assert "workers" in executor["text/html"]


def test_progress_without_tqdm_is_one_output(kernel, pool):
    _, bundles = kernel.ok("""
import sys
sys.modules["tqdm.auto"] = None
try:
    assert list(pool.map(add, range(30), progress="adding")) == list(range(1, 31))
finally:
    del sys.modules["tqdm.auto"]
""")
    assert "0/30 tasks" in bundles[0]["text/html"]
    assert "adding: 30/30 tasks" in bundles[-1]["text/html"]
