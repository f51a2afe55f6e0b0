"""Wheel, sdist and editable installs: each in a new environment, then a task is run.

They are compiled with -Werror, so this also shows that there are no warnings.
"""
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
TASK = """
import sys, cfutures, cfutures._core
with cfutures.ThreadPoolExecutor(2) as pool:
    print(sum(pool.map(pow, range(10), [2] * 10)), cfutures.__file__)
"""


def run(*command, cwd):
    done = subprocess.run([str(part) for part in command], cwd=cwd, text=True,
                          env=dict(os.environ, CFUTURES_CFLAGS="-Werror"),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=280)
    if done.returncode and "No matching distribution found for setuptools" in done.stdout:
        pytest.skip("the package index, which has setuptools, cannot be reached")
    assert done.returncode == 0, done.stdout
    return done.stdout


def pip(*arguments, cwd):
    return run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the project as it is in a fresh checkout."""
    folder = tmp_path_factory.mktemp("source") / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns(
        ".*", "build", "dist", "out", "data", "*.so", "*.egg-info", "__pycache__", "*.o"))
    return folder


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, source, cwd=folder)
    (file,) = folder.glob("*.tar.gz")
    return file


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Built from the sdist, so whatever building needs is in there."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--wheel-dir", folder, sdist, cwd=folder)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture
def environment(tmp_path):
    """A new environment: install(…) into it, then task() there."""
    folder = tmp_path / "env"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=tmp_path)
    python = folder / "bin" / "python"

    class Environment:
        path = folder

        def install(self, *arguments):
            pip("--python", python, "install", "--no-deps", *arguments, cwd=tmp_path)

        def task(self):
            result, where = run(python, "-c", TASK, cwd=tmp_path).split(maxsplit=1)
            assert result == "285"
            return Path(where.strip()).resolve()

    return Environment()


def test_the_sdist_has_what_building_and_testing_need(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = [file.relative_to(PROJECT).as_posix() for pattern in
              ("csrc/*/*.[ch]", "pyfutures/cfutures/*.py", "pyfutures/cfutures/*.pyi")
              for file in PROJECT.glob(pattern)]
    wanted += ["pyfutures/cfutures/py.typed", "setup.py", "pyproject.toml", "LICENSE",
               "README.md", "Makefile", "tests/conftest.py",
               "tests/conformance/exclusions.toml"]
    assert [name for name in wanted if name not in names] == []
    assert [name for name in names if name.endswith((".so", ".o", ".pyc"))] == []


def test_the_wheel_has_the_package_and_nothing_else(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert [name for name in names if not name.startswith("cfutures/")] == []
    assert {"cfutures/py.typed", "cfutures/_core.pyi", "cfutures/__init__.py"} <= set(names)
    kinds = {Path(name).suffix for name in names if name != "cfutures/py.typed"}
    assert kinds == {".py", ".pyi", ".so"}
    assert sum(name.endswith(".so") for name in names) == 1


def test_a_wheel_installs_and_runs(wheel, environment):
    environment.install("--no-index", wheel)
    assert environment.path.resolve() in environment.task().parents


def test_an_sdist_installs_and_runs(sdist, environment):
    environment.install(sdist)
    assert environment.path.resolve() in environment.task().parents


def test_an_editable_install_runs_from_the_source(source, environment):
    environment.install("--editable", source)
    assert environment.task() == (source / "pyfutures/cfutures/__init__.py").resolve()
