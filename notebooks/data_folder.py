"""A folder of generated files that is either complete or made anew."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

STAMP = "stamp.json"


def complete(target: Path, made_from: Mapping[str, object],
             write: Callable[[Path], None]) -> list[Path]:
    """The files of target, made by write(folder) unless they are there, in order of name.

    made_from says what they are made from (version, size, seed: what JSON can hold); files
    that were made from something else, a missing one and one of another length than it had
    make the whole folder anew.  Raises OSError if it cannot be written.
    """
    lengths = _lengths(target, made_from)
    if lengths is None:
        # Made aside and moved into place: an interrupted run leaves nothing half-done.
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            write(aside)
            lengths = {path.name: path.stat().st_size for path in sorted(aside.iterdir())}
            stamp = {"made_from": made_from, "bytes": lengths}
            (aside / STAMP).write_text(json.dumps(stamp, indent=1), encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)
            aside.replace(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return [target / name for name in lengths]


def _lengths(target: Path, made_from: Mapping[str, object]) -> dict[str, int] | None:
    """Name and length of the files of a complete folder; None if anything is not right."""
    try:
        stamp = json.loads((target / STAMP).read_text(encoding="utf-8"))
        lengths: dict[str, int] = stamp["bytes"]
        right = stamp["made_from"] == made_from and all(
            (target / name).stat().st_size == length for name, length in lengths.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return lengths if right else None
