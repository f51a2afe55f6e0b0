"""python -m cfutures: run a program, unmodified, with concurrent.futures in C."""
from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import os
import pkgutil
import sys
from collections.abc import Callable
from types import CodeType, ModuleType, TracebackType
from typing import Any, NoReturn

import cfutures
from cfutures import _install

HELP = """\
usage: python -m cfutures [-h | -V] (script.py | folder | -m module | -c code | -) [args ...]

Run a Python program in which `concurrent.futures` gives cfutures' thread pool,
futures, wait() and as_completed().  The program sees its own sys.argv, sys.path
and __main__, as if python itself had been given the same arguments.

  script.py    a file, or a folder or zip file that has a __main__.py
  -m module    a module or package, looked up on sys.path
  -c code      a string
  -            standard input
  -h, --help   print this and exit
  -V, --version
               print the version and exit

Processes that the program starts by spawn or forkserver import it anew; they get the
standard concurrent.futures.
"""


class _Program:
    """The code to run, and what its __main__ module and sys are to look like."""

    def __init__(self, code: CodeType, argv: list[str], *, path0: str | None = None,
                 **attributes: Any) -> None:
        self.code = code
        self.argv = argv
        self.path0 = path0              # None: what python -m cfutures had
        self.attributes = attributes    # of the module, such as __file__


def main(arguments: list[str] | None = None) -> None:
    """Run the program that the arguments (default: sys.argv[1:]) ask for.

    Returns when it has come to its end; what it raises comes out, SystemExit included.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    option, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    _install.replace_names()
    if option in ("-h", "--help"):
        print(HELP, end="")
    elif option in ("-V", "--version"):
        print(f"cfutures {cfutures.__version__}, Python {sys.version.split()[0]}")
    elif option in ("-m", "-c"):
        if not rest:
            _usage_error(f"Argument expected for the {option} option")
        load = _module if option == "-m" else _string
        _run(load(rest[0], rest[1:]))
    elif option == "-":
        _run(_standard_input(rest))
    elif not option or option.startswith("-"):
        _usage_error(f"Unknown option: {option}" if option else "a program is missing")
    else:
        _run(_path(option, rest))


def _usage_error(message: str) -> NoReturn:
    print(f"cfutures: {message}\n{HELP.splitlines()[0]}", file=sys.stderr)
    sys.exit(2)


def _fail(message: str, status: int) -> NoReturn:
    print(f"{sys.executable}: {message}", file=sys.stderr)
    sys.exit(status)


def _run(program: _Program) -> None:
    # A module of its own, kept after the end: tasks still queued then, and whatever
    # pickles by name, must find the program in sys.modules["__main__"].
    module = ModuleType("__main__")
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    module.__dict__.update(
        {"__builtins__": __builtins__, "__spec__": None, "__loader__": None,
         "__package__": None, **program.attributes})
    sys.modules["__main__"] = module
    sys.argv[:] = program.argv
    if program.path0 is not None and not sys.flags.safe_path:
        sys.path[0] = program.path0
    try:
        exec(program.code, module.__dict__)
    except SystemExit:
        raise
    except BaseException:
        _hide_own_frames()
        raise


def _hide_own_frames() -> None:
    """Print the traceback that leaves the program as python would: without our frames."""
    hook: Callable[..., object] = sys.excepthook
    own = {__file__, _module.__code__.co_filename, "<frozen runpy>"}

    def excepthook(kind: type[BaseException], value: BaseException,
                   traceback: TracebackType | None) -> None:
        while traceback is not None and traceback.tb_frame.f_code.co_filename in own:
            traceback = traceback.tb_next
        hook(kind, value.with_traceback(traceback), traceback)

    sys.excepthook = excepthook


def _string(code: str, rest: list[str]) -> _Program:
    return _Program(_compile(code, "<string>"), ["-c", *rest], path0="")


def _standard_input(rest: list[str]) -> _Program:
    return _Program(_compile(sys.stdin.buffer.read(), "<stdin>"), ["-", *rest], path0="",
                    __file__="<stdin>")


def _compile(source: str | bytes, name: str) -> CodeType:
    try:
        return compile(source, name, "exec", dont_inherit=True)
    except BaseException:
        _hide_own_frames()
        raise


def _path(path: str, rest: list[str]) -> _Program:
    file = os.path.join(os.getcwd(), path)
    importer = pkgutil.get_importer(file)
    if importer is not None:
        # A folder or a zip file: its __main__ is run, with imports from inside it.
        return _of_spec(importer.find_spec("__main__"), file, [path, *rest], path0=file)
    try:
        with io.open_code(file) as stream:
            source = stream.read()
    except OSError as error:
        _fail(f"can't open file {file!r}: [Errno {error.errno}] {error.strerror}", 2)
    loader: importlib.machinery.SourcelessFileLoader | importlib.machinery.SourceFileLoader
    if source.startswith(importlib.util.MAGIC_NUMBER):
        loader = importlib.machinery.SourcelessFileLoader("__main__", file)
        code = loader.get_code("__main__")
        assert code is not None
    else:
        loader = importlib.machinery.SourceFileLoader("__main__", file)
        code = _compile(source, file)
    return _Program(code, [path, *rest], path0=os.path.dirname(os.path.realpath(file)),
                    __file__=file, __loader__=loader, __cached__=None)


def _module(name: str, rest: list[str]) -> _Program:
    # As python -m does: while parents of the module are imported, argv[0] is "-m".
    sys.argv[:] = ["-m", *rest]
    spec = _find(name)
    if spec is not None and spec.submodule_search_locations is not None:
        # A package: its __main__ is run.
        package, name = name, name + ".__main__"
        spec = _find(name)
        if spec is None:
            _fail(f"No module named {name}; {package!r} is a package and cannot be "
                  "directly executed", 1)
    return _of_spec(spec, name, rest)


def _find(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            _hide_own_frames()      # the package itself misses something
            raise
        _fail(f"Error while finding module specification for {name!r} "
              f"({type(error).__name__}: {error})", 1)
    except BaseException:
        _hide_own_frames()
        raise


def _of_spec(spec: importlib.machinery.ModuleSpec | None, name: str, rest: list[str], *,
             path0: str | None = None) -> _Program:
    if spec is None:
        what = f"can't find '__main__' module in {name!r}" if path0 else \
            f"No module named {name}"
        _fail(what, 1)
    get_code = getattr(spec.loader, "get_code", None)
    code = get_code(spec.name) if get_code is not None else None
    if code is None:
        _fail(f"No code object available for {name}", 1)
    argv = rest if path0 else [spec.origin or name, *rest]
    return _Program(code, argv, path0=path0, __file__=spec.origin, __loader__=spec.loader,
                    __cached__=spec.cached, __package__=spec.parent, __spec__=spec)


if __name__ == "__main__":
    main()
