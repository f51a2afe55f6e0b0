"""Names, signatures and documentation are those of the newest standard library."""
import inspect

import pytest
from testkit import PUBLIC, ours, stdlib_from

#: Bound signatures of CPython 3.15, written down.
SIGNATURES = {
    "wait": "(fs, timeout=None, return_when='ALL_COMPLETED')",
    "as_completed": "(fs, timeout=None)",
    "Future": "()",
    "Future.cancel": "()",
    "Future.cancelled": "()",
    "Future.running": "()",
    "Future.done": "()",
    "Future.result": "(timeout=None)",
    "Future.exception": "(timeout=None)",
    "Future.add_done_callback": "(fn)",
    "Future.set_running_or_notify_cancel": "()",
    "Future.set_result": "(result)",
    "Future.set_exception": "(exception)",
    "Executor": "()",
    "Executor.submit": "(fn, /, *args, **kwargs)",
    "Executor.map": "(fn, *iterables, timeout=None, chunksize=1, buffersize=None)",
    "Executor.shutdown": "(wait=True, *, cancel_futures=False)",
    "ThreadPoolExecutor":
        "(max_workers=None, thread_name_prefix='', initializer=None, initargs=())",
    "ThreadPoolExecutor.submit": "(fn, /, *args, **kwargs)",
    "ThreadPoolExecutor.map":
        "(fn, *iterables, timeout=None, chunksize=1, buffersize=None)",
    "ThreadPoolExecutor.shutdown": "(wait=True, *, cancel_futures=False)",
}


#: Keywords that cfutures adds.
ADDED = {"Executor.map": {"progress"}, "ThreadPoolExecutor.map": {"progress"}}


def signature_of(cf, name):
    """The signature as a caller sees it, without annotations."""
    owner, _, method = name.partition(".")
    target = getattr(cf.module, owner)
    if method:
        target = getattr(target(), method)
    signature = inspect.signature(target)
    parameters = [
        p.replace(annotation=p.empty) for p in signature.parameters.values()
        # From 3.14 on it hands unknown keywords to a private hook, to be refused there.
        if p.name != "ctxkwargs"
        and not (cf.implementation == "cfutures" and p.name in ADDED.get(name, ()))]
    return str(signature.replace(parameters=parameters,
                                 return_annotation=signature.empty))


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=stdlib_from(3, 14, "map() has no buffersize before"))
    if name.endswith(".map") else name for name in SIGNATURES])
def test_signature(cf, name):
    assert signature_of(cf, name) == SIGNATURES[name]


@pytest.mark.parametrize("name", ADDED)
@ours("these are additions of cfutures")
def test_additions_are_by_keyword_only(cf, name):
    owner, _, method = name.partition(".")
    parameters = inspect.signature(getattr(getattr(cf.module, owner)(), method)).parameters
    for added in ADDED[name]:
        assert parameters[added].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", [n for n in SIGNATURES if n.startswith(("Future.", "Thread"))
                                  and "." in n])
def test_unknown_keywords_are_refused(cf, name):
    """inspect may be told anything: what reads the arguments must agree with it."""
    owner, _, method = name.partition(".")
    instance = getattr(cf.module, owner)()
    call = getattr(instance, method)
    parameters = inspect.signature(call).parameters.values()
    needed = {p.name: None for p in parameters
              if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}
    if method == "submit":
        with pytest.raises(TypeError, match="fn"):
            call(no_such_parameter=1)
    else:
        with pytest.raises(TypeError, match="keyword"):
            call(**needed, no_such_parameter=1)


@pytest.mark.parametrize("name", ["add_done_callback", "set_result", "set_exception"])
def test_arguments_may_be_given_by_name(cf, name):
    future = cf.Future()
    parameter, value = {"add_done_callback": ("fn", print), "set_result": ("result", 1),
                        "set_exception": ("exception", ValueError())}[name]
    assert getattr(future, name)(**{parameter: value}) is None


def test_functions_take_their_arguments_by_name(cf):
    done = cf.Future()
    done.set_result(1)
    assert cf.wait(fs=[done], timeout=1, return_when="ALL_COMPLETED").done == {done}
    assert list(cf.as_completed(fs=[done], timeout=1)) == [done]
    with cf.ThreadPoolExecutor(max_workers=1, thread_name_prefix="n", initializer=None,
                               initargs=()) as executor:
        assert list(executor.map(fn=int)) == []
        executor.shutdown(wait=False, cancel_futures=True)


@pytest.mark.parametrize("name", [
    "wait", "as_completed", "Future", "Future.cancel", "Future.cancelled", "Future.running",
    "Future.done", "Future.result", "Future.exception", "Future.add_done_callback",
    "Future.set_running_or_notify_cancel", "Future.set_result", "Future.set_exception",
    "Executor", "Executor.submit", "Executor.map", "Executor.shutdown",
    "ThreadPoolExecutor.__init__", "ThreadPoolExecutor.submit", "ThreadPoolExecutor.map",
    "ThreadPoolExecutor.shutdown", "CancelledError", "InvalidStateError", "BrokenExecutor"])
def test_documentation_is_there(cf, name):
    owner, _, method = name.partition(".")
    target = getattr(cf.module, owner)
    target = getattr(target, method) if method else target
    assert len(inspect.getdoc(target)) > 20


@ours("the standard library leaves some of these without documentation")
@pytest.mark.parametrize("name", ["ThreadPoolExecutor", "install", "uninstall"])
def test_documentation_of_ours(cf, name):
    assert len(inspect.getdoc(getattr(cf.module, name))) > 20


def test_public_names(cf):
    # Older versions forgot InvalidStateError in __all__.
    assert set(PUBLIC) - {"InvalidStateError"} <= set(dir(cf.module))
    assert set(PUBLIC) - {"InvalidStateError"} <= set(cf.module.__all__)
    namespace = {}
    exec(f"from {cf.module.__name__} import *", namespace)
    assert namespace["Future"] is cf.Future


def test_constants(cf):
    assert cf.FIRST_COMPLETED == "FIRST_COMPLETED"
    assert cf.FIRST_EXCEPTION == "FIRST_EXCEPTION"
    assert cf.ALL_COMPLETED == "ALL_COMPLETED"


def test_class_names(cf):
    assert cf.Future.__name__ == cf.Future.__qualname__ == "Future"
    assert cf.Executor.__name__ == "Executor"
    assert cf.ThreadPoolExecutor.__name__ == "ThreadPoolExecutor"


@ours("says where our classes come from")
def test_modules_of_classes_are_importable_places(cf):
    import importlib
    for name in ("Future", "Executor", "ThreadPoolExecutor", "wait", "as_completed"):
        thing = getattr(cf.module, name)
        assert thing.__module__.startswith("cfutures")
        home = importlib.import_module(thing.__module__)
        assert getattr(home, thing.__name__) is thing


def test_exception_family(cf):
    import concurrent.futures as standard
    assert issubclass(cf.CancelledError, standard.CancelledError)
    assert issubclass(cf.InvalidStateError, standard.InvalidStateError)
    assert issubclass(cf.BrokenExecutor, standard.BrokenExecutor)
    assert issubclass(cf.BrokenThreadPool, cf.BrokenExecutor)
    assert issubclass(cf.BrokenThreadPool, standard.thread.BrokenThreadPool)
    assert issubclass(cf.BrokenExecutor, RuntimeError)
    assert cf.TimeoutError is TimeoutError
    # A handler for the standard exception must catch ours, and the other way round.
    assert issubclass(standard.CancelledError, cf.CancelledError)


def test_private_names_that_others_import(cf):
    for name in ("LOGGER", "PENDING", "RUNNING", "CANCELLED", "CANCELLED_AND_NOTIFIED",
                 "FINISHED", "Future", "Executor", "BrokenExecutor", "Error",
                 "_STATE_TO_DESCRIPTION_MAP", "DoneAndNotDoneFutures"):
        assert hasattr(cf._base, name), name
    assert cf._base.LOGGER.name == "concurrent.futures"
    assert cf._base.PENDING == "PENDING"
