"""What run_peers.py measures: the rows about all libraries, the floors, the scaling."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import registry
from registry import Case

SIZES = (10**3, 10**4, 10**5, 10**6)
STD_MOST = 10**5        # tasks; more take the standard library minutes
WORKERS = (1, 2, 4, 8)
PAYLOADS = ("64K", "512K", "4M", "32M", "80M")
SIDES = ("std", "cfutures")

# The floors of the page: row, parameters, pinning.
FLOORS: list[tuple[str, dict[str, Any], str]] = [
    ("floor_object_loop", {"n": 20_000}, "none"),
    ("floor_c_call", {"n": 20_000}, "none"),
    ("floor_gil", {"n": 20_000}, "none"),
    ("floor_python_pingpong", {"how": "lock"}, "none"),
    ("floor_spin_apart", {}, "none"),
    ("floor_futex_apart", {}, "none"),
    ("floor_proc_spin_apart", {}, "none"),
    ("floor_proc_futex_apart", {}, "none"),
    ("floor_pickle", {"data": "simple"}, "none"),
    ("floor_cloudpickle", {}, "none"),
    ("floor_two_processes", {"us": 10}, "none"),
    ("floor_two_processes", {"us": 100}, "none"),
    ("floor_two_processes", {"us": 1000}, "none"),
    ("floor_two_processes", {"us": 20_000}, "none"),
    ("floor_parallel", {"kib": 512}, "none"),
    ("floor_memcpy", {"size": "64Ki", "pages": "reused"}, "none"),
    ("floor_memcpy", {"size": "8Mi", "pages": "reused"}, "none"),
    ("floor_memcpy", {"size": "80Mi", "pages": "reused"}, "none"),
    ("floor_proc_fork", {"n": 50}, "none"),
    ("floor_thread", {"n": 200}, "none"),
    ("floor_memory", {}, "none"),
]


def compared(quick: bool) -> list[Case]:
    """The floors, and the cases of all libraries, those that take longest last."""
    rows = registry.load_rows()
    floors = [_case(rows[name], params, pin) for name, params, pin in FLOORS]
    return floors + [case for kind in reversed(registry.APART)
                     for case in registry.select(None, quick=quick, pin="none", only=kind)]


def scaling(quick: bool) -> list[Case]:
    """The same work in growing amounts: existing rows with parameters of their own."""
    rows = registry.load_rows()
    sizes = SIZES[:-1] if quick else SIZES
    cases = []
    for n in sizes:
        for name, params in (("thr_burst", {"workers": 2}),
                             ("proc_burst", {"data": "simple", "workers": 2}),
                             ("wait_done", {}), ("as_completed_done", {})):
            cases.append(_ours(rows[name], {**params, "n": n}, n > STD_MOST))
        # More objects than the caches hold cost more each, whatever is done with them.
        cases += [_case(rows[name], {"n": n}) for name in ("floor_object_loop", "floor_set")]
    for workers in WORKERS:
        for name, params in (("thr_burst", {}), ("proc_burst", {"data": "simple"})):
            cases.append(_ours(rows[name], {**params, "workers": workers, "n": 10_000}))
    for size in PAYLOADS[:-1] if quick else PAYLOADS:
        cases.append(_ours(rows["proc_big"], {"what": "array", "way": "both", "size": size}))
        cases.append(_case(rows["floor_memcpy"], {"size": size, "pages": "reused"}))
    return list({case.key: case for case in cases}.values())


def _ours(row: registry.Row, params: dict[str, Any], alone: bool = False) -> Case:
    """A case without other libraries, and without the standard one if `alone`."""
    return _case(replace(row, sides=SIDES[1:] if alone else SIDES, peers=False), params)


def _case(row: registry.Row, params: dict[str, Any], pin: str = "none") -> Case:
    return Case(row, tuple(params.items()), pin)
