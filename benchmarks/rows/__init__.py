"""The rows of the benchmark, one file a family, in the order of the table."""
from rows import (  # noqa: F401  # isort: skip
    burst, pingpong, trickle, waiting, memory, parallel, lifetime,
    proc_small, proc_cell, proc_big, proc_frames, proc_grain, proc_life, proc_mem,
    pool, queue, peer_small, peer_work, peer_arrays, peer_life,
)
