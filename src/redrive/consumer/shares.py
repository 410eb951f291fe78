"""How many slots each graph, and each workflow of a graph, may have; what is kept for the others.

A run that hangs keeps its slot, and nothing takes it away: so none may take all of them, however
much of it waits and whoever else waits now. Of `worker.in_flight` an eighth is kept, in equal parts
of at least one slot, for those graphs that have less than their part; never more than half of all.
Of the slots that a graph may have an eighth is kept for those of its workflows that have none,
where it serves more than one (its id is a pattern). A worker with one graph, a graph with one
workflow, keep nothing back. Pure bookkeeping of the event loop. [P7]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping

__all__ = ["Shares"]

KEPT_PART = 8
"""One slot of so many is kept for those that have few."""


class Shares:
    """The slots that graphs and their workflows have.

    Args:
        in_flight: How many slots there are.
        graph_of: The name of the graph that serves a workflow; "" where none does.
        graphs: The names of all.
        of_many: Those of them that serve any number of workflows.
        limits: How many a graph may have at most, by name, where it has a limit of its own.
    """

    def __init__(
        self,
        in_flight: int,
        *,
        graph_of: Callable[[str], str] = lambda _: "",
        graphs: Collection[str] = (),
        of_many: Collection[str] = (),
        limits: Mapping[str, int] | None = None,
    ) -> None:
        self._in_flight = in_flight
        self._graph_of = graph_of
        self._graphs = frozenset(graphs)
        self._of_many = frozenset(of_many)
        self._limits = limits or {}
        several = len(self._graphs) > 1
        self._part = max(1, in_flight // (KEPT_PART * len(self._graphs))) if several else 0
        self._missing = self._part * len(self._graphs)
        self._running: Counter[str] = Counter()
        self._of_workflow: Counter[str] = Counter()

    def lacking(self, workflow_id: str) -> str | None:
        """Return the share that has no room for one more run of a workflow, or None."""
        graph = self._graph_of(workflow_id)
        if not self._graph_has_room(graph):
            return _of_graph(graph)
        return None if self._workflow_has_room(graph, workflow_id) else _of_workflow(workflow_id)

    def has_room(self, share: str) -> bool:
        """Say whether one more run may start of a share that had no room."""
        kind, name = share[0], share[1:]
        if kind == _GRAPH:
            return self._graph_has_room(name)
        return self.lacking(name) is None

    def start(self, workflow_id: str) -> None:
        """Note that a run of a workflow has begun."""
        self._change(workflow_id, 1)

    def end(self, workflow_id: str) -> None:
        """Note that one has ended."""
        self._change(workflow_id, -1)

    def _graph_has_room(self, graph: str) -> bool:
        running = self._running[graph]
        if running >= self._limits.get(graph, self._in_flight):
            return False
        if running < self._part:
            return True
        kept = self._missing - self._short_of(graph)
        return self._in_flight - self._running.total() > min(kept, self._in_flight // 2)

    def _workflow_has_room(self, graph: str, workflow_id: str) -> bool:
        if graph not in self._of_many or not self._of_workflow[workflow_id]:
            return True
        most = min(self._limits.get(graph, self._in_flight), self._room_beside_others())
        kept = min(max(1, most // KEPT_PART), most // 2)
        return self._running[graph] < most - kept

    def _room_beside_others(self) -> int:
        """Return how many slots one graph may have while every other one has none."""
        kept = self._part * (len(self._graphs) - 1) if self._part else 0
        return self._in_flight - min(kept, self._in_flight // 2)

    def _change(self, workflow_id: str, by: int) -> None:
        graph = self._graph_of(workflow_id)
        self._missing -= self._short_of(graph)
        self._running[graph] += by
        self._missing += self._short_of(graph)
        self._of_workflow[workflow_id] += by
        if not self._of_workflow[workflow_id]:
            # Whoever writes events chooses their names.
            del self._of_workflow[workflow_id]

    def _short_of(self, graph: str) -> int:
        """Return how many slots a graph has less than its part."""
        return max(self._part - self._running[graph], 0) if graph in self._graphs else 0


_GRAPH, _WORKFLOW = "g", "w"


def _of_graph(name: str) -> str:
    return _GRAPH + name


def _of_workflow(name: str) -> str:
    return _WORKFLOW + name
