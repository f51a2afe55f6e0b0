"""A table of house sales for the lecture on threads and processes; houses are made up.

One CSV file, a line a sale.  The price depends on the other columns smoothly but not
linearly, and on chance.  One column, `fee`, follows from the price: the agent is paid a
share of it.  Who gives that column to a model has let the answer leak into the question.
"""

from __future__ import annotations

from pathlib import Path

import data_folder
import numpy as np

# Raise it when the file would come out different: an old one is then made anew.
VERSION = 1
SEED = 20240502
ROWS = {"small": 1500, "lecture": 4000}
COLUMNS = ("area", "rooms", "baths", "plot", "age", "centre", "station", "school", "noise",
           "energy", "fee", "price")
TARGET, LEAK = "price", "fee"
CHANCE = 0.12       # standard deviation of what the logarithm of a price owes to chance
FEE = 0.03          # the agent's share of the price

HERE = Path(__file__).resolve().parent


def make(root: Path | str | None = None, size: str = "small", seed: int = SEED) -> Path:
    """Make the table of one size in root (default: notebooks/data), return its path.

    Columns: area (m²), rooms, baths, plot (m²), age (years), centre and station (km),
    school (points of 10), noise (dB), energy (kWh per m² and year), fee and price (1000).
    A table that is there, complete and of the same version, size and seed, is kept.
    Raises ValueError for a size that ROWS does not have.
    """
    if size not in ROWS:
        raise ValueError(f"size must be one of {sorted(ROWS)}, not {size!r}")
    base = Path(root) if root is not None else HERE / "data"
    made_from = {"version": VERSION, "seed": seed, "rows": ROWS[size]}
    return data_folder.complete(base / size / "houses", made_from,
                                lambda folder: _write(folder, ROWS[size], seed))[0]


def read(path: Path | str) -> dict[str, np.ndarray]:
    """The columns of a table by name, as arrays of float64 in the order of the file."""
    with open(path, encoding="utf-8") as lines:
        names = next(lines).strip().split(",")
        values = np.loadtxt(lines, delimiter=",", ndmin=2)
    return dict(zip(names, np.ascontiguousarray(values.T), strict=True))


def _write(folder: Path, rows: int, seed: int) -> None:
    columns = _columns(rows, np.random.default_rng(seed))
    formats = ["%.1f"] * len(COLUMNS)
    formats[COLUMNS.index("rooms")] = formats[COLUMNS.index("baths")] = "%d"
    formats[COLUMNS.index(LEAK)] = "%.3f"
    np.savetxt(folder / "houses.csv", np.column_stack([columns[name] for name in COLUMNS]),
               fmt=formats, delimiter=",", header=",".join(COLUMNS), comments="",
               encoding="utf-8")


def _columns(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    area = np.clip(rng.lognormal(4.7, 0.35, rows), 30, 400)
    centre = np.clip(rng.gamma(2.0, 4.0, rows), 0.3, 40)
    age = np.clip(rng.gamma(1.6, 25.0, rows), 0, 180)
    houses = {
        "area": area,
        "rooms": np.clip(np.round(area / 27 + rng.normal(0, 0.8, rows)), 1, 12),
        "baths": np.clip(np.round(area / 90 + rng.normal(0, 0.4, rows)), 1, 4),
        "plot": area * np.clip(rng.lognormal(0.2 + 0.05 * centre, 0.5), 0.5, 30),
        "age": age,
        "centre": centre,
        "station": np.clip(rng.gamma(1.5, 0.6 + 0.1 * centre), 0.1, 20),
        "school": np.clip(rng.normal(6.5 - 0.05 * centre, 1.5), 0, 10),
        "noise": np.clip(rng.normal(62 - 0.6 * centre, 5), 35, 80),
        "energy": np.clip(rng.normal(60 + 1.3 * age, 25), 15, 350),
    }
    logarithm = (6.1 + 0.9 * np.log(area / 110) + 0.12 * np.log(houses["plot"] / 150)
                 + 0.5 * np.exp(-centre / 6) + 0.25 * np.exp(-houses["station"])
                 + 0.03 * (houses["school"] - 6) - 0.0025 * age + 0.000018 * age ** 2
                 - 0.006 * np.maximum(houses["noise"] - 55, 0)
                 - 0.0006 * houses["energy"] + 0.02 * houses["baths"])
    price = np.exp(logarithm + rng.normal(0, CHANCE, rows))
    # Fees are agreed to the hundred; otherwise they would give the price exactly.
    return houses | {"fee": np.round(FEE * price, 1), "price": price}
