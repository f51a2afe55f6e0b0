"""The files that the lectures work on: made here, offline, the same for everybody.

`make(size)` is the one entry point and `size` the one knob.  What there is already is
kept.  The files go to notebooks/data, or to the folder that LECTURE_DATA names.  The
modules data_*.py make one kind each and say what it is; the web server is in
lecture_server.py and needs no files.

    python notebooks/lecture_data.py --size lecture
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path

import data_houses
import data_images
import data_stocks
import data_texts
from data_folder import DataError
from data_stocks import MINUTES, closest_pair

__all__ = ["MINUTES", "SIZES", "Data", "DataError", "closest_pair", "make"]

HERE = Path(__file__).resolve().parent
SIZES = ("small", "lecture")


@dataclass(frozen=True)
class Data:
    """Where the files are, by kind; a folder beside them is the reader's own.

    stocks: JSON lines, a file per symbol, a line per minute; daily: a line per day.
    images: PNG, of different sizes and modes.
    houses: one CSV table (a list of one); texts: words to count.
    """

    stocks: list[Path]
    daily: list[Path]
    images: list[Path]
    houses: list[Path]
    texts: list[Path]


def make(size: str = "small", root: Path | str | None = None) -> Data:
    """Make what is missing, changed or half-written; return where everything is.

    size is one of SIZES: "small" takes a second or two, "lecture" is as much work as a
    lecture shows.  root is the folder for the data of all sizes.  Raises ValueError for
    another size and DataError, in a sentence that says what to do, if the files cannot
    be written.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {list(SIZES)}, not {size!r}")
    base = Path(root or os.environ.get("LECTURE_DATA") or HERE / "data").absolute()
    stocks, daily = data_stocks.make(base, size)
    return Data(stocks, daily, data_images.make(base, size), [data_houses.make(base, size)],
                data_texts.make(base, size))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--root", type=Path, help="where to put it (default: notebooks/data)")
    args = parser.parse_args()
    started = time.perf_counter()
    try:
        data = make(args.size, args.root)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    for field in fields(data):
        paths = getattr(data, field.name)
        total = sum(path.stat().st_size for path in paths)
        print(f"{field.name}: {len(paths)} files, {total / 1e6:.1f} MB in {paths[0].parent}")
    print(f"{time.perf_counter() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
