"""Random cases: a graph, what it comes to when nothing disturbs it, and what is to disturb its run.

Nothing here knows redrive.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import Any

from langgraph.errors import GraphRecursionError
from tests.property.random_graphs import INPUT, Body, Graph, To, build, nodes_of, random_graph

__all__ = ["Case", "Fault", "Kind", "Stop", "random_case", "undisturbed"]

_MOST_STEPS, _MOST_VISITS = 40, 60
_NOWHERE = "nowhere"


class Kind(StrEnum):
    """What a node or a route meets."""

    TRANSIENT = "raises TransientError"
    PERMANENT = "raises PermanentError"
    UNKNOWN = "raises RuntimeError"
    CANCELLED = "raises CancelledError"
    EXIT = "raises SystemExit, KeyboardInterrupt or GeneratorExit"
    INTERRUPT = "raises GraphInterrupt(())"
    DRAINED = "raises GraphDrained"
    DEATH = "kills the process"


@dataclass(frozen=True, slots=True)
class Fault:
    """The `nth` execution of a place fails, or with `always` each one.

    With `waits` it fails when nothing else is in flight, so that nothing else may run again.
    """

    tp: str
    kind: Kind
    nth: int = 1
    waits: bool = True
    always: bool = False

    def __str__(self) -> str:
        which = "each time" if self.always else f"execution {self.nth}"
        how = ", last of its step" if self.waits else ", at once"
        return f"{self.tp} {self.kind} ({which}{how})"


@dataclass(frozen=True, slots=True)
class Stop:
    """An attempt is drained when it has begun `after` nodes, or dies at its `after`-th write."""

    after: int
    dies: bool

    def __str__(self) -> str:
        return f"{'dies at write' if self.dies else 'is drained at node'} {self.after}"


@dataclass(frozen=True, slots=True)
class Case:
    """A graph, what it comes to undisturbed, and what happens to its run.

    `stops` are of the first attempts, in order. `renames` are tried before an attempt, by its
    number, on a copy of the thread: a node by its path, or None for the one that failed.
    """

    graph: Graph
    result: dict[str, Any]
    executed: Counter[str]
    faults: tuple[Fault, ...] = ()
    stops: tuple[Stop | None, ...] = ()
    renames: tuple[tuple[int, str | None], ...] = ()
    in_a_file: bool = False
    leads_nowhere: bool = False

    @property
    def must_fail(self) -> bool:
        return self.leads_nowhere or any(fault.always for fault in self.faults)

    def __str__(self) -> str:
        stops = [f"attempt {at} {stop}" for at, stop in enumerate(self.stops, 1) if stop]
        renames = [
            f"before attempt {at} {who or 'what failed'} is renamed" for at, who in self.renames
        ]
        where = ["checkpoints in a file"] if self.in_a_file else []
        told = [str(self.graph), *map(str, self.faults), *stops, *renames, *where]
        return "\n  ".join(told)


async def undisturbed(graph: Graph) -> tuple[dict[str, Any], Counter[str]] | None:
    """Return what plain LangGraph makes of it, and what it executed; None if that is too much."""
    counting = Counting()
    compiled = build(graph, counting).compile()
    try:
        result = await compiled.ainvoke(INPUT, {"recursion_limit": _MOST_STEPS})
    except (GraphRecursionError, TooMuchError):
        return None
    return result, counting.executed


class TooMuchError(Exception):
    """The graph does more than a test has time for."""


class Counting:
    """Counts executions."""

    def __init__(self) -> None:
        self.executed: Counter[str] = Counter()
        self._lock = threading.Lock()

    def visit(self, tp: str) -> None:
        with self._lock:
            self.executed[tp] += 1
            if self.executed.total() > _MOST_VISITS:
                raise TooMuchError

    async def avisit(self, tp: str) -> None:
        self.visit(tp)


async def random_case(seed: int) -> Case:
    """Return the case of this seed: always the same one."""
    dice = Random(seed)
    while True:
        graph = random_graph(dice)
        found = await undisturbed(graph)
        if found is not None:
            break
    result, executed = found
    case = Case(graph, result, executed)
    total = executed.total()
    if dice.random() < 0.05 and (astray := _astray(dice, case)) is not None:
        return replace(case, graph=astray, leads_nowhere=True)
    faults = _random_faults(dice, case)
    stops = [
        None if dice.random() < 0.5 else Stop(dice.randint(1, total * (3 if dies else 1)), dies)
        for dies in dice.choices([True, False], k=3)
    ]
    paths = [path for path, _ in nodes_of(graph)]
    renames = [
        (at, None if dice.random() < 0.5 else dice.choice(paths))
        for at in (2, 3)
        if dice.random() < 0.6
    ]
    return replace(
        case,
        faults=faults,
        stops=tuple(stops),
        renames=tuple(renames),
        in_a_file=dice.random() < 0.1,
    )


def _random_faults(dice: Random, case: Case) -> tuple[Fault, ...]:
    handled = {path for path, node in nodes_of(case.graph) if node.body is Body.HANDLED}
    # What a handler would take, it takes: that is no failure of the run.
    tps = [tp for tp in sorted(case.executed) if tp.partition("?")[0] not in handled]
    tps = [tp for tp in tps if not tp.endswith("!") or dice.random() < 0.2]
    if not tps:
        return ()
    kinds = [Kind.TRANSIENT] * 4 + [Kind.PERMANENT, Kind.DEATH] * 2
    kinds += [Kind.UNKNOWN, Kind.CANCELLED, Kind.EXIT, Kind.INTERRUPT, Kind.DRAINED]
    faults = []
    for _ in range(dice.choice([0, 1, 1, 1, 2, 2, 3])):
        tp = dice.choice(tps)
        kind = dice.choice(kinds)
        always = kind is not Kind.DEATH and dice.random() < 0.08
        nth = dice.randint(1, case.executed[tp])
        faults.append(Fault(tp, kind, nth, waits=dice.random() < 0.6, always=always))
    return tuple(faults)


def _astray(dice: Random, case: Case) -> Graph | None:
    """Let a route that was taken lead to a node that is not there as well; None: there is none."""
    taken = [
        (source, route)
        for source, route in case.graph.routes
        if len(route.turns) == 1 and f"{source}?{route.name}" in case.executed
    ]
    if not taken:
        return None
    chosen = dice.choice(taken)
    lost = To(_NOWHERE, dice.choice([None, "i0"]))
    astray = replace(chosen[1], turns=((*chosen[1].turns[0], lost),), listed=False)
    routes = tuple((chosen[0], astray) if at == chosen else at for at in case.graph.routes)
    return replace(case.graph, routes=routes)
