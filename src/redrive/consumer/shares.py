"""How many slots each graph may have: its own limit, and room that is kept for the others.

A run that hangs keeps its slot, and nothing takes it away: so no graph may take all of them,
however much of it waits and whoever else waits now. Of `worker.in_flight` an eighth is kept, in
equal parts of at least one slot, for those graphs that have less than their part; never more than
half of all.
A worker with one graph keeps nothing back. Pure bookkeeping of the event loop. [P7]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping

__all__ = ["Shares"]

KEPT_PART = 8
"""One slot of so many is kept for graphs that have few."""


class Shares:
    """The slots that graphs have.

    Args:
        in_flight: How many slots there are.
        graph_of: The name of the graph that serves a workflow; "" where none does.
        graphs: The names of all.
        limits: How many a graph may have at most, by name, where it has a limit of its own.
    """

    def __init__(
        self,
        in_flight: int,
        *,
        graph_of: Callable[[str], str] = lambda _: "",
        graphs: Collection[str] = (),
        limits: Mapping[str, int] | None = None,
    ) -> None:
        self._in_flight = in_flight
        self._graph_of = graph_of
        self._graphs = frozenset(graphs)
        self._limits = limits or {}
        several = len(self._graphs) > 1
        self._part = max(1, in_flight // (KEPT_PART * len(self._graphs))) if several else 0
        self._missing = self._part * len(self._graphs)
        self._running: Counter[str] = Counter()

    def of(self, workflow_id: str) -> str:
        """Return whose share a run of this workflow is part of."""
        return self._graph_of(workflow_id)

    def has_room(self, graph: str) -> bool:
        """Say whether one more of a graph's runs may start, where a slot is free."""
        running = self._running[graph]
        if running >= self._limits.get(graph, self._in_flight):
            return False
        if running < self._part:
            return True
        kept = self._missing - self._short_of(graph)
        return self._in_flight - self._running.total() > min(kept, self._in_flight // 2)

    def start(self, graph: str) -> None:
        """Note that a run of a graph has begun."""
        self._change(graph, 1)

    def end(self, graph: str) -> None:
        """Note that one has ended."""
        self._change(graph, -1)

    def _change(self, graph: str, by: int) -> None:
        self._missing -= self._short_of(graph)
        self._running[graph] += by
        self._missing += self._short_of(graph)

    def _short_of(self, graph: str) -> int:
        """Return how many slots a graph has less than its part."""
        return max(self._part - self._running[graph], 0) if graph in self._graphs else 0
