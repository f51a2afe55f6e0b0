"""Runs the jobs of a conformance run in processes of their own, and counts.

Each test class runs in its own process group with a time limit.  A crash or a hang
costs the test that was running; the rest of the class runs in a new process.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from suite_plan import Exclusion, Job

HERE = Path(__file__).resolve().parent
OUTCOMES = ("passed", "failed", "errored", "skipped", "excluded", "crashed", "hung", "notrun")
BAD = frozenset({"failed", "errored", "crashed", "hung", "notrun"})
# Of two outcomes of one test (a subtest failed, then the test "passed") the worse counts.
RANK = {"passed": 0, "skipped": 0, "excluded": 0, "notrun": 1, "failed": 2, "errored": 2,
        "crashed": 3, "hung": 3}


@dataclass
class Settings:
    """Times in seconds; tests is the folder that holds test_concurrent_futures, if any."""

    tests: Path | None
    implementation: str = "cfutures"
    implementation_path: list[str] = field(default_factory=list)
    mode: str = "substitute"
    exclusions: list[Exclusion] = field(default_factory=list)
    jobs: int = 2
    test_timeout: float = 180
    class_timeout: float = 900
    long_timeout: float = 90
    max_restarts: int = 25
    selected: Callable[[str], bool] = lambda name: True
    progress: Callable[[str], None] = lambda line: None


@dataclass
class Result:
    outcome: str
    detail: str
    group: str
    seconds: float | None = None


class Driver:
    """run() fills results (test name -> Result), altered and resolves."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.results: dict[str, Result] = {}
        self.altered: set[str] = set()     # tests that left threads or processes behind
        self.resolves: set[str] = set()    # what concurrent.futures was in the processes
        self._lock = threading.Lock()
        self._files = 0
        self._folder = Path()

    @property
    def failing(self) -> list[str]:
        return sorted(name for name, r in self.results.items() if r.outcome in BAD)

    def totals(self, group: str | None = None) -> dict[str, int]:
        counts = dict.fromkeys(OUTCOMES, 0)
        for result in self.results.values():
            if group is None or result.group == group:
                counts[result.outcome] += 1
        return counts

    def run(self, jobs: list[Job]) -> None:
        with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
            self._folder = Path(folder)
            with ThreadPoolExecutor(self.settings.jobs) as pool:
                work = [item for found in pool.map(self._discover, jobs) for item in found]
                # The longest first, so that the last one does not run alone.
                work.sort(key=lambda item: "Deadlock" not in item[1])
                for future in [pool.submit(self._run_class, *item) for item in work]:
                    future.result()

    # -- what is run

    def _discover(self, job: Job) -> list[tuple[Job, str, list[str]]]:
        out = self._fresh("list")
        code, seconds, text = self._spawn(
            "list", {"module": job.module, "group": job.group, "out": str(out)}, 120)
        if code != 0 or not out.exists():
            if re.search(rf"No module named '{re.escape(job.module)}'", text):
                self._put(job.module + " (import)", "skipped", "not in this Python", job.group)
            else:
                self._put(job.module + " (import)", _how_it_ended(code), text[-6000:],
                          job.group, seconds)
            return []
        listing = json.loads(out.read_text(encoding="utf-8"))
        with self._lock:
            self.resolves.add(listing["resolves"])
        work = []
        for cls, tests in listing["tests"].items():
            names = []
            for test in tests:
                name = f"{job.module}.{cls}.{test}"
                if not job.wants(cls, test) or not self.settings.selected(name):
                    continue
                exclusion = self._exclusion_of(name)
                if exclusion is None:
                    names.append(test)
                else:
                    self._put(name, "excluded", exclusion.reason, job.group)
            if names:
                work.append((job, cls, names))
        return work

    def _exclusion_of(self, name: str) -> Exclusion | None:
        for exclusion in self.settings.exclusions:
            if (exclusion.applies(self.settings.mode, self.settings.implementation)
                    and exclusion.matches(name)):
                return exclusion
        return None

    # -- one class

    def _run_class(self, job: Job, cls: str, tests: list[str]) -> None:
        prefix = f"{job.module}.{cls}"
        left = tests
        for _ in range(self.settings.max_restarts):
            left = self._run_some(job, cls, left)
            if not left:
                break
        for test in left:
            self._put(f"{prefix}.{test}", "notrun", "too many restarts", job.group)
        with self._lock:
            mine = [r for name, r in self.results.items()
                    if name.startswith((prefix + ".", prefix + " "))
                    and r.outcome != "excluded"]
            bad = sum(r.outcome in BAD for r in mine)
            self.settings.progress(
                f"{'BAD' if bad else 'ok':4} {prefix}  {len(mine)} tests"
                + (f", {bad} bad" if bad else ""))

    def _run_some(self, job: Job, cls: str, tests: list[str]) -> list[str]:
        """Run tests of a class in one process; returns those still to be run."""
        prefix = f"{job.module}.{cls}"
        out = self._fresh("events")
        code, _, text = self._spawn(
            "run", {"module": job.module, "group": job.group, "class": cls, "tests": tests,
                    "out": str(out)},
            self.settings.class_timeout, self.settings.test_timeout)
        started, stopped, fixtures, ended = self._read_events(out, job.group)
        left = [test for test in tests if f"{prefix}.{test}" not in stopped]
        what, detail = _how_it_ended(code), f"exit code {code}\n{text[-6000:]}"
        if ended and code == 0:
            # A setUpModule or setUpClass that failed or skipped stands for its tests.
            for test in left:
                self._put(f"{prefix}.{test}", "skipped" if fixtures else "notrun",
                          "; ".join(fixtures), job.group)
            return []
        if ended:
            self._put(f"{prefix} (exit of the process)", what, detail, job.group)
            return []
        running = [name for name in started if name not in stopped]
        if running:
            self._put(running[-1], what, detail, job.group)
            return [test for test in left if f"{prefix}.{test}" != running[-1]]
        if started:
            self._put(f"{prefix} (between tests)", what, detail, job.group)
            return left
        if not fixtures:
            self._put(f"{prefix} (class)", what, detail, job.group)
        for test in left:
            self._put(f"{prefix}.{test}", "notrun", "", job.group)
        return []

    def _read_events(
            self, out: Path, group: str) -> tuple[dict[str, float], set[str], list[str], bool]:
        started: dict[str, float] = {}
        stopped: set[str] = set()
        fixtures: list[str] = []
        ended = False
        lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:      # cut off by a crash
                continue
            match event["event"]:
                case "start":
                    started[event["id"]] = event["time"]
                case "outcome":
                    self._put(event["id"], event["outcome"], event["detail"], group)
                    if " (" in event["id"]:
                        fixtures.append(f"{event['id']}: {event['outcome']}")
                case "stop":
                    stopped.add(event["id"])
                    with self._lock:
                        # Python 3.12.1 does not start a test that is skipped.
                        if event["id"] in self.results and event["id"] in started:
                            self.results[event["id"]].seconds = round(
                                event["time"] - started[event["id"]], 3)
                case "altered":
                    with self._lock:
                        self.altered.add(event["id"])
                case "end":
                    ended = True
        return started, stopped, fixtures, ended

    def _put(self, name: str, outcome: str, detail: str, group: str,
             seconds: float | None = None) -> None:
        with self._lock:
            old = self.results.get(name)
            if old is None or RANK[old.outcome] <= RANK[outcome]:
                self.results[name] = Result(outcome, detail, group, seconds)

    # -- processes

    def _fresh(self, kind: str) -> Path:
        with self._lock:
            self._files += 1
            return self._folder / f"{kind}{self._files}"

    def _environment(self, pool: bool) -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items()
                       if key not in ("PYTHONWARNINGS", "PYTHONPATH")}
        environment.update(
            CFSUITE_IMPL=self.settings.implementation, CFSUITE_MODE=self.settings.mode,
            CFSUITE_TESTS=str(self.settings.tests or ""), PYTHONDONTWRITEBYTECODE="1",
            PYTHONFAULTHANDLER="1", CFSUITE_POOL="1" if pool else "",
            PYTHONPATH=os.pathsep.join(
                [str(HERE / "inject")]
                + [os.path.abspath(path) for path in self.settings.implementation_path]))
        return environment

    def _spawn(self, verb: str, options: dict[str, object], limit: float,
               quiet: float | None = None) -> tuple[int | None, float, str]:
        """Run a worker: (exit code, or None when it hung; seconds; what it printed).

        `limit` bounds the whole run, `quiet` the time since its results last grew.
        """
        folder, log = self._fresh("cwd"), self._fresh("log")
        folder.mkdir()
        options = dict(options, mode=self.settings.mode, impl=self.settings.implementation,
                       long_timeout=self.settings.long_timeout)
        begun = time.monotonic()
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", str(HERE / "suite_worker.py"), verb,
                 json.dumps(options)],
                cwd=folder, env=self._environment(options["group"] == "pool"),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True)
            code = _wait(process, begun + limit, Path(str(options["out"])), quiet)
            if code is None:
                # Ask every process of the group for its traceback, then end the group.
                _kill_group(process.pid, signal.SIGABRT)
                time.sleep(1.0)
            # Also strays of a class that finished.
            _kill_group(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)
        return code, time.monotonic() - begun, log.read_text("utf-8", "replace")


def _wait(process: "subprocess.Popen[bytes]", deadline: float, out: Path,
          quiet: float | None) -> int | None:
    size, grew = -1, time.monotonic()
    while True:
        try:
            return process.wait(0.2)
        except subprocess.TimeoutExpired:
            pass
        now = time.monotonic()
        current = out.stat().st_size if out.exists() else 0
        if current != size:
            size, grew = current, now
        if now > deadline or (quiet is not None and now - grew > quiet):
            return None


def _kill_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _how_it_ended(code: int | None) -> str:
    return "hung" if code is None else "crashed" if code < 0 else "errored"
