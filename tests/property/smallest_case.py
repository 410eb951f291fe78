"""Makes a case that goes wrong smaller, as long as it goes wrong in the same way.

    GRAPH_SEEDS=17 python -m pytest tests/property/test_nothing_skipped.py

names the smallest case that it finds of each seed that fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.property.disturbed_runs import complaints
from tests.property.random_cases import Case, Fault, Kind, Stop, undisturbed
from tests.property.random_graphs import Body, Graph, Node, Route, To

__all__ = ["kind_of", "smallest"]

_MOST_TRIES = 400


def kind_of(complaint: str) -> str:
    """Return a complaint without what it names."""
    return " ".join(re.findall(r"\b[a-zA-Z]{2,}\b", complaint.partition(":")[0]))


async def smallest(case: Case, wrong: list[str], folder: Path) -> tuple[Case, list[str]]:
    """Return the smallest case found that goes wrong as `wrong`, and how it does."""
    kinds, tries = set(map(kind_of, wrong)), 0
    candidates = _simpler(case)
    while tries < _MOST_TRIES and (candidate := next(candidates, None)) is not None:
        if candidate.graph is not case.graph:
            played = await _played(candidate)
            if played is None:
                continue
            candidate = played
        tries += 1
        told = await complaints(candidate, folder)
        if kinds & set(map(kind_of, told)):
            case, wrong = candidate, told
            candidates = _simpler(case)
    return case, wrong


async def _played(case: Case) -> Case | None:
    """Return the case with what its graph comes to now; None where that is no graph any more."""
    try:
        found = await undisturbed(case.graph)
    except Exception:  # noqa: BLE001 - LangGraph refuses it in many ways
        return None
    if found is None or any(found[1][fault.tp] < fault.nth for fault in case.faults):
        return None
    return replace(case, result=found[0], executed=found[1])


def _simpler(case: Case) -> Iterator[Case]:
    """Give cases in which one thing less happens, then those with a graph that has less in it."""
    for at, fault in enumerate(case.faults):
        before, after = case.faults[:at], case.faults[at + 1 :]
        yield replace(case, faults=before + after)
        for simpler in _simpler_faults(fault):
            yield replace(case, faults=(*before, simpler, *after))
    for at, stop in enumerate(case.stops):
        for earlier in _simpler_stops(stop):
            yield replace(case, stops=(*case.stops[:at], earlier, *case.stops[at + 1 :]))
    for at in range(len(case.renames)):
        yield replace(case, renames=case.renames[:at] + case.renames[at + 1 :])
    if case.in_a_file:
        yield replace(case, in_a_file=False)
    for graph in _simpler_graphs(case.graph):
        yield replace(case, graph=graph)


def _simpler_stops(stop: Stop | None) -> Iterator[Stop | None]:
    if stop is not None:
        yield None
        for after in sorted({1, stop.after // 2, stop.after - 1} - {0, stop.after}):
            yield replace(stop, after=after)


def _simpler_faults(fault: Fault) -> Iterator[Fault]:
    if fault.always:
        yield replace(fault, always=False)
    if fault.nth > 1:
        yield replace(fault, nth=1)
    if fault.kind is not Kind.TRANSIENT:
        yield replace(fault, kind=Kind.TRANSIENT)
    if not fault.waits:
        yield replace(fault, waits=True)


def _simpler_graphs(graph: Graph) -> Iterator[Graph]:
    if len(graph.nodes) > 1:
        for node in graph.nodes:
            yield _without(graph, node.name)
    for at in range(len(graph.edges)):
        yield replace(graph, edges=graph.edges[:at] + graph.edges[at + 1 :])
    for at in range(len(graph.joins)):
        yield replace(graph, joins=graph.joins[:at] + graph.joins[at + 1 :])
    for at, (source, route) in enumerate(graph.routes):
        rest = graph.routes[:at] + graph.routes[at + 1 :]
        yield replace(graph, routes=rest)
        plain = tuple((source, to.node) for to in route.turns[-1])
        yield replace(graph, routes=rest, edges=tuple(dict.fromkeys((*graph.edges, *plain))))
        for simpler in _simpler_routes(route):
            now = (*graph.routes[:at], (source, simpler), *graph.routes[at + 1 :])
            yield replace(graph, routes=now)
    for at, node in enumerate(graph.nodes):
        for now_node in _simpler_nodes(node):
            yield replace(graph, nodes=(*graph.nodes[:at], now_node, *graph.nodes[at + 1 :]))
        if node.body is Body.COMMAND and node.goto is not None:
            plain = tuple((node.name, to.node) for to in node.goto.turns[-1])
            yield replace(
                graph,
                nodes=(*graph.nodes[:at], Node(node.name), *graph.nodes[at + 1 :]),
                edges=tuple(dict.fromkeys((*graph.edges, *plain))),
            )


def _simpler_nodes(node: Node) -> Iterator[Node]:
    if node.inner is not None:
        yield Node(node.name)
        for inner in _simpler_graphs(node.inner):
            yield replace(node, inner=inner)
    if node.body is Body.CALLED:
        yield replace(node, body=Body.COMPILED)
    if node.deferred:
        yield replace(node, deferred=False)
    if not node.is_async:
        yield replace(node, is_async=True)
    if node.goto is not None:
        for goto in _simpler_routes(node.goto):
            yield replace(node, goto=goto)


def _simpler_routes(route: Route) -> Iterator[Route]:
    if len(route.turns) > 1:
        yield replace(route, turns=route.turns[-1:])
        return
    last = route.turns[-1]
    for at in range(len(last)):
        if len(last) > 1:
            yield replace(route, turns=(last[:at] + last[at + 1 :],))
        if last[at].item is not None:
            yield replace(route, turns=((*last[:at], To(last[at].node), *last[at + 1 :]),))
    if not route.is_async:
        yield replace(route, is_async=True)
    if route.listed:
        yield replace(route, listed=False)


def _without(graph: Graph, name: str) -> Graph:
    def left(route: Route) -> Route:
        turns = tuple(tuple(to for to in turn if to.node != name) for turn in route.turns)
        return replace(route, turns=turns)

    edges = [edge for edge in graph.edges if name not in edge]
    joins = []
    for many, target in graph.joins:
        rest = tuple(source for source in many if source != name)
        if target == name or not rest:
            continue
        if len(rest) == 1:
            edges.append((rest[0], target))
        else:
            joins.append((rest, target))
    return Graph(
        nodes=tuple(
            replace(node, goto=node.goto and left(node.goto))
            for node in graph.nodes
            if node.name != name
        ),
        edges=tuple(edges),
        joins=tuple(joins),
        routes=tuple((source, left(route)) for source, route in graph.routes if source != name),
    )
