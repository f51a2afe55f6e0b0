"""Facts about the machine and the interpreter, without which figures say nothing."""
from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def facts() -> dict[str, Any]:
    """Everything about where a run was made, ready for JSON. No host or user name."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "hypervisor": " hypervisor" in (_read("/proc/cpuinfo") or ""),
        "memory_kib": _memory(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "compiler": platform.python_compiler(),
        "build": " ".join(platform.python_build()),
        "build_flags": sysconfig.get_config_var("PY_CFLAGS"),
        "free_threaded": free_threaded(),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "switch_interval": sys.getswitchinterval(),
        "python_environment": {k: v for k, v in os.environ.items()
                               if k.startswith("PYTHON") and "PATH" not in k},
        "cfutures": cfutures_version(),
        "commit": commit(),
        "loadavg": os.getloadavg(),
    }


def free_threaded() -> bool:
    """Whether this interpreter was built without a GIL."""
    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def python_tag() -> str:
    """The interpreter's short name, "3.13" or "3.13t"."""
    return "{}.{}".format(*sys.version_info[:2]) + ("t" if free_threaded() else "")


def cfutures_version() -> str | None:
    """The installed version, None if there is none."""
    try:
        return importlib.metadata.version("cfutures")
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The git commit of this tree, with "+changes" if it is not clean; None without git."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "csrc",
                       "pyfutures", "setup.py")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+changes" if changed else "")


def _git(*args: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *args], check=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout.strip()


def cpu_model() -> str:
    """The processor's name as the kernel gives it."""
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    for line in (_read("/proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1])
    return None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


class Bystanders:
    """How much CPU everybody else used during a run, from /proc/stat.

    A benchmark on a busy machine measures the neighbours; this says how busy it was.
    """

    def __init__(self) -> None:
        self.start = self._now()

    def share(self) -> dict[str, float] | None:
        """Percent of the machine's CPU time since the start, used by other processes
        and stolen by the hypervisor; None where the kernel does not say."""
        end = self._now()
        if self.start is None or end is None:
            return None
        busy, stolen, total, ours = (b - a for a, b in zip(self.start, end, strict=True))
        if total <= 0:
            return None
        return {"others": max(0.0, busy - ours) / total * 100, "stolen": stolen / total * 100}

    @staticmethod
    def _now() -> tuple[float, float, float, float] | None:
        """Seconds: busy, stolen, all, and of ours (this process and its children)."""
        line = (_read("/proc/stat") or "").partition("\n")[0].split()
        if len(line) < 9 or line[0] != "cpu":
            return None
        ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in line[1:9]]
        idle, iowait, stolen = ticks[3], ticks[4], ticks[7]
        mine = os.times()
        return (sum(ticks) - idle - iowait - stolen, stolen, sum(ticks), sum(mine[:4]))
