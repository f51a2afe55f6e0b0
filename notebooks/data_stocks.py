"""Daily stock files for the lectures: made here, offline, the same for everybody.

One JSON-lines file per symbol, one line per trading minute with the fields
timestamp, open, high, low, close, volume.  Daily prices are a random walk; a
Brownian bridge leads through the minutes from one day's price to the next.  The
symbols and the prices are made up.  Symbols are paired, each pair moves together
more or less strongly, and exactly one pair most strongly: that is what the
correlation exercise has to find (`closest_pair` knows the answer).

    python notebooks/lecture_data.py --size lecture
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

# Raise it when the files would come out different: old ones are then made anew.
VERSION = 1
SEED = 20240102
MINUTES = 390                       # a trading day from 09:30 to 16:00
FIRST_DAY = np.datetime64("2024-01-02")
SYMBOLS = ("ALFA BRVO CHRL DLTA ECHO FXTR GOLF HOTL INDI JULI KILO LIMA "
           "MIKE NOVM OSCR PAPA QUBC ROMO SIER TANG UNIF VCTR WHSK XRAY").split()
DAILY_SIGMA = 0.015                 # standard deviation of a day's log return
STRONGEST, WEAKEST = 0.85, 0.25     # correlation inside the pairs, strongest first

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Size:
    """How much to make: number of symbols (even, at most 24) and of trading days."""

    symbols: int
    days: int


SIZES = {"small": Size(symbols=12, days=15), "lecture": Size(symbols=24, days=180)}


def make(size: str = "small", seed: int = SEED, root: Path | str | None = None) -> list[Path]:
    """Make the files of one size under root (default: notebooks/data), return their paths.

    Files that are already there, complete and of the same version, size and seed are
    kept.  Raises ValueError for a size that SIZES does not have.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {sorted(SIZES)}, not {size!r}")
    base = Path(root) if root is not None else HERE / "data"
    target = base / size
    wanted = {"version": VERSION, "seed": seed, "minutes": MINUTES, **asdict(SIZES[size])}
    found = _read_stamp(target)
    if found is not None and found["made_from"] == wanted:
        return [target / name for name in found["bytes"]]

    # Made aside and moved into place: an interrupted run leaves nothing half-done.
    base.mkdir(parents=True, exist_ok=True)
    aside = base / f".{size}.{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        _write_files(aside, SIZES[size], seed)
        lengths = {path.name: path.stat().st_size for path in sorted(aside.iterdir())}
        stamp = {"made_from": wanted, "bytes": lengths}
        (aside / "stamp.json").write_text(json.dumps(stamp, indent=1), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        aside.replace(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return [target / name for name in lengths]


def closest_pair(size: str = "small", seed: int = SEED) -> tuple[str, str]:
    """The two symbols, in alphabetical order, that were made to move together most."""
    first, second = _pairs(SIZES[size].symbols, np.random.default_rng(seed))[0]
    return tuple(sorted((SYMBOLS[first], SYMBOLS[second])))


def _read_stamp(target: Path) -> dict | None:
    """The stamp of a complete directory; None if it, or a file it names, is not right."""
    try:
        stamp = json.loads((target / "stamp.json").read_text(encoding="utf-8"))
        for name, length in stamp["bytes"].items():
            if (target / name).stat().st_size != length:
                return None
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return stamp


def _pairs(n: int, rng: np.random.Generator) -> np.ndarray:
    """Who is paired with whom, the strongest pair first.  The first draw of every rng."""
    return rng.permutation(n).reshape(-1, 2)


def _together(noise: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Mix independent noise, symbols along axis 0, so that each pair is correlated."""
    for (first, second), rho in zip(pairs, np.linspace(STRONGEST, WEAKEST, len(pairs)),
                                    strict=True):
        noise[second] = rho * noise[first] + np.sqrt(1 - rho**2) * noise[second]
    return noise


def _log_prices(n: int, days: int, rng: np.random.Generator) -> np.ndarray:
    """Log prices, shape (symbols, days, MINUTES + 1): the points that the bars lie between."""
    pairs = _pairs(n, rng)
    daily = DAILY_SIGMA * _together(rng.standard_normal((n, days)), pairs)
    close = np.log(rng.uniform(40, 400, (n, 1))) + np.cumsum(daily, axis=1)
    start = close - daily

    steps = _together(rng.standard_normal((n, days, MINUTES)), pairs)
    walk = np.zeros((n, days, MINUTES + 1))
    walk[..., 1:] = np.cumsum(steps, axis=2) * DAILY_SIGMA / np.sqrt(MINUTES)
    passed = np.linspace(0, 1, MINUTES + 1)
    bridge = walk - passed * walk[..., -1:]
    return start[..., None] + daily[..., None] * passed + bridge


def _write_files(directory: Path, size: Size, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = np.exp(_log_prices(size.symbols, size.days, rng))
    minutes = np.arange(MINUTES) * np.timedelta64(1, "m") + np.timedelta64(570, "m")
    dates = np.busday_offset(FIRST_DAY, np.arange(size.days), roll="forward")
    times = (dates[:, None].astype("M8[s]") + minutes).ravel()
    stamps = np.datetime_as_string(times, unit="s").tolist()
    # Trading is busiest when the market opens and closes.
    busy = 300 + 2200 * np.linspace(-1, 1, MINUTES) ** 2

    for row, symbol in enumerate(SYMBOLS[:size.symbols]):
        opens, closes = points[row, :, :-1], points[row, :, 1:]
        spread = 1e-4 * rng.exponential(size=(2, size.days, MINUTES))
        highs = np.maximum(opens, closes) * (1 + spread[0])
        lows = np.minimum(opens, closes) * (1 - spread[1])
        volumes = rng.poisson(busy, (size.days, MINUTES))
        columns = [np.round(c.ravel(), 2).tolist() for c in (opens, highs, lows, closes)]
        with open(directory / f"{symbol}.json", "w", encoding="utf-8") as out:
            out.writelines(
                f'{{"timestamp": "{t}", "open": {o}, "high": {h}, "low": {lo}, '
                f'"close": {c}, "volume": {v}}}\n'
                for t, o, h, lo, c, v in zip(stamps, *columns, volumes.ravel().tolist(),
                                             strict=True)
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--root", type=Path, help="where to put it (default: notebooks/data)")
    args = parser.parse_args()
    started = time.perf_counter()
    paths = make(args.size, args.seed, args.root)
    total = sum(path.stat().st_size for path in paths)
    print(f"{len(paths)} files, {total / 1e6:.1f} MB, "
          f"{time.perf_counter() - started:.1f} s: {paths[0].parent}")


if __name__ == "__main__":
    main()
