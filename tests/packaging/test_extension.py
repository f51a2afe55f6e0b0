"""The built extension: what it exports, and the warnings it is compiled under."""
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
# What the project promises to compile under without a warning; the builds of
# test_distribution.py make each an error.
FLAGS = ("-Wall", "-Wextra", "-Wstrict-prototypes", "-Wmissing-prototypes",
         "-Wcast-function-type", "-Wshadow")


def test_only_the_init_function_is_exported():
    from cfutures import _core
    if shutil.which("nm") is None:
        pytest.skip("nm (package binutils) is not installed")
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", _core.__file__], check=True, capture_output=True,
        text=True).stdout
    exported = {line.split()[-1] for line in listing.splitlines()}
    assert exported - {"_init", "_fini", "__bss_start", "_edata", "_end"} == {"PyInit__core"}


def test_setup_asks_for_the_promised_warnings():
    text = (PROJECT / "setup.py").read_text(encoding="utf-8")
    assert [flag for flag in FLAGS if f'"{flag}"' not in text] == []


def test_the_extension_in_use_is_the_one_of_this_interpreter():
    from cfutures import _core
    assert _core.__file__.endswith(sysconfig.get_config_var("EXT_SUFFIX"))
