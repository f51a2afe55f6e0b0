"""Run the test suite on several interpreters and print one table.

    python tests/matrix.py [--pytest-args ARGS] PYTHON ...

Each interpreter gets the environment that `make pytest PYTHON=...` makes for it. They run one
after the other, since tests of crashes and time limits are slower side by side. What a suite
prints goes to build/matrix/<tag>.log, its results are read from the JUnit file beside it.
The exit status is 0 if every suite passed.
"""
from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "build" / "matrix"
#: Without what a make that called us was told: it is not meant for each interpreter.
ENVIRONMENT = {name: value for name, value in os.environ.items()
               if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")}
#: What an interpreter says of itself, in one line.
ASK = """
import platform, sysconfig
free = sysconfig.get_config_var("Py_GIL_DISABLED")
print("%s %s%s" % (platform.python_implementation(), platform.python_version(),
                   " free-threaded" if free else ""))
"""


@dataclass
class Outcome:
    """What came of one suite; `seconds` are pytest's own."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    remark: str = ""

    @property
    def good(self) -> bool:
        return self.failed == 0 and self.passed > 0 and not self.remark


def read_junit(file: Path, name: str) -> Outcome:
    """The counts in a JUnit file; xfails are among the skipped, errors among the failed.

    Raises ParseError if the file is not complete, FileNotFoundError if it is not there.
    """
    outcome = Outcome(name)
    for suite in ElementTree.parse(file).getroot().iter("testsuite"):
        count = {key: int(suite.get(key, "0"))
                 for key in ("tests", "failures", "errors", "skipped")}
        failed = count["failures"] + count["errors"]
        outcome.failed += failed
        outcome.skipped += count["skipped"]
        outcome.passed += count["tests"] - failed - count["skipped"]
        outcome.seconds += float(suite.get("time", "0"))
    return outcome


def run_suite(python: str, arguments: str) -> Outcome:
    """Run the suite on one interpreter, with further arguments for pytest (one string)."""
    try:
        name = subprocess.run([python, "-c", ASK], check=True, capture_output=True,
                              text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        return Outcome(python, remark=f"cannot be run: {error}")
    tag = re.sub(r"\W+", "-", name.lower())
    junit, log = RESULTS / f"{tag}.xml", RESULTS / f"{tag}.log"
    junit.unlink(missing_ok=True)
    print(f"{name}: {python}, {log.relative_to(PROJECT)}", flush=True)
    with log.open("w", encoding="utf-8") as output:
        status = subprocess.run(
            ["make", "pytest", f"PYTHON={python}",
             f"PYTEST_ARGS={arguments} --junitxml={junit}"],
            cwd=PROJECT, stdout=output, stderr=subprocess.STDOUT, check=False,
            env=ENVIRONMENT).returncode
    try:
        outcome = read_junit(junit, name)
    except (FileNotFoundError, ElementTree.ParseError) as error:
        return Outcome(name, remark=f"no results, see the log: {error}")
    if status != 0 and outcome.failed == 0:
        outcome.remark = f"make ended with status {status}, see the log"
    return outcome


def table(outcomes: list[Outcome]) -> str:
    """One line for each interpreter, the columns aligned."""
    rows = [("interpreter", "passed", "failed", "skipped", "seconds", "")]
    rows += [(outcome.name, str(outcome.passed), str(outcome.failed), str(outcome.skipped),
              f"{outcome.seconds:.0f}", outcome.remark) for outcome in outcomes]
    width = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join([row[0].ljust(width[0]), *(row[n].rjust(width[n]) for n in range(1, 5)),
                   row[5]]).rstrip() for row in rows)


def main() -> int:
    """Run what the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(description="Run the tests on several interpreters.")
    parser.add_argument("pythons", nargs="+", metavar="PYTHON", help="a command or a path")
    parser.add_argument("--pytest-args", default="", metavar="ARGS",
                        help="further arguments for pytest, as one word")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    outcomes = [run_suite(python, options.pytest_args) for python in options.pythons]
    print(table(outcomes))
    return 0 if all(outcome.good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
