"""What a program meets when the system fails it: fault.c, compiled for the tests."""
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
# Programs, tasks and the process table are those of the process pool's tests.
sys.path.insert(0, str(HERE.parent / "procs"))


@pytest.fixture(scope="session")
def injector_file(tmp_path_factory):
    """The library fault.c, for LD_PRELOAD."""
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    target = tmp_path_factory.mktemp("fault") / "fault.so"
    try:
        done = subprocess.run(
            [*compiler, "-shared", "-fPIC", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra",
             "-Werror", HERE / "fault.c", "-o", target, "-ldl"],
            capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        pytest.skip(f"there is no {compiler[0]} here to compile fault.c")
    if "__libc_malloc" in done.stderr:
        pytest.skip("fault.c stands before glibc's allocator, and this is another libc")
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def kit(monkeypatch):
    """Let the programs that this test starts import faultkit."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(HERE), str(HERE.parent))))


@pytest.fixture
def injector(kit, injector_file, monkeypatch):
    """Have the programs that this test starts preload fault.c."""
    monkeypatch.setenv("LD_PRELOAD", str(injector_file))


@pytest.fixture
def only_deep(request):
    """For what would take too long in every run of all tests."""
    if not request.config.getoption("--deep"):
        pytest.skip("takes its time: --deep, or make faults")
