"""What a conformance run consists of: where CPython's tests are, which are run."""
import fnmatch
import os
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
GROUPS = ("cf", "asyncio", "extra", "pool")
MODES = ("substitute", "install", "beside")


@dataclass(frozen=True)
class Job:
    """A test module; of it the classes and tests that the patterns find (None: all)."""

    group: str
    module: str
    classes: str | None = None
    tests: str | None = None

    def wants(self, cls: str, test: str) -> bool:
        return ((self.classes is None or re.search(self.classes, cls) is not None)
                and (self.tests is None or re.search(self.tests, f"{test} {cls}") is not None))


ASYNCIO = (
    Job("asyncio", "test.test_asyncio.test_futures"),
    Job("asyncio", "test.test_asyncio.test_threads"),
    Job("asyncio", "test.test_asyncio.test_tasks", "RunCoroutineThreadsafeTests"),
    Job("asyncio", "test.test_asyncio.test_base_events", None,
        "executor|getaddrinfo|getnameinfo|default_exec"),
    Job("asyncio", "test.test_asyncio.test_events", None,
        "executor|new_process|threadsafe|add_fds_after_closing|RunningLoop"),
    Job("asyncio", "test.test_asyncio.test_runners", None, "executor|signal_|shutdown"),
)
EXTRA = (
    Job("extra", "test.test_context", "ContextTest", "threads"),
    Job("extra", "test.test_genericalias", "BaseTest"),
    Job("extra", "test.test_compileall", None, "workers|multiple_dirs|force"),
    Job("extra", "test.test_inspect.test_inspect", None,
        "builtins_have_signatures|concurrent|module_state"),
)
PARTS = ("AsCompleted", "Deadlock", "Init", "Shutdown", "Wait")


def python_version() -> str:
    """Such as 3.13."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


class NoTests(Exception):
    """CPython's tests of concurrent.futures are nowhere to be found."""


def _has_tests(folder: Path) -> bool:
    return ((folder / "test_concurrent_futures.py").is_file()
            or (folder / "test_concurrent_futures" / "__init__.py").is_file())


def find_tests(chosen: str | None = None) -> Path:
    """The folder that holds test_concurrent_futures for this interpreter.

    Looked for in `chosen`, then $CFUTURES_CPYTHON_TESTS, then the interpreter's own
    test package, then where Debian has it for the same minor version.
    Raises NoTests with one line that says what to install, FileNotFoundError if the
    folder that was chosen has no tests.
    """
    chosen = chosen or os.environ.get("CFUTURES_CPYTHON_TESTS")
    if chosen:
        folder = Path(chosen).resolve()
        if not _has_tests(folder):
            raise FileNotFoundError(f"no test_concurrent_futures in {folder}")
        return folder
    minor = python_version()
    candidates = [Path("/usr/lib") / f"python{minor}" / "test"]
    try:
        import test
    except ImportError:
        pass
    else:
        candidates[:0] = [Path(folder) for folder in test.__path__]
    for folder in candidates:
        if _has_tests(folder):
            return folder
    raise NoTests(
        f"Python {minor} is here without CPython's test_concurrent_futures: install "
        f"libpython{minor}-testsuite (Debian) or point CFUTURES_CPYTHON_TESTS at a folder "
        "that has it")


def _pool_jobs(tests: Path) -> list[Job]:
    """What of the tests of multiprocessing speaks of Pool, for each start method."""
    jobs = []
    for method in ("fork", "forkserver", "spawn"):
        module = f"test_multiprocessing_{method}"
        # One file up to 3.11.
        parts = sorted(file.stem for file in (tests / module).glob("test_*.py"))
        for name in [f"{module}.{part}" for part in parts] or [module]:
            jobs.append(Job("pool", f"test.{name}", None, "[Pp]ool"))
    return jobs


def plan(tests: Path | None, groups: tuple[str, ...] = GROUPS) -> list[Job]:
    """The jobs of the groups, in order.

    `tests` is what find_tests() returned; None leaves out the groups cf and pool.
    """
    jobs: list[Job] = []
    if "cf" in groups and tests is not None:
        package = tests / "test_concurrent_futures"
        if package.is_dir():
            jobs += [Job("cf", f"test.test_concurrent_futures.{file.stem}")
                     for file in sorted(package.glob("test_*.py"))]
        else:
            # One file up to 3.11: taken in parts, as later versions have it.
            rest = f"^(?!.*({'|'.join(PARTS)}))"
            jobs += [Job("cf", "test.test_concurrent_futures", part)
                     for part in (*PARTS, rest)]
    if "asyncio" in groups:
        jobs += ASYNCIO
    if "extra" in groups:
        jobs += EXTRA
    if "pool" in groups and tests is not None:
        jobs += _pool_jobs(tests)
    return jobs


@dataclass(frozen=True)
class Exclusion:
    """A pattern of test names that are not run, and why."""

    pattern: str
    reason: str
    modes: tuple[str, ...] = MODES
    implementations: tuple[str, ...] = ("cfutures",)
    python: str = ""

    def applies(self, mode: str, implementation: str) -> bool:
        return (mode in self.modes and implementation in self.implementations
                and (not self.python or self.python == python_version()))

    def matches(self, test: str) -> bool:
        return fnmatch.fnmatchcase(test, self.pattern)


def load_exclusions(file: Path = HERE / "exclusions.toml") -> list[Exclusion]:
    """Every [[exclude]] table of the file; a missing reason is an error."""
    with open(file, "rb") as source:
        tables = tomllib.load(source).get("exclude", [])
    exclusions = [
        Exclusion(**{key: tuple(value) if isinstance(value, list) else value
                     for key, value in table.items()})
        for table in tables]
    for exclusion in exclusions:
        if not exclusion.reason.strip():
            raise ValueError(f"an exclusion without a reason: {exclusion.pattern}")
    return exclusions
