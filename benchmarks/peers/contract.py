"""What the rows ask of a library's pool, and what of it most libraries share."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any

from meter import Skip

CHUNK = 1000    # items a chunk, where the documentation advises chunks and gives no number


class Pool(ABC):
    """A pool of so many workers, started with the library's own default start method.

    `each` hands over every item as a task of its own, then takes all results, in order.
    `map` does what the documentation advises for very many short calls, in order.
    `one` is a single call that is waited for.
    `outcomes` is `each` for tasks of which one kills its worker: it returns the results
    that came, by index, and leaves a pool that works; `note` then says what it took.
    `close` ends the workers and waits for them.
    """

    note = ""

    @abstractmethod
    def __init__(self, workers: int) -> None: ...

    @abstractmethod
    def each(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]: ...

    @abstractmethod
    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]: ...

    @abstractmethod
    def one(self, fn: Callable[..., Any], *args: Any) -> Any: ...

    def outcomes(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> dict[int, Any]:
        raise Skip("threads cannot be killed")

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class ApplyPool(Pool):
    """A pool with the methods of multiprocessing.Pool, in `pool`."""

    pool: Any

    def each(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        apply_async = self.pool.apply_async
        # A tuple of arguments: an item that is a tuple would be spread.
        results = [apply_async(fn, (item,)) for item in items]
        return [result.get() for result in results]

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return self.pool.map(fn, items)

    def one(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.pool.apply(fn, args)


class ExecutorPool(Pool):
    """A pool that is a concurrent.futures.Executor: `start` makes it."""

    chunks: dict[str, int] = {"chunksize": CHUNK}

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.executor = self.start()

    @abstractmethod
    def start(self) -> Any: ...

    def each(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        submit = self.executor.submit
        futures = [submit(fn, item) for item in items]
        return [future.result() for future in futures]

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return list(self.executor.map(fn, items, **self.chunks))

    def one(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.executor.submit(fn, *args).result()

    def outcomes(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> dict[int, Any]:
        """A pool that breaks is made anew, as it has to be."""
        futures = []
        for item in items:
            try:
                futures.append(self.executor.submit(fn, item))
            except BrokenExecutor:      # it broke while we were still submitting
                break
        came = {i: future.result() for i, future in enumerate(futures)
                if future.exception() is None}
        try:
            self.executor.submit(int).result()
        except BrokenExecutor:
            self.executor.shutdown()
            self.executor = self.start()
            self.note = "the pool broke and was made anew"
        return came

    def close(self) -> None:
        self.executor.shutdown()
