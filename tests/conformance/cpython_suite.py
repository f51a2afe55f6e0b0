#!/usr/bin/env python3
"""Run CPython's own tests of concurrent.futures against cfutures.

    python cpython_suite.py [--impl cfutures] [--mode substitute] [-k PATTERN]

The interpreter that runs this is the one that is tested; nothing but the standard
library is needed.  Groups: cf (test_concurrent_futures), asyncio (what asyncio does
with executors), extra (other tests that touch concurrent.futures), pool (what the tests of
multiprocessing say of Pool, with ours in its place in every mode).  Modes:

substitute  concurrent.futures is the implementation from its first import on, in
            every interpreter of the run (see inject/_suite_inject.py)
install     the standard modules, after the implementation's install()
beside      concurrent.futures stays; asyncio is given our executors and futures

What is left out, and why, is in exclusions.toml.  Exit status: 0 if all is well, 1
if a test failed, 3 if there is nothing to run.
"""
import argparse
import dataclasses
import fnmatch
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from suite_driver import OUTCOMES, Driver, Settings
from suite_plan import GROUPS, MODES, NoTests, find_tests, load_exclusions, plan


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impl", default="cfutures", metavar="MODULE",
                        help="what is tested (default %(default)s); concurrent.futures "
                             "gives the baseline")
    parser.add_argument("--impl-path", action="append", default=[], metavar="DIR",
                        help="put DIR on PYTHONPATH (may be repeated)")
    parser.add_argument("--mode", choices=MODES, default="substitute")
    parser.add_argument("--groups", default=",".join(GROUPS))
    parser.add_argument("-k", action="append", default=[], metavar="PATTERN",
                        help="only tests whose name contains this, or matches it if it has *")
    parser.add_argument("--tests", "--cpython-tests", metavar="DIR",
                        help="the folder that holds test_concurrent_futures")
    parser.add_argument("--all", action="store_true", help="run what is excluded, too")
    parser.add_argument("--json", metavar="FILE", help="write every result to FILE")
    parser.add_argument("-v", "--verbose", action="store_true",
                        help="print tracebacks of failing tests")
    parser.add_argument("-q", "--quiet", action="store_true", help="no line a class")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--test-timeout", type=float, default=180,
                        help="seconds without progress that are a hang")
    parser.add_argument("--class-timeout", type=float, default=900)
    parser.add_argument("--long-timeout", type=float, default=90,
                        help="test.support.LONG_TIMEOUT at most")
    return parser.parse_args(arguments)


def selects(patterns: list[str], name: str) -> bool:
    return not patterns or any(
        fnmatch.fnmatchcase(name, p) if set(p) & set("*?[") else p in name
        for p in patterns)


def why_not_importable(implementation: str, paths: list[str]) -> str | None:
    """None if the implementation can be imported, else the last line of the error."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(map(os.path.abspath, paths)))
    probe = subprocess.run([sys.executable, "-c", f"import {implementation}"],
                           env=environment, capture_output=True, text=True)
    if probe.returncode == 0:
        return None
    return (probe.stderr.strip().splitlines() or [f"exit code {probe.returncode}"])[-1]


def count(totals: dict[str, int]) -> str:
    return ", ".join(f"{totals[o]} {o}" for o in OUTCOMES if totals[o]) or "nothing was run"


def report(driver: Driver, options: argparse.Namespace, seconds: float) -> None:
    print()
    for name in driver.failing:
        result = driver.results[name]
        print(f"{result.outcome.upper():8} {name}")
        lines = [line for line in result.detail.splitlines() if line.strip()]
        if options.verbose:
            print("".join(f"    {line}\n" for line in lines), end="")
        elif lines and result.outcome in ("failed", "errored"):
            print(f"         {lines[-1][:300]}")
    if driver.altered:
        print("left threads or processes behind: " + ", ".join(sorted(driver.altered)))
    for group in options.groups.split(","):
        print(f"{group:8} {count(driver.totals(group))}")
    print(f"{count(driver.totals())} in {seconds:.0f} s")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        tests = find_tests(options.tests)
    except NoTests as missing:
        tests = None
        print(f"SKIPPED group cf: {missing}")
    except FileNotFoundError as wrong:
        print(wrong)
        return 3
    problem = why_not_importable(options.impl, options.impl_path)
    if problem is not None:
        print(f"cannot use {options.impl}: {problem}")
        return 3
    begun = time.monotonic()
    driver = Driver(Settings(
        tests=tests, implementation=options.impl, implementation_path=options.impl_path,
        mode=options.mode, exclusions=[] if options.all else load_exclusions(),
        jobs=options.jobs, test_timeout=options.test_timeout,
        class_timeout=options.class_timeout, long_timeout=options.long_timeout,
        selected=lambda name: selects(options.k, name),
        progress=(lambda line: None) if options.quiet else
        (lambda line: print(f"[{time.monotonic() - begun:6.1f} s] {line}", flush=True))))
    print(f"Python {sys.version.split()[0]}, {options.impl}, mode {options.mode}\n"
          f"tests from {tests or 'the test package'}", flush=True)
    driver.run(plan(tests, tuple(options.groups.split(","))))
    for line in sorted(driver.resolves):
        print("in the processes " + line)
    report(driver, options, time.monotonic() - begun)
    if options.json:
        Path(options.json).write_text(json.dumps({
            "implementation": options.impl, "mode": options.mode, "python": sys.version,
            "tests": str(tests), "totals": driver.totals(), "failing": driver.failing,
            "altered": sorted(driver.altered), "resolves": sorted(driver.resolves),
            "results": {name: dataclasses.asdict(result)
                        for name, result in sorted(driver.results.items())},
        }, indent=1), encoding="utf-8")
    if not any(driver.totals()[o] for o in OUTCOMES if o != "excluded"):
        return 3
    return 1 if driver.failing else 0


if __name__ == "__main__":
    sys.exit(main())
