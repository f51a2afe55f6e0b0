"""Folders of made files that are either whole or made again.

Files are made aside and moved into place in one step, so that an interrupted run leaves
nothing half-done; a stamp beside them says what they were made from and how long each
is, so that what was cut short, changed or deleted since then is found and made anew.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

STAMP = "stamp.json"


class DataError(Exception):
    """The lectures' data cannot be made, or are not there; the text says what to do."""


def complete(folder: Path, made_from: Mapping[str, Any],
             write: Callable[[Path], None]) -> list[Path]:
    """Let write(folder) make the files, unless they are there; return them, by name.

    made_from (what JSON can hold) is everything that decides what the files hold: if it
    is not what the stamp says, or a file is missing or has another length, all are made
    again, and a line on stderr says why; a new folder is announced on stdout.  Several
    processes may do this at the same time.  Raises DataError if the folder cannot be
    written; what write() raises is passed on.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        trouble = problem(folder, made_from)
        if trouble is None:
            return files(folder)
        if folder.exists():
            print(f"{folder}: {trouble}; making it again", file=sys.stderr)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        if not folder.exists():
            print(f"making {folder}", flush=True)
        try:
            write(aside)
            lengths = {path.name: path.stat().st_size for path in sorted(aside.iterdir())}
            stamp = {"made_from": made_from, "bytes": lengths}
            (aside / STAMP).write_text(json.dumps(stamp, indent=1), encoding="utf-8")
            try:
                if folder.exists():
                    shutil.rmtree(folder)
                aside.replace(folder)
            except OSError:
                # Another process may have put the same there a moment ago.
                if problem(folder, made_from) is not None:
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise DataError(f"the lectures' data cannot be written to {folder} "
                        f"({error.strerror or error}): free some space or make the folder "
                        "writable, or choose another with LECTURE_DATA=folder") from error
    return files(folder)


def files(folder: Path) -> list[Path]:
    """The files of a whole folder, in the order of their names."""
    return [folder / name for name in _stamp(folder)["bytes"]]


def problem(folder: Path, made_from: Mapping[str, Any]) -> str | None:
    """What is wrong with the folder, in a few words; None if it is whole and up to date."""
    try:
        stamp = _stamp(folder)
        lengths, was = stamp["bytes"], stamp["made_from"]
        for name, length in lengths.items():
            found = (folder / name).stat().st_size
            if found != length:
                return f"{name} has {found:,} bytes instead of {length:,}"
    except (FileNotFoundError, NotADirectoryError) as error:
        return f"{Path(error.filename).name} is missing" if folder.exists() else "it is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{STAMP} is damaged"
    # Through JSON, as the stamp went: a tuple is a list there.
    return None if was == json.loads(json.dumps(made_from)) else "it is of another version"


def _stamp(folder: Path) -> dict[str, Any]:
    return json.loads((folder / STAMP).read_text(encoding="utf-8"))
