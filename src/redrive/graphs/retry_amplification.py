"""Where retries multiply: in LangGraph, in the clients that nodes use, and again in the worker.

Found by looking at a loaded graph, so it is a hint: what hides in a function's body or behind a
property is not seen, and not all that is reached need be called. It never raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langgraph.constants import START
from langgraph.pregel import Pregel
from langgraph.types import RetryPolicy

from redrive.graphs.node_retry import InPlace
from redrive.graphs.reachable import attribute, reachable
from redrive.graphs.registry import LoadedGraph
from redrive.retry.retry_config import RetryConfig

__all__ = ["RetryAmplification", "stacked_retries"]

_MOST_NESTED = 10
# What a client calls its limit, and how many of its tries are not counted in it.
_LIMITS = {"max_retries": 1, "max_attempt_number": 0}


@dataclass(frozen=True, slots=True)
class RetryAmplification:
    """One place where retries multiply.

    `node` is written as `outer/inner` inside a subgraph; `calls` is the most that one run may make.
    """

    graph: str
    node: str
    what: str
    calls: int
    advice: str

    def __str__(self) -> str:
        return f"{self.what}: {self.advice}"


@dataclass(frozen=True, slots=True)
class _Node:
    graph: str
    name: str
    bound: object
    tried: int
    """By LangGraph, apart from `redrive.graphs.retry_policy`; with what is around the node."""


@dataclass(frozen=True, slots=True)
class _Limit:
    client: str
    setting: str
    off: str
    tries: int


def stacked_retries(
    loaded: LoadedGraph, *, policy: RetryConfig | None = None
) -> tuple[RetryAmplification, ...]:
    """Return where a failure of a node is tried again by more than one authority.

    Args:
        loaded: The graph, as the registry has it.
        policy: The retry policy that the worker has for it; by default `RetryConfig()`.
    """
    worker = (policy or RetryConfig()).most_retries + 1
    found: list[RetryAmplification] = []
    for node in _nodes(loaded.id, loaded.compiled, prefix="", around=1):
        outer = node.tried * worker
        if node.tried > 1 and worker > 1:
            found.append(_of_langgraph(node, worker))
        if outer > 1:
            found += [_of_client(node, worker, limit) for limit in _limits(node.bound)]
    return tuple(found)


def _nodes(
    graph: str, compiled: Pregel[Any, Any, Any, Any], *, prefix: str, around: int
) -> Iterator[_Node]:
    for name, node in compiled.nodes.items():
        if name == START:
            continue
        tried = around * _tries(node.retry_policy or compiled.retry_policy)
        yield _Node(graph, prefix + name, node.bound, tried)
        for inner in node.subgraphs:
            # A graph may be its own subgraph.
            if isinstance(inner, Pregel) and prefix.count("/") < _MOST_NESTED:
                yield from _nodes(graph, inner, prefix=f"{prefix}{name}/", around=tried)


def _tries(policies: Sequence[RetryPolicy]) -> int:
    # Ours is counted by the worker: it multiplies nothing.
    others = [p.max_attempts for p in policies if not isinstance(p.retry_on, InPlace)]
    return max([1, *others])


def _limits(bound: object) -> list[_Limit]:
    """Return the retries of the clients that the node's code reaches, each once."""
    found = (_limit(part) for part in reachable(bound, ends=_is_behind_another))
    return list(dict.fromkeys(limit for limit in found if limit is not None))


def _is_behind_another(part: object) -> bool:
    # Subgraphs have nodes of their own; what a client holds is made with its own setting.
    return issubclass(type(part), Pregel) or attribute(part, "max_retries") is not None


def _limit(part: object) -> _Limit | None:
    for name, uncounted in _LIMITS.items():
        value = attribute(part, name)
        if type(value) is int and value + uncounted > 1:
            off = f"{name}={1 - uncounted}"
            return _Limit(_name(part), f"{name}={value}", off, value + uncounted)
    return None


def _name(part: object) -> str:
    return f"{type(part).__module__.partition('.')[0]}.{type(part).__qualname__}"


def _of_langgraph(node: _Node, worker: int) -> RetryAmplification:
    calls = node.tried * worker
    return RetryAmplification(
        node.graph,
        node.name,
        f"node {node.name!r} of graph {node.graph!r} is tried {_times(node.tried)} by LangGraph's "
        f"RetryPolicy, and the worker tries each run {_times(worker)}: up to {calls} calls",
        calls,
        "give the node redrive.graphs.retry_policy(), whose retries are those of the run",
    )


def _of_client(node: _Node, worker: int, limit: _Limit) -> RetryAmplification:
    calls = node.tried * worker * limit.tries
    by_langgraph = f" is tried {_times(node.tried)} by LangGraph and" if node.tried > 1 else ""
    return RetryAmplification(
        node.graph,
        node.name,
        f"node {node.name!r} of graph {node.graph!r}{by_langgraph} reaches {limit.client} with "
        f"{limit.setting}, and the worker tries each run {_times(worker)}: up to {calls} calls",
        calls,
        f"set {limit.off} and let redrive retry, or accept up to {calls} calls",
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
