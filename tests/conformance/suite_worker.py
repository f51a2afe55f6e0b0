"""One process of a conformance run: lists the tests of a module, or runs a class of it.

    python suite_worker.py list|run '<options as JSON>'

Started by suite_driver with the interpreter that is tested.  Options: module, out
(the file that results go to), mode, impl, long_timeout (seconds); for `run` also
class and tests (method names).  `list` writes {"tests": {class: [method]},
"resolves": text}; `run` appends one JSON object a line, an event each, so that the
driver knows which test was running when a process crashed or hung.
"""
import faulthandler
import importlib
import json
import os
import sys
import time
import traceback
import types
import unittest


def set_up_support(options):
    faulthandler.enable()
    from test import support
    from test.support import script_helper
    # The scripts that tests start must see PYTHONPATH: no -I, no -E.
    setattr(script_helper, "__cached_interp_requires_environment", True)
    support.LONG_TIMEOUT = min(getattr(support, "LONG_TIMEOUT", 300.0),
                               options["long_timeout"])
    support.verbose = 0
    return support


def import_tests(options):
    if options["mode"] != "beside":
        return importlib.import_module(options["module"])
    # concurrent.futures stays what it is; tests and event loops get our classes.
    module = importlib.import_module(options["module"])
    implementation = importlib.import_module(options["impl"])
    if hasattr(module, "concurrent"):
        module.concurrent = types.SimpleNamespace(futures=implementation)
    from asyncio import base_events
    original = base_events.BaseEventLoop.run_in_executor

    def run_in_executor(self, executor, func, *args):
        if executor is None and self._default_executor is None:
            self.set_default_executor(
                implementation.ThreadPoolExecutor(thread_name_prefix="asyncio"))
        return original(self, executor, func, *args)

    if "test_base_events" not in options["module"]:
        base_events.BaseEventLoop.run_in_executor = run_in_executor
    return module


def list_tests(options):
    set_up_support(options)
    module = import_tests(options)
    found = {}
    for cls in vars(module).values():
        if (isinstance(cls, type) and issubclass(cls, unittest.TestCase)
                and cls.__module__ == module.__name__
                and getattr(module, cls.__name__, None) is cls):
            names = unittest.TestLoader().getTestCaseNames(cls)
            if names:
                found[cls.__name__] = list(names)
    import concurrent.futures as futures
    resolves = (f"{futures.__name__}: Future is {futures.Future.__module__}."
                f"{futures.Future.__qualname__}, from {getattr(futures, '__file__', None)}")
    with open(options["out"], "w", encoding="utf-8") as file:
        json.dump({"tests": found, "resolves": resolves}, file)


class EventResult(unittest.TestResult):
    """Reports each outcome as an event, at once."""

    def __init__(self, emit, support):
        super().__init__()
        self.emit = emit
        self.support = support
        self.bad = False

    @staticmethod
    def name(test):
        return test.id() if hasattr(test, "id") else str(test)

    def outcome(self, test, outcome, detail=""):
        self.emit(event="outcome", id=self.name(test), outcome=outcome,
                  detail=detail[-6000:])

    def failed(self, test, outcome, err, prefix=""):
        self.bad = True
        self.outcome(test, outcome, prefix + "".join(traceback.format_exception(*err)))

    def startTest(self, test):
        super().startTest(test)
        self.bad = False
        self.emit(event="start", id=self.name(test), time=time.time())

    def stopTest(self, test):
        if getattr(self.support, "environment_altered", False):
            self.emit(event="altered", id=self.name(test))
            self.support.environment_altered = False
        self.emit(event="stop", id=self.name(test), time=time.time())
        super().stopTest(test)

    def addSuccess(self, test):
        if not self.bad:
            self.outcome(test, "passed")

    def addFailure(self, test, err):
        self.failed(test, "failed", err)

    def addError(self, test, err):
        self.failed(test, "errored", err)

    def addSkip(self, test, reason):
        self.outcome(test, "skipped", reason)

    def addExpectedFailure(self, test, err):
        self.outcome(test, "passed", "expected failure")

    def addUnexpectedSuccess(self, test):
        self.outcome(test, "failed", "unexpected success")

    def addSubTest(self, test, subtest, err):
        if err is not None:
            kind = "failed" if issubclass(err[0], test.failureException) else "errored"
            self.failed(test, kind, err, f"{subtest}\n")


def run_tests(options):
    support = set_up_support(options)
    out = os.open(options["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def emit(**event):
        os.write(out, (json.dumps(event) + "\n").encode())

    try:
        module = import_tests(options)
    except BaseException:
        emit(event="outcome", id=options["module"] + " (import)", outcome="errored",
             detail=traceback.format_exc()[-6000:])
        raise
    cls = getattr(module, options["class"])
    suite = unittest.TestSuite(cls(name) for name in options["tests"])
    suite.run(EventResult(emit, support))
    if getattr(support, "environment_altered", False):
        emit(event="altered", id=f"{options['module']}.{options['class']} (class end)")
    emit(event="end")


if __name__ == "__main__":
    {"list": list_tests, "run": run_tests}[sys.argv[1]](json.loads(sys.argv[2]))
