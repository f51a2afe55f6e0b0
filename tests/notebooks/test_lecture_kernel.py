"""A Python that lacks what the lectures need says in one sentence what to do."""
import re
import subprocess
import sys

import pytest
from lecturekit import NOTEBOOKS
from testkit import GUARD

TRY = """
import sys
sys.path.insert(0, sys.argv[1])
import lecture_kernel
import importlib
importlib.reload(lecture_kernel)        # as a cell that is run again with autoreload
try:
    importlib.import_module(sys.argv[2])
except ModuleNotFoundError as error:
    print(error.name, error, sep="|")
"""


def missing(name, *options, script=TRY):
    """What `import name` says in a Python that has only the standard library."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", *options, "-c", script, NOTEBOOKS, name],
        capture_output=True, text=True, timeout=GUARD)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name, package", [
    ("cfutures", "cfutures"), ("numpy", "numpy"), ("PIL", "Pillow"), ("tables", "PyTables")])
def test_a_missing_package_is_named_with_what_to_do(name, package):
    assert re.fullmatch(
        rf"{name}\|this kernel, Python \d\.\d+, has no {package}: run `make lab` in \S+, .*"
        r"pip install -e .*\[lectures\].* and restart the kernel\n", missing(name))


def test_a_cfutures_that_is_not_compiled_says_so(tmp_path):
    package = tmp_path / "cfutures"
    package.mkdir()
    (package / "__init__.py").write_text("import cfutures._core\n", encoding="utf-8")
    script = TRY.replace("sys.argv[1])", f"sys.argv[1])\nsys.path.insert(0, {str(tmp_path)!r})")
    assert "has no cfutures that is compiled for it: run" in missing("cfutures", script=script)


def test_other_modules_are_missing_as_always():
    assert missing("no_such_module") == "no_such_module|No module named 'no_such_module'\n"
