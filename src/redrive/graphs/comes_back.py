"""Whether a state comes back from its checkpoint as it went in; asked of what is answered."""

from __future__ import annotations

import re
from typing import Any

from langgraph.channels import BinaryOperatorAggregate, LastValue

from redrive.graphs.loading import CompiledGraph

__all__ = ["comes_back"]

# These store their value, and nothing else is their value.
_CHANNELS = frozenset({LastValue, BinaryOperatorAggregate})
_SCALARS = frozenset({int, float, bool, type(None)})
# Half a character is stored as a question mark.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def comes_back(graph: CompiledGraph, state: object) -> bool:
    """Say whether what a run returned is surely what its thread holds; costs no read.

    True for what JSON has, in channels that hold just that. Whatever else there is may come back
    as something else: a subclass as its base, an exception as text, an `UntrackedValue` not at all.
    """
    names = graph.output_channels
    if isinstance(names, str):
        names = [names]
    elif not isinstance(state, dict):
        return False
    return all(type(graph.channels[name]) in _CHANNELS for name in names) and _is_plain(state)


def _is_plain(state: object) -> bool:
    # What contains itself was refused by the checkpointer: this ends.
    left: list[Any] = [state]
    while left:
        value = left.pop()
        kind = type(value)
        if kind in _SCALARS:
            continue
        if kind is str:
            if not value.isascii() and _HALF_CHARACTER.search(value):
                return False
        elif kind is list:
            left.extend(value)
        elif kind is dict and all(type(key) is str for key in value):
            left.extend(key for key in value if not key.isascii())
            left.extend(value.values())
        else:
            return False
    return True
