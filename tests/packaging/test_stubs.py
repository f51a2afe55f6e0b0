"""_core.pyi says what the extension has: the same names, with the same parameters."""
import ast
import inspect
import subprocess
import sys
from inspect import Parameter
from pathlib import Path

import pytest
from cfutures import _core

PACKAGE = Path(__file__).resolve().parents[2] / "pyfutures" / "cfutures"
STUB = ast.parse((PACKAGE / "_core.pyi").read_text(encoding="utf-8"))

# Type checkers alone use these.
ONLY_IN_STUB = {"_T", "_F", "_P", "_DoneAndNotDone"}
# What every type has, and signatures that C does not tell.
NOT_COMPARED = {"__new__", "__init__", "__call__", "__class_getitem__"}


def declared(body):
    """Name -> its node, of the classes, functions and variables of a body."""
    names = {}
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names[node.name] = node
        elif isinstance(node, ast.AnnAssign):
            names[node.target.id] = node
    return names


def shape_of_stub(function, *, method):
    """Parameters as (name, kind, has a default), without self."""
    spec = function.args
    shape = []
    plain = [(arg, Parameter.POSITIONAL_ONLY) for arg in spec.posonlyargs]
    plain += [(arg, Parameter.POSITIONAL_OR_KEYWORD) for arg in spec.args]
    first_default = len(plain) - len(spec.defaults)
    shape += [(arg.arg, kind, number >= first_default)
              for number, (arg, kind) in enumerate(plain)]
    if spec.vararg:
        shape.append((spec.vararg.arg, Parameter.VAR_POSITIONAL, False))
    shape += [(arg.arg, Parameter.KEYWORD_ONLY, default is not None)
              for arg, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    if spec.kwarg:
        shape.append((spec.kwarg.arg, Parameter.VAR_KEYWORD, False))
    return shape[1:] if method else shape


def shape_of_runtime(function, *, method):
    shape = [(p.name, p.kind, p.default is not Parameter.empty)
             for p in inspect.signature(function).parameters.values()]
    return shape[1:] if method else shape


def runtime_names(names):
    """Those that the extension made, without what every module or type has."""
    return {name for name in names if not (name.startswith("__") and name.endswith("__"))}


CLASSES = {name: node for name, node in declared(STUB.body).items()
           if isinstance(node, ast.ClassDef) and name not in ONLY_IN_STUB}
METHODS = [(cls, name) for cls, node in CLASSES.items()
           for name, member in declared(node.body).items()
           if isinstance(member, ast.FunctionDef) and name not in NOT_COMPARED]
FUNCTIONS = [name for name, node in declared(STUB.body).items()
             if isinstance(node, ast.FunctionDef)]


def test_the_stub_names_what_the_module_has():
    assert set(declared(STUB.body)) - ONLY_IN_STUB == runtime_names(vars(_core))


@pytest.mark.parametrize("cls", CLASSES)
def test_the_stub_names_what_the_type_has(cls):
    stub = runtime_names(declared(CLASSES[cls].body))
    assert stub == runtime_names(vars(getattr(_core, cls)))


@pytest.mark.parametrize(("cls", "name"), METHODS)
def test_methods_have_the_parameters_of_the_stub(cls, name):
    node = declared(CLASSES[cls].body)[name]
    assert shape_of_runtime(getattr(getattr(_core, cls), name), method=True) == \
        shape_of_stub(node, method=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_the_parameters_of_the_stub(name):
    assert shape_of_runtime(getattr(_core, name), method=False) == \
        shape_of_stub(declared(STUB.body)[name], method=False)


TYPED_PROGRAM = '''
import concurrent.futures as standard
from typing import assert_type

from cfutures import Executor, Future, ThreadPoolExecutor, as_completed, wait

def task(number: int, text: str = "") -> float:
    return 1.0

with ThreadPoolExecutor(2) as pool:
    future = pool.submit(task, 1, text="x")
    assert_type(future, Future[float])
    assert_type(future.result(), float)
    for each in as_completed([future]):
        assert_type(each, Future[float])
    done, not_done = wait([future], timeout=1)
    assert_type(done, set[Future[float]])
    assert_type(list(pool.map(task, [1], ["a"], buffersize=2)), list[float])
    pool.submit(task, "wrong")  # type: ignore[arg-type]
    future.set_result("wrong")  # type: ignore[arg-type]

def callback(done: standard.Future[float]) -> None: ...

future.add_done_callback(callback)
as_standard: standard.Future[float] = future
executors: list[standard.Executor] = [pool]
thread_pool: standard.ThreadPoolExecutor = pool
ours: Executor = pool

async def main() -> float:
    return await future
'''


def mypy(*arguments, cwd):
    pytest.importorskip("mypy", reason="mypy is not installed (make lint runs it)")
    return subprocess.run([sys.executable, "-m", "mypy", "--cache-dir", str(cwd / "cache"),
                           *arguments], cwd=cwd, capture_output=True, text=True)


def test_a_typed_program_is_understood(tmp_path):
    (tmp_path / "program.py").write_text(TYPED_PROGRAM)
    run = mypy("--strict", "program.py", cwd=tmp_path)
    assert run.returncode == 0, run.stdout


def test_the_package_passes_strict_mypy(tmp_path):
    run = mypy("--strict", "--config-file", str(PACKAGE.parents[1] / "pyproject.toml"),
               str(PACKAGE), cwd=tmp_path)
    assert run.returncode == 0, run.stdout
