"""Stress; --stress-seconds and --deaths say how much, --seed repeats the choices of a run."""
import sys
from pathlib import Path

import pytest

# The process table and doors are those of the process pool's tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "procs"))


def pytest_collection_modifyitems(config, items):
    # Only what hangs takes longer, also on a machine that does much else: a second a death.
    limit = 300 + 20 * config.getoption("--stress-seconds") + config.getoption("--deaths")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(limit))
            # From 3.12 on CPython warns of every fork in a process with threads.
            item.add_marker(pytest.mark.filterwarnings(
                "ignore:This process .* is multi-threaded:DeprecationWarning"))
