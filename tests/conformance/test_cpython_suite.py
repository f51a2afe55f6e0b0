"""CPython's own tests of concurrent.futures, run against cfutures.

Each test here is one of CPython's test modules; when it fails it lists the tests of
that module that failed.  By hand, with more choices: cpython_suite.py beside this.
"""
import re
from collections.abc import Callable

import pytest
from suite_driver import Driver, Settings
from suite_plan import GROUPS, Job, NoTests, find_tests, load_exclusions, plan

try:
    TESTS, WHY_NOT = find_tests(), ""
except NoTests as missing:
    TESTS, WHY_NOT = None, str(missing)


def jobs() -> list[pytest.param]:
    absent = [pytest.param("substitute", None, id="substitute-test_concurrent_futures",
                           marks=pytest.mark.skip(reason=WHY_NOT))] if TESTS is None else []
    # What stands for Pool is the same in every mode.
    runs = [("substitute", GROUPS), ("install", tuple(g for g in GROUPS if g != "pool")),
            ("beside", ("asyncio",))]
    return absent + [pytest.param(mode, job, id=f"{mode}-{title(job)}")
            for mode, groups in runs for job in plan(TESTS, groups)]


def title(job: Job) -> str:
    name = job.module.removeprefix("test.")
    if job.group != "cf" or job.classes is None:
        return name
    return f"{name}-{job.classes if job.classes.isalpha() else 'rest'}"


def selection(mode: str, deep: bool) -> Callable[[str], bool]:
    """All start methods run with substitution; another way in is tried with one of them."""
    if mode == "substitute" or deep:
        return lambda name: True
    return lambda name: not any(method in name for method in ("Spawn", "Forkserver"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("mode", "job"), jobs())
def test_cpython_tests_pass_on_cfutures(
        mode: str, job: Job, request: pytest.FixtureRequest) -> None:
    deep = request.config.getoption("--deep")
    if job.group == "pool" and not deep and re.search("forkserver|spawn", job.module):
        pytest.skip("runs with --deep: Pool starts processes as the executor does")
    driver = Driver(Settings(
        tests=TESTS, mode=mode, exclusions=load_exclusions(), test_timeout=100,
        selected=selection(mode, deep)))
    driver.run([job])
    failures = [f"{driver.results[name].outcome.upper()} {name}\n"
                f"{driver.results[name].detail.strip()[-1500:]}" for name in driver.failing]
    if failures:
        pytest.fail("\n\n".join([f"{len(failures)} of CPython's tests", *failures]),
                    pytrace=False)
    totals = driver.totals()
    if not totals["passed"]:
        reasons = {r.detail for r in driver.results.values()}
        pytest.skip("; ".join(sorted(reasons)) or f"{job.module} has none of these tests")


def test_every_exclusion_gives_a_reason_and_a_narrow_pattern() -> None:
    for exclusion in load_exclusions():
        assert len(exclusion.reason) > 20, exclusion
        assert exclusion.pattern.startswith("test.test_"), exclusion
