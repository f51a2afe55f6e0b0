"""Stock files for the lectures: made here, offline, the same for everybody.

One JSON-lines file per symbol.  In stocks/ it has a line per trading minute with the
fields timestamp, open, high, low, close, volume; in daily/ a line per day, with date
instead of timestamp.  Daily prices are a random walk; a Brownian bridge leads through the
minutes from one day's price to the next.  The symbols and the prices are made up.
Symbols are paired, each pair moves together more or less strongly, and exactly one pair
most strongly: that is what the correlation exercise has to find (`closest_pair` knows
the answer).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import data_folder
import numpy as np

# Raise it when the files would come out different: old ones are then made anew.
VERSION = 2
SEED = 20240102
MINUTES = 390                       # a trading day from 09:30 to 16:00
FIRST_DAY = np.datetime64("2024-01-02")
SYMBOLS = ("ALFA BRVO CHRL DLTA ECHO FXTR GOLF HOTL INDI JULI KILO LIMA "
           "MIKE NOVM OSCR PAPA QUBC ROMO SIER TANG UNIF VCTR WHSK XRAY").split()
DAILY_SIGMA = 0.015                 # standard deviation of a day's log return
STRONGEST, WEAKEST = 0.85, 0.25     # correlation inside the pairs, strongest first


@dataclass(frozen=True)
class Size:
    """How much to make: number of symbols (even, at most 24) and of trading days."""

    symbols: int
    days: int


@dataclass(frozen=True)
class Bars:
    """Prices and volumes of one symbol; each array has the shape (days, MINUTES)."""

    symbol: str
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray


SIZES = {"small": Size(symbols=12, days=15), "lecture": Size(symbols=24, days=180)}


def make(root: Path, size: str, seed: int = SEED) -> tuple[list[Path], list[Path]]:
    """Make root/<size>/stocks and root/<size>/daily; return the files of each."""
    made_from = {"version": VERSION, "seed": seed, "minutes": MINUTES, **asdict(SIZES[size])}

    def minutely(folder: Path) -> None:
        stamps = _timestamps(SIZES[size].days)
        for bars in _all_bars(SIZES[size], seed):
            _write(folder, bars.symbol, "timestamp", stamps,
                   bars.open, bars.high, bars.low, bars.close, bars.volume)

    def daily(folder: Path) -> None:
        days = np.datetime_as_string(_days(SIZES[size].days)).tolist()
        for bars in _all_bars(SIZES[size], seed):
            _write(folder, bars.symbol, "date", days, bars.open[:, 0], bars.high.max(axis=1),
                   bars.low.min(axis=1), bars.close[:, -1], bars.volume.sum(axis=1))

    return (data_folder.complete(root / size / "stocks", made_from, minutely),
            data_folder.complete(root / size / "daily", made_from, daily))


def closest_pair(size: str = "small", seed: int = SEED) -> tuple[str, str]:
    """The two symbols, in alphabetical order, that were made to move together most."""
    first, second = _pairs(SIZES[size].symbols, np.random.default_rng(seed))[0]
    return tuple(sorted((SYMBOLS[first], SYMBOLS[second])))


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


def _days(count: int) -> np.ndarray:
    return np.busday_offset(FIRST_DAY, np.arange(count), roll="forward")


def _timestamps(days: int) -> list[str]:
    minutes = np.arange(MINUTES) * np.timedelta64(1, "m") + np.timedelta64(570, "m")
    times = (_days(days)[:, None].astype("M8[s]") + minutes).ravel()
    return np.datetime_as_string(times, unit="s").tolist()


def _all_bars(size: Size, seed: int) -> Iterator[Bars]:
    rng = np.random.default_rng(seed)
    points = np.exp(_log_prices(size.symbols, size.days, rng))
    # Trading is busiest when the market opens and closes.
    busy = 300 + 2200 * np.linspace(-1, 1, MINUTES) ** 2
    for row, symbol in enumerate(SYMBOLS[:size.symbols]):
        opens, closes = points[row, :, :-1], points[row, :, 1:]
        spread = 1e-4 * rng.exponential(size=(2, size.days, MINUTES))
        highs = np.maximum(opens, closes) * (1 + spread[0])
        lows = np.minimum(opens, closes) * (1 - spread[1])
        yield Bars(symbol, opens, highs, lows, closes, rng.poisson(busy, opens.shape))


def _write(folder: Path, symbol: str, name: str, stamps: list[str],
           *columns: np.ndarray) -> None:
    *prices, volumes = columns
    rounded = [np.round(price.ravel(), 2).tolist() for price in prices]
    with open(folder / f"{symbol}.json", "w", encoding="utf-8") as out:
        out.writelines(
            f'{{"{name}": "{t}", "open": {o}, "high": {h}, "low": {lo}, '
            f'"close": {c}, "volume": {v}}}\n'
            for t, o, h, lo, c, v in zip(stamps, *rounded, volumes.ravel().tolist(),
                                         strict=True))
