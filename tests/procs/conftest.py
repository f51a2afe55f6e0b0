"""Process pools of both implementations, under every start method."""
import multiprocessing
from pathlib import Path

import pytest
import testkit
from prockit import METHODS, Door, no_new_offspring, shared_memory


def pytest_collection_modifyitems(config, items):
    """The oracle runs with fork only, unless --deep: time goes into what is tested."""
    kept, dropped = [], []
    for item in items:
        if Path(__file__).parent in item.path.parents:
            # From 3.12 on CPython warns of every fork in a process with threads.
            item.add_marker(pytest.mark.filterwarnings(
                "ignore:This process .* is multi-threaded:DeprecationWarning"))
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(120))
        (dropped if _is_left_out(item) else kept).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def _is_left_out(item):
    params = getattr(getattr(item, "callspec", None), "params", {})
    return (params.get("implementation") == "stdlib"
            and params.get("method", METHODS[0]) != METHODS[0]
            and not item.config.getoption("--deep"))


@pytest.fixture(scope="session", params=METHODS)
def method(request):
    """The start method."""
    return request.param


@pytest.fixture(scope="session")
def context(method):
    """multiprocessing's context for the start method."""
    return multiprocessing.get_context(method)


@pytest.fixture
def door(tmp_path):
    """Make doors (prockit.Door); all are open when the test is over."""
    doors = []

    def make():
        doors.append(Door(tmp_path, f"door{len(doors)}"))
        return doors[-1]

    make.all = doors
    yield make
    for each in doors:
        each.close()


@pytest.fixture
def procs(cf, context, door):
    """Make process pools of 2 workers that are shut down after the test, if it failed too."""
    pools = []

    def make(max_workers=2, **options):
        options.setdefault("mp_context", context)
        pools.append(cf.ProcessPoolExecutor(max_workers, **options))
        return pools[-1]

    yield make
    for each in door.all:
        each.open()
    for executor in pools:
        executor.shutdown(wait=True, cancel_futures=True)


@pytest.fixture(scope=testkit.shared_scope)
def shared(cf, context, tmp_path_factory):
    """One pool of 2 workers for all tests that leave it as they found it."""
    import proc_tasks as tasks
    door = Door(tmp_path_factory.mktemp("shared"))
    with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
        # Both workers now, so that no test starts one.
        futures = [executor.submit(tasks.wait_at, door.path) for _ in range(2)]
        door.entered(2)
        door.close()
        for future in futures:
            future.result(testkit.GUARD)
        yield executor


@pytest.fixture
def used_memory():
    """Ask for the bytes of shared memory that this process's pools took since then."""
    before = shared_memory()
    return lambda: shared_memory() - before


@pytest.fixture(autouse=True)
def no_process_left_behind():
    """Fail a test that leaves a process running, or a zombie."""
    with no_new_offspring():
        yield
