"""A pytest plugin: choose the tests that fork this process with its threads, or the others.

GCC's AddressSanitizer (before 14) does not take its allocator's locks around a fork, so a
forked child hangs at its first malloc if another thread of the parent was in one.  So
`make test-asan` runs those tests apart, with Python's own allocator, which leaves little to
malloc; all others run with PYTHONMALLOC=malloc, which shows AddressSanitizer each object.
"""
FILES = ("test_fork.py", "test_process_forks.py")


def pytest_addoption(parser):
    parser.addoption("--forks", choices=("none", "only"), required=True,
                     help="leave out the tests that fork, or run only those")


def forks(item):
    """Whether the test forks: it has fork as its start method, or is about forks."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    return "fork" in params.values() or item.path.name in FILES


def pytest_collection_modifyitems(config, items):
    wanted = config.getoption("--forks") == "only"
    dropped = [item for item in items if forks(item) != wanted]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if forks(item) == wanted]
