"""The table of make test-all: what it counts, and that no failure is counted as a success."""
import subprocess
import sys
from pathlib import Path

import matrix
import pytest

JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10" time="4.5">
</testsuite></testsuites>
"""


def test_counts_of_a_junit_file(tmp_path):
    file = tmp_path / "results.xml"
    file.write_text(JUNIT, encoding="utf-8")
    outcome = matrix.read_junit(file, "CPython")
    assert (outcome.passed, outcome.failed, outcome.skipped, outcome.seconds) == (4, 3, 3, 4.5)
    assert not outcome.good


@pytest.mark.parametrize("outcome, good", [
    (matrix.Outcome("all", passed=5, skipped=1), True),
    (matrix.Outcome("one failed", passed=5, failed=1), False),
    (matrix.Outcome("nothing ran"), False),
    (matrix.Outcome("crashed", passed=5, remark="make ended with status 2"), False),
], ids=lambda value: getattr(value, "name", None))
def test_what_counts_as_good(outcome, good):
    assert outcome.good is good


def test_columns_are_aligned():
    lines = matrix.table([matrix.Outcome("a", 1, 2, 3, 4.0),
                          matrix.Outcome("a longer name", 10, 0, 0, 5.0, "see the log")])
    head, first, second = lines.splitlines()
    assert head.split() == ["interpreter", "passed", "failed", "skipped", "seconds"]
    assert first.split() == ["a", "1", "2", "3", "4"]
    assert second.endswith("10       0        0        5  see the log")
    assert first.index("1") == second.index("10") + 1


def test_an_interpreter_that_is_not_there_fails(tmp_path):
    done = subprocess.run(
        [sys.executable, str(Path(matrix.__file__)), str(tmp_path / "python")],
        capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot be run" in done.stdout, done.stderr
