"""How many supersteps a run may take: the graph's own limit, else the setting, else 100."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TypeGuard

from langgraph.errors import GraphRecursionError
from langgraph.pregel import Pregel

from redrive.graphs.loading import CompiledGraph
from redrive.graphs.reachable import reachable

__all__ = ["DEFAULT_RECURSION_LIMIT", "name_setting", "own_limit", "recursion_limit"]

DEFAULT_RECURSION_LIMIT = 100
_VARIABLE = "LANGGRAPH_DEFAULT_RECURSION_LIMIT"


def own_limit(compiled: CompiledGraph) -> int | None:
    """Return the limit that the graph was given by `with_config`, as `create_agent` does."""
    limit = (compiled.config or {}).get("recursion_limit")
    return None if limit is None else int(limit)


def recursion_limit(compiled: CompiledGraph, *, setting: int | None) -> int:
    """Return what holds for a run of this graph.

    LangGraph gives the limit of a run to all graphs inside of it, whatever they were given. So the
    default never is below the limit of a graph that a node contains, or that its code names.

    Args:
        compiled: The graph.
        setting: `graphs.<id>.recursion_limit`; None where it is not set.
    """
    own = own_limit(compiled)
    if own is not None:
        return own
    if setting is not None:
        return setting
    default = int(os.environ.get(_VARIABLE) or DEFAULT_RECURSION_LIMIT)
    return max([default, *_limits_inside(compiled, {id(compiled): compiled})])


def name_setting(
    error: GraphRecursionError, compiled: CompiledGraph, *, graph: str, limit: int
) -> None:
    """Let the error say where the limit can be raised, if it is the run's.

    Args:
        error: What a run raised; a graph that a node calls may have a limit of its own.
        compiled: What ran.
        graph: Its id in the settings.
        limit: What the run was given.
    """
    first = (str(error).splitlines() or [""])[0].partition(" You can increase")[0]
    if f"limit of {limit} " not in first:
        return
    if own_limit(compiled) is not None:
        advice = f"graph {graph!r} sets this limit itself, by with_config: raise it there"
    else:
        advice = (
            f"raise graphs.{graph}.recursion_limit, or start the worker with "
            f"--recursion-limit {graph}=N"
        )
    error.args = (f"{first} If it is no endless loop, {advice}.",)


def _limits_inside(compiled: CompiledGraph, seen: dict[int, object]) -> Iterator[int]:
    for node in compiled.nodes.values():
        for part in (*node.subgraphs, *reachable(node.bound, ends=_is_graph)):
            if not _is_graph(part) or id(part) in seen:
                continue
            seen[id(part)] = part
            limit = own_limit(part)
            if limit is not None:
                yield limit
            yield from _limits_inside(part, seen)


def _is_graph(part: object) -> TypeGuard[CompiledGraph]:
    # Not isinstance(), which asks a proxy's `__class__`: that may be code.
    return issubclass(type(part), Pregel)
