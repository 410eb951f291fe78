"""What the code of a node may ask for: the value that its graph's lifespan has yielded."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TypeVar

__all__ = ["LIFESPAN", "lifespan_value"]

T = TypeVar("T")

LIFESPAN: ContextVar[object] = ContextVar("redrive_lifespan", default=None)
"""The value of the attempt's graph, in this task, or in this thread of a sync node."""


def lifespan_value(kind: type[T]) -> T:
    """Return what `graphs.ID.lifespan` has yielded to the graph that runs here.

    It is there in async and sync nodes, and in what they call.

    Args:
        kind: What it is expected to be, for type checkers and for the message if it is not.

    Raises:
        TypeError: It is something else, or there is none.
    """
    value = LIFESPAN.get()
    if isinstance(value, kind):
        return value
    raise TypeError(
        f"the lifespan of this graph has yielded a {type(value).__name__}, not a {kind.__name__}: "
        "see graphs.ID.lifespan, and call this in a node"
    )
