"""The C extension; everything else about the project is in pyproject.toml."""
import os
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup

# One file per operating system behind each header of csrc/plat/.
PLATFORM = {"linux": "linux"}.get(sys.platform)
if PLATFORM is None:
    raise SystemExit(
        f"cfutures has no csrc/plat/*_{sys.platform}.c yet: it builds on Linux only")

LAYERS = ("base", "sync", "ipc", "py", "future", "executor", "threads", "procs", "module")
SOURCES = sorted(
    source.replace(os.sep, "/")
    for layer in LAYERS for source in glob(os.path.join("csrc", layer, "*.c")))
SOURCES += ["csrc/plat/copy.c", "csrc/plat/spin.c",
            *sorted(glob(os.path.join("csrc", "plat", f"*_{PLATFORM}.c")))]
HEADERS = sorted(glob(os.path.join("csrc", "*", "*.h")))

CFLAGS = [
    "-std=gnu11", "-O2", "-fvisibility=hidden", "-fno-strict-aliasing",
    "-Wall", "-Wextra", "-Wstrict-prototypes", "-Wmissing-prototypes",
    "-Wcast-function-type", "-Wshadow",
]
# With a GIL the callers of the plain-C layers take turns; see csrc/base/atomic.h.
SERIALIZED = "0" if sysconfig.get_config_var("Py_GIL_DISABLED") else "1"

# For development: CFUTURES_CFLAGS="-Werror -g" python -m pip install -e .
CFLAGS += os.environ.get("CFUTURES_CFLAGS", "").split()

setup(ext_modules=[
    Extension("cfutures._core", SOURCES, include_dirs=["csrc"], depends=HEADERS,
              define_macros=[("CF_SERIALIZED", SERIALIZED)],
              extra_compile_args=CFLAGS)])
