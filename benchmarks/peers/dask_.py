"""Dask: a local cluster of processes, and its scheduler of threads."""
from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any

import dask
import dask.bag
from distributed import Client, LocalCluster
from meter import Skip

from .contract import Pool

DISTRIBUTION = "distributed"
ADVICE = ("`LocalCluster(n_workers=2, threads_per_worker=1)`, `submit`, `map`, `gather`; a "
          "bag of some partitions for very many calls; `scatter` for large arguments")
PARTITIONS = 100        # the bag's own default
MOST = 200_000          # items of a bag; 100,000 took 5 to 27 s on two busy CPUs
LARGE = 1 << 20         # bytes from which it warns, and advises to scatter


class Processes(Pool):
    def __init__(self, workers: int) -> None:
        self.folder = tempfile.mkdtemp(prefix="dask-")
        dask.config.set({"temporary-directory": self.folder})
        self.cluster = LocalCluster(n_workers=workers, threads_per_worker=1, processes=True,
                                    dashboard_address=None)
        self.client = Client(self.cluster)

    def each(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        # pure=False: a call that was made before is made again, not looked up.
        return self.client.gather(self.client.map(fn, items, pure=False))

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        if len(items) > MOST:
            raise Skip("not in reasonable time: a bag of 100,000 took 5 to 27 s")
        bag = dask.bag.from_sequence(items, npartitions=PARTITIONS)
        return bag.map(fn).compute(scheduler=self.client)

    def one(self, fn: Callable[..., Any], *args: Any) -> Any:
        there = [self.client.scatter(arg, hash=False) if getattr(arg, "nbytes", 0) > LARGE
                 else arg for arg in args]
        return self.client.submit(fn, *there, pure=False).result()

    def outcomes(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> dict[int, Any]:
        futures = self.client.map(fn, items, pure=False)
        came = {}
        for i, future in enumerate(futures):
            error = future.exception()
            if error is None:
                came[i] = future.result()
            else:
                self.note = f"{type(error).__name__}, after it had killed four workers"
        return came

    def close(self) -> None:
        self.client.close()
        self.cluster.close()
        shutil.rmtree(self.folder)


class Threads(Pool):
    def __init__(self, workers: int) -> None:
        self.pool = ThreadPool(workers)     # kept from call to call
        self.options = {"scheduler": "threads", "pool": self.pool}

    def each(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        task = dask.delayed(fn, pure=False)
        return list(dask.compute(*[task(item) for item in items], **self.options))

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        bag = dask.bag.from_sequence(items, npartitions=PARTITIONS)
        return bag.map(fn).compute(**self.options)

    def one(self, fn: Callable[..., Any], *args: Any) -> Any:
        return dask.delayed(fn, pure=False)(*args).compute(**self.options)

    def close(self) -> None:
        self.pool.close()
        self.pool.join()
