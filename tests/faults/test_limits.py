"""The system gives less than is wanted: descriptors, processes, address space.

At each limit, from almost nothing upwards until there is enough: the work is done, or ends
with an exception that says what there is too little of, and leaves nothing behind.
"""
import os

import pytest
from prockit import run_program
from testkit import ours

pytestmark = [
    ours("the standard library hangs or leaks at some of these limits"),
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("kit"),
]

PROGRAM = """
import resource
import faultkit
from faultkit import outcomes
faultkit.prepare()
work = faultkit.{work}
work(context)       # this makes what is kept: caches, helper processes

def try_under(name, used, limits):
    # used() is what is used already; multiprocessing keeps some pipes when it fails.
    before = faultkit.possessions(False)
    soft, hard = resource.getrlimit(name)
    tried = 0
    for limit in limits:
        watch(GUARD)
        resource.setrlimit(name, (used() + limit, hard))
        outcomes.try_(work, context)
        resource.setrlimit(name, (soft, hard))
        faultkit.leaves_nothing(before, False)
        tried += 1
        if outcomes.counts["works"] == 3:
            break
    else:
        raise AssertionError("it was never enough")
    assert tried > 3, "it was always enough"
    outcomes.show()
"""


@pytest.fixture(autouse=True)
def _in_every_run(request, work):
    """The process pool; the others take too long."""
    if work != "processes":
        request.getfixturevalue("only_deep")


def run(work, code):
    print(run_program(PROGRAM.format(work=work) + code, limit=100).out)


@pytest.mark.parametrize("work", ["processes", "pool", "queue"])
def test_few_descriptors(work):
    run(work, """
def used():
    return max(map(int, os.listdir("/proc/self/fd")))       # the one that is being read
try_under(resource.RLIMIT_NOFILE, used, range(60))
""")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user who has no process")
@pytest.mark.parametrize("work", ["processes", "threads", "pool"])
def test_few_processes(work):
    """Threads count as well."""
    run(work, """
# A user of nobody's; root has no such limit.
os.setresuid(61_234 + os.getpid() % 1000, -1, 0)
os.setresuid(-1, os.getresuid()[0], -1)
try_under(resource.RLIMIT_NPROC, lambda: 1, range(60))
""")


@pytest.mark.parametrize("work", ["processes", "pool", "queue"])
def test_little_address_space(work):
    run(work, """
def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
# At first not even a thread's stack finds room.
try_under(resource.RLIMIT_AS, used, range(2 << 20, 4 << 30, 20 << 20))
""")
