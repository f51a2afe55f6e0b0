"""Makes `concurrent.futures` the implementation that is tested, and finds the tests.

Runs at the start of every interpreter of a conformance run, told what to do by
CFSUITE_* variables.  Mode "substitute" puts a finder first on sys.meta_path: from
its first import on `concurrent.futures` IS the implementation (for asyncio too) and
`concurrent.futures._base`, `.thread` and `.process` are its submodules.  While the
implementation itself is being imported it sees the real package, whose classes it
subclasses.  Mode "install" calls the implementation's own install().  For the tests of
Pool (CFSUITE_POOL) multiprocessing.Pool() and its like make the implementation's.
"""
import importlib
import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location

IMPL = os.environ.get("CFSUITE_IMPL", "concurrent.futures")
MODE = os.environ.get("CFSUITE_MODE", "")
TESTS = os.environ.get("CFSUITE_TESTS", "")
POOL = bool(os.environ.get("CFSUITE_POOL"))

CF = "concurrent.futures"
NAMES = (CF, f"{CF}._base", f"{CF}.thread", f"{CF}.process")
TEST_PACKAGE = "test.test_concurrent_futures"

real = {}           # name -> the real module, once something needed it
substituted = {}    # name -> what the name is for the tests
depth = 0           # > 0 while the implementation is importing


def _point_package_at_current():
    package = sys.modules.get("concurrent")
    if package is not None and CF in sys.modules:
        package.futures = sys.modules[CF]


def enter_implementation():
    """From here to leave_implementation() concurrent.futures is the real one."""
    global depth
    depth += 1
    if depth == 1:
        for name in NAMES:
            if name in sys.modules:
                substituted[name] = sys.modules.pop(name)
        sys.modules.update(real)
        _point_package_at_current()


def leave_implementation():
    global depth
    depth -= 1
    if depth == 0:
        for name in NAMES:
            if name in sys.modules:
                real[name] = sys.modules.pop(name)
        sys.modules.update(substituted)
        _point_package_at_current()


class SubstituteLoader:
    """Puts a module of the implementation under a concurrent.futures name."""

    def __init__(self, name):
        self.name = name

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        if self.name != CF:
            importlib.import_module(CF)
        target = importlib.import_module(IMPL + self.name.removeprefix(CF))
        substituted[self.name] = sys.modules[self.name] = target


class ImplementationLoader:
    """Wraps a loader of the implementation: it imports the real concurrent.futures."""

    def __init__(self, loader):
        self.loader = loader

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        enter_implementation()
        try:
            return self.loader.create_module(spec)
        finally:
            leave_implementation()

    def exec_module(self, module):
        enter_implementation()
        try:
            self.loader.exec_module(module)
        finally:
            leave_implementation()
            module.__spec__.loader = module.__loader__ = self.loader


class SubstituteFinder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in NAMES and depth == 0:
            return ModuleSpec(name, SubstituteLoader(name), is_package=(name == CF))
        if name == IMPL or name.startswith(IMPL + "."):
            spec = _find_without(cls, name, path, target)
            if spec is not None and hasattr(spec.loader, "exec_module"):
                spec.loader = ImplementationLoader(spec.loader)
            return spec
        return None


def _find_without(skipped, name, path, target):
    for finder in sys.meta_path:
        if finder is skipped or not hasattr(finder, "find_spec"):
            continue
        spec = finder.find_spec(name, path, target)
        if spec is not None:
            return spec
    return None


class TestLoader(SourceFileLoader):
    """Loads a module of CPython's tests; never writes byte code beside it."""

    def get_code(self, fullname):
        source = self.get_data(self.path).decode("utf-8")
        if sys.version_info < (3, 13):
            # One test of the 3.13 package blocks thread starts by this name.
            source = source.replace("_start_joinable_thread", "_start_new_thread")
        return compile(source, self.path, "exec", dont_inherit=True)

    def exec_module(self, module):
        if module.__name__ == TEST_PACKAGE:
            _complete_test_support()
        super().exec_module(module)


def _complete_test_support():
    """A newer test package on an older interpreter: what test.support lacks."""
    import inspect
    import unittest

    from test import support
    if not hasattr(support, "Py_GIL_DISABLED"):
        support.Py_GIL_DISABLED = False
    if not hasattr(support, "requires_gil_enabled"):
        support.requires_gil_enabled = lambda msg=None: (lambda test: test)
    if not hasattr(os, "process_cpu_count"):
        os.process_cpu_count = os.cpu_count
    if "thread" not in inspect.signature(support.skip_if_sanitizer).parameters:
        support.skip_if_sanitizer = lambda *args, **kwargs: (lambda test: test)
    if "thread" not in inspect.signature(support.check_sanitizer).parameters:
        support.check_sanitizer = lambda **kwargs: False
    if not hasattr(unittest, "addModuleCleanup"):
        unittest.addModuleCleanup = lambda *args, **kwargs: None


def _spec_in_tests(name):
    base = os.path.join(TESTS, *name.split(".")[1:])
    file = os.path.join(base, "__init__.py")
    if os.path.isfile(file):
        return spec_from_file_location(name, file, loader=TestLoader(name, file),
                                       submodule_search_locations=[base])
    file = base + ".py"
    if os.path.isfile(file):
        return spec_from_file_location(name, file, loader=TestLoader(name, file))
    return None


class SuiteFinder:
    """First: the tests of concurrent.futures come from the chosen directory."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        return _spec_in_tests(name) if name.startswith(TEST_PACKAGE) else None


class MissingTestsFinder:
    """Last: what the interpreter's own test package lacks comes from there too."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        return _spec_in_tests(name) if name.partition(".")[0] == "test" else None


if TESTS:
    sys.meta_path.insert(0, SuiteFinder)
    sys.meta_path.append(MissingTestsFinder)
if IMPL != CF and MODE == "substitute":
    sys.meta_path.insert(0, SubstituteFinder)
elif IMPL != CF and MODE == "install":
    importlib.import_module(IMPL).install()

if POOL and IMPL != CF:
    # multiprocessing and its contexts look the class up there at each call.
    import multiprocessing.pool

    implementation = importlib.import_module(IMPL)
    multiprocessing.pool.Pool = implementation.Pool
    multiprocessing.pool.ThreadPool = implementation.ThreadPool
