"""The n-th call of a libc function fails, n = 1, 2, … until the work does not meet it.

Each time the work is done, or ends with an exception that says what failed; and afterwards
nothing is left of it: no process, thread, descriptor or mapping.
"""
import pytest
from prockit import run_program
from testkit import ours

pytestmark = [
    ours("the standard library hangs or leaks when some of these fail"),
    pytest.mark.timeout(300),
]

PROGRAM = """
import faultkit
faultkit.prepare()
work = faultkit.{work}
work(context)       # this makes what is kept: caches, helper processes
for name in {names}:
    watch(GUARD)
    faultkit.fail_each_call(work, context, name, {in_children})
"""


def run(work, *names, method="fork", in_children=False):
    """Do one of faultkit's works again and again while calls of these functions fail."""
    code = PROGRAM.format(work=work, names=names, in_children=in_children)
    print(run_program(code, method=method, limit=100).out)


@pytest.fixture(autouse=True)
def _injected(injector):
    """All programs here have it."""


def test_thread_pool():
    run("threads", "malloc", "pthread_create")


def test_process_pool():
    run("processes", "malloc", "mmap", "memfd_create", "ftruncate", "fallocate", "madvise",
        "pwrite", "pread", "eventfd", "pidfd_open", "ppoll", "pipe", "fork", "pthread_create")


def test_workers():
    """It fails in each worker: tasks fail, or the pool as a whole, but not the program."""
    run("processes", "malloc", "mmap", "madvise", "pread", "pwrite", "ppoll", "pthread_create",
        "pidfd_open", in_children=True)


@pytest.mark.usefixtures("only_deep")
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_are_programs(method):
    # A fork server forks where nobody counts.
    forks = ["fork"] if method == "spawn" else []
    run("processes", "memfd_create", "pidfd_open", "pipe", "pthread_create", *forks,
        method=method)


def test_pool():
    run("pool", "malloc", "mmap", "memfd_create", "eventfd", "pipe", "fork", "pthread_create")


def test_queue():
    run("queue", "malloc", "mmap", "memfd_create", "ftruncate", "fallocate", "madvise",
        "pwrite")


def test_fork_of_the_program():
    run("forks", "malloc", "mmap", "pipe", "fork")


def test_a_system_without_descriptors_of_processes():
    """Before Linux 5.3, or in a sandbox that forbids pidfd_open(): deaths are seen all the
    same, of a worker by its parent and of the parent by its workers."""
    print(run_program("""
import ctypes, faultkit
from prockit import alive
from testkit import eventually
injector = ctypes.CDLL(None)
injector.fault_arm(b"pidfd_open", -1, 0)
faultkit.processes(context)

with cf.ProcessPoolExecutor(2, mp_context=context, on_crash="replace") as executor:
    doomed = executor.submit(os._exit, 3)
    assert isinstance(doomed.exception(GUARD), cf.process.WorkerCrashed)
    assert executor.submit(tasks.add, 1).result(GUARD) == 2

reader, writer = os.pipe()
if os.fork() == 0:
    executor = cf.ProcessPoolExecutor(2, mp_context=context)
    executor.submit(tasks.add, 1).result(GUARD)
    os.write(writer, " ".join(map(str, executor._processes)).encode())
    os.kill(os.getpid(), signal.SIGKILL)
workers = list(map(int, os.read(reader, 100).split()))
assert len(workers) == 2
assert eventually(lambda: not any(map(alive, workers)), GUARD)     # and nobody has reaped it
assert injector.fault_disarm() > 5
os.wait()
""", limit=100).out)
