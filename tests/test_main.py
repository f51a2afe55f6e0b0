"""`python -m cfutures program args…` behaves as `python program args…`, on our pool.

Plain Python is the oracle: each program runs both ways, and output, error output and
exit status must be equal.
"""
import os
import re
import signal
import subprocess
import sys
import zipfile

import pytest
from testkit import GUARD

WHO = """\
import sys
from concurrent.futures import ThreadPoolExecutor
print(ThreadPoolExecutor.__module__)
"""

PROGRAM = """\
\"\"\"The docstring.\"\"\"
import sys, os
import concurrent.futures as cf
print(__name__, __file__, __doc__, __package__, __cached__)
print(__spec__ and (__spec__.name, __spec__.origin, __spec__.cached))
print(type(__loader__).__name__, getattr(__loader__, "path", None))
print(sys.argv, sys.path[:2])
main = sys.modules["__main__"]
print(main.__dict__ is globals(), sorted(k for k in globals() if k.startswith("__")))
def double(x):
    return 2 * x
print(double.__module__)
with cf.ThreadPoolExecutor(2) as pool:
    print(list(pool.map(double, range(3))))
"""


def python(*arguments, folder, **options):
    environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    environment.pop("PYTHONPATH", None)
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, text=True,
                          capture_output=True, timeout=GUARD, **options)


def both(*arguments, folder, flags=(), **options):
    """The same arguments given to plain Python and to python -m cfutures."""
    plain = python(*flags, *arguments, folder=folder, **options)
    ours = python(*flags, "-m", "cfutures", *arguments, folder=folder, **options)
    return plain, ours


def same(plain, ours):
    # Python names itself in messages: by the name it was called with, or in full.
    def normal(text):
        return re.sub(r"^\S*python[\w.-]*: ", "python: ", text, flags=re.M)
    assert normal(ours.stderr) == normal(plain.stderr)
    assert ours.stdout == plain.stdout
    assert ours.returncode == plain.returncode


def test_a_script_gets_our_pool(tmp_path):
    (tmp_path / "who.py").write_text(WHO)
    plain, ours = both("who.py", folder=tmp_path)
    assert (plain.stdout, ours.stdout) == ("concurrent.futures.thread\n", "cfutures.thread\n")


@pytest.mark.parametrize("name", ["program.py", "./program.py", "sub/program.py"])
def test_a_script_sees_what_python_would_show_it(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(PROGRAM)
    same(*both(name, "--help", "-m", "two words", folder=tmp_path))


def test_a_script_in_another_encoding_is_read_as_it_declares(tmp_path):
    (tmp_path / "latin.py").write_bytes(
        b"# -*- coding: latin-1 -*-\nprint(ascii('\xe9'))\n")
    same(*both("latin.py", folder=tmp_path))


def test_a_script_behind_a_symbolic_link_imports_from_its_real_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "program.py").write_text(
        "import sys; import beside; print(sys.path[0])")
    (tmp_path / "real" / "beside.py").write_text("")
    (tmp_path / "link.py").symlink_to(tmp_path / "real" / "program.py")
    plain, ours = both("link.py", folder=tmp_path)
    same(plain, ours)
    assert ours.stdout == f"{tmp_path / 'real'}\n"


@pytest.mark.parametrize("module", ["program", "package", "package.part"])
def test_a_module_sees_what_python_would_show_it(tmp_path, module):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("import sys; print('init', sys.argv)")
    for file in ("program.py", "package/__main__.py", "package/part.py"):
        (tmp_path / file).write_text(PROGRAM)
    same(*both("-m", module, "a", "-b", folder=tmp_path))


def test_a_package_gets_our_pool_while_its_parents_are_imported(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text(WHO)
    (tmp_path / "package" / "__main__.py").write_text(WHO)
    ours = python("-m", "cfutures", "-m", "package", folder=tmp_path)
    assert ours.stdout == "cfutures.thread\n" * 2


def test_a_folder_and_a_zip_file_run_their_main(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text(PROGRAM)
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as app:
        app.writestr("__main__.py", PROGRAM.replace("getattr(__loader__, 'path', None)", "0"))
    same(*both("folder", "a", folder=tmp_path))
    same(*both("app.zip", "a", folder=tmp_path))


def test_code_and_standard_input(tmp_path):
    code = "import sys; print(__name__, sys.argv, sys.path[0], '__file__' in globals())"
    same(*both("-c", code, "a", "-c", folder=tmp_path))
    same(*both("-", "a", folder=tmp_path, input=code))


@pytest.mark.parametrize("arguments", [
    ("-m", "nosuch"), ("-m", "nosuch.part"), ("-m", "os.nosuch"), ("-m", "json"),
    ("-m", "broken"), ("-m", "broken.part"), ("nosuch.py",), ("wrong.py",), ("empty",),
], ids=" ".join)
def test_what_cannot_be_run_gets_pythons_message_and_status(tmp_path, arguments):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").write_text("import nosuchthing")
    (tmp_path / "wrong.py").write_text("if\n")
    (tmp_path / "empty").mkdir()
    plain, ours = both(*arguments, folder=tmp_path)
    assert ours.returncode == plain.returncode != 0
    # The frames of runpy that Python shows under -m are of no use to anybody.
    assert ours.stderr.splitlines()[-1].split(": ", 1)[1] == \
        plain.stderr.splitlines()[-1].split(": ", 1)[1]
    assert "cfutures" not in ours.stderr


@pytest.mark.parametrize("ending", [
    "raise ValueError('x')", "sys.exit()", "sys.exit(7)", "sys.exit('text')", "f()",
    "raise SystemExit(True)", "sys.excepthook = lambda t, v, tb: print(v, tb.tb_lineno); f()",
    "try:\n    f()\nexcept ZeroDivisionError as e:\n    raise KeyError from e",
    "raise ExceptionGroup('g', [ValueError(1), OSError(2)])",
    "import threading; threading.Thread(target=sys.exit).start()",
    "import atexit; atexit.register(lambda: print(sys.modules['__main__'].f.__name__))",
])
def test_the_end_of_a_program_is_as_python_makes_it(tmp_path, ending):
    (tmp_path / "program.py").write_text(f"import sys\ndef f():\n    1 / 0\n{ending}\n")
    same(*both("program.py", folder=tmp_path))


def test_a_program_that_an_interrupt_ends_dies_of_the_signal(tmp_path):
    (tmp_path / "program.py").write_text("raise KeyboardInterrupt")
    plain, ours = both("program.py", folder=tmp_path)
    same(plain, ours)
    assert ours.returncode == -signal.SIGINT


def test_safe_path_is_respected(tmp_path):
    (tmp_path / "program.py").write_text("import sys; print(sys.path)")
    same(*both("program.py", folder=tmp_path, flags=["-P"]))


def test_tasks_still_queued_at_the_end_find_main(tmp_path):
    (tmp_path / "program.py").write_text(
        "import sys\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "def late():\n    print('late', sys.modules['__main__'].late is late)\n"
        "pool = ThreadPoolExecutor(1)\n"
        "for _ in range(3): pool.submit(late)\n")
    plain, ours = both("program.py", folder=tmp_path)
    same(plain, ours)
    assert ours.stdout == "late True\n" * 3


# Not a package with spawn: multiprocessing does not import a package's __main__ again.
@pytest.mark.parametrize(("how", "method"), [
    ("script", "fork"), ("script", "forkserver"), ("script", "spawn"),
    ("module", "forkserver"), ("module", "spawn"), ("package", "fork")])
def test_process_pools_find_the_functions_of_main(tmp_path, how, method):
    program = (
        "import sys, multiprocessing\n"
        "from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait\n"
        "def double(x):\n    return 2 * x\n"
        "if __name__ == '__main__':\n"
        f"    context = multiprocessing.get_context({method!r})\n"
        "    with ProcessPoolExecutor(1, mp_context=context) as pool:\n"
        "        futures = [pool.submit(double, n) for n in range(3)]\n"
        "        wait(futures)\n"
        "        print([f.result() for f in futures], list(pool.map(double, [4, 5])))\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "__main__.py").write_text(program)
    (tmp_path / "program.py").write_text(program)
    arguments = {"script": ["program.py"], "module": ["-m", "program"],
                 "package": ["-m", "package"]}[how]
    plain, ours = both(*arguments, folder=tmp_path)
    same(plain, ours)
    assert ours.stdout == "[0, 2, 4] [8, 10]\n"


def test_help_and_version(tmp_path):
    shown = python("-m", "cfutures", "--help", folder=tmp_path)
    assert shown.returncode == 0
    assert shown.stdout.startswith("usage: python -m cfutures ")
    shown = python("-m", "cfutures", "--version", folder=tmp_path)
    assert re.fullmatch(r"cfutures \d+\.\d+\.\d+\S*, Python 3\.\d+.*\n", shown.stdout)


@pytest.mark.parametrize("arguments", [(), ("-m",), ("-c",), ("--nosuch", "program.py")])
def test_a_wrong_command_line_is_status_2_and_a_usage_line(tmp_path, arguments):
    shown = python("-m", "cfutures", *arguments, folder=tmp_path)
    assert shown.returncode == 2
    assert shown.stdout == ""
    assert "usage: python -m cfutures" in shown.stderr
