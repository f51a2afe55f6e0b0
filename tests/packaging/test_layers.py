"""The layers of csrc/: each may include only what stands above it (docs/design.md)."""
import re
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"

# What a layer may include besides itself and libc.
MAY_INCLUDE = {
    "base": (),
    "plat": ("base",),
    "sync": ("base", "plat"),
    "ipc": ("base", "plat"),
    # ---- Python.h is allowed only from here on ----
    "py": ("base", "plat", "sync"),
    "future": ("base", "plat", "sync", "py"),
    "executor": ("base", "plat", "sync", "py", "future"),
    "threads": ("base", "plat", "sync", "py", "future", "executor"),
    "procs": ("base", "plat", "sync", "ipc", "py", "future", "executor"),
    "module": ("base", "plat", "sync", "ipc", "py", "future", "executor", "threads", "procs"),
}
BELOW_PYTHON = ("base", "plat", "sync", "ipc")
PYTHON_HEADERS = re.compile(r"Python\.h|structmember\.h|pythread\.h|cpython/|internal/pycore")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+(["<])([^">]+)[">]', re.M)

FILES = sorted(file for pattern in ("*.c", "*.h") for file in CSRC.rglob(pattern))


def name_of(file):
    return file.relative_to(CSRC).as_posix()


def problems_of(name, text):
    """What is wrong with the includes of a file, as a list of lines."""
    layer, found = name.partition("/")[0], []
    for kind, header in INCLUDE.findall(text):
        if layer in BELOW_PYTHON and PYTHON_HEADERS.search(header):
            found.append(f"{name} includes {header}: no Python below the line")
        if kind == "<":
            continue
        target, slash, _ = header.partition("/")
        if not slash or header.startswith("."):
            found.append(f'{name} includes "{header}": write it from csrc/, with its layer')
        elif target != layer and target not in MAY_INCLUDE[layer]:
            found.append(f'{name} includes "{header}": {layer}/ may not use {target}/')
    return found


def test_there_are_c_files_and_all_are_in_a_layer():
    assert len(FILES) > 10
    assert {name_of(file).partition("/")[0] for file in FILES} <= set(MAY_INCLUDE)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_includes_respect_the_layers(file):
    problems = problems_of(name_of(file), file.read_text(encoding="utf-8"))
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(("name", "text"), [
    ("base/a.h", '#include "sync/lot.h"'),
    ("sync/a.c", '  #  include <Python.h>'),
    ("plat/a.c", '#include "Python.h"'),
    ("future/a.c", '#include "threads/pool.h"'),
    ("sync/a.c", '#include "lot.h"'),
    ("sync/a.c", '#include "../base/a.h"'),
    ("ipc/a.c", '#include "sync/lot.h"'),
])
def test_the_check_finds_an_upward_include(name, text):
    assert problems_of(name, text)


def test_the_check_lets_downward_includes_pass():
    assert not problems_of("threads/a.c", '#include <stdint.h>\n#include "py/state.h"\n'
                           '#include "threads/pool.h"\n#include <Python.h>')
