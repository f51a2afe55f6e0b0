"""Many small tables: pandas frames to workers and back."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from meter import Meter, Sample, Skip
from registry import proc_row

from rows import proc_pool
from rows.tasks import echo

ROWS = 100


@proc_row(cases=[{"n": 500}], quick=[{"n": 300}], unit="µs/frame")
def proc_frames(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """n DataFrames of 100 rows to 2 workers and back, submit and result; µs a frame.

    Columns: a time stamp, three floats, an int. Pandas' own pickling is most of it; see
    floor_pickle data=frame.
    """
    frames = [frame(i) for i in range(n)]
    with proc_pool.make(lib, 2) as pool:
        submit = pool.submit

        def body(some: list[Any]) -> list[Any]:
            futures = [submit(echo, one) for one in some]
            return [future.result() for future in futures]

        return meter.per_item(body, frames, lambda got: _same(got, frames))


def frame(i: int) -> Any:
    """A small frame, different for each i."""
    try:
        import numpy
        import pandas
    except ImportError as why:
        raise Skip(str(why)) from why
    steps = numpy.arange(ROWS)
    prices = {name: 100 + numpy.sin(steps * (i + 1) / 50) + shift
              for shift, name in enumerate(("open", "high", "low"))}
    return pandas.DataFrame({"time": pandas.date_range("2024-01-02", periods=ROWS, freq="min"),
                             **prices, "volume": steps + i})


def _same(got: list[Any], frames: list[Any]) -> bool:
    return len(got) == len(frames) and all(
        a.equals(b) and list(a.dtypes) == list(b.dtypes)
        for a, b in zip(got, frames, strict=True))
