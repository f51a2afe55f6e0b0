"""The tasks that rows submit: as empty as a result that can be checked allows."""
from typing import Any


def echo(item: Any) -> Any:
    """Return the argument, so that each result can be told from every other."""
    return item
