"""The rows of the benchmark, one file a family, in the order of the table."""
from rows import (  # noqa: F401  # isort: skip
    burst, pingpong, trickle, waiting, memory, parallel, lifetime,
)
