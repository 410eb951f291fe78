"""Random LangGraph graphs: as plain data, in one line of text, and built.

What a graph does depends on its data alone, never on what its nodes meet or on who comes first: so
a run that was disturbed must come to the same result as one that was not. A node adds its name to
the state's `trail`, which keeps its entries sorted; a route decides by how often its node stands
there. Nothing here runs a graph.
"""

from __future__ import annotations

import operator
import string
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import Annotated, Any, Protocol, TypedDict

from langgraph.errors import NodeError
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

__all__ = [
    "INPUT",
    "Body",
    "Graph",
    "Node",
    "Route",
    "State",
    "To",
    "Visits",
    "build",
    "first_name",
    "nodes_of",
    "random_graph",
    "renamed",
]

WHOLE = "all"
"""The item of whoever was not reached by a `Send`."""
INPUT = {"trail": [], "item": WHOLE}


def _merged(before: list[str], after: list[str]) -> list[str]:
    return sorted(operator.add(before, after))


class State(TypedDict):
    trail: Annotated[list[str], _merged]
    item: str


class Item(TypedDict):
    """What a subgraph is given."""

    item: str


class Trail(TypedDict):
    """What a subgraph gives back."""

    trail: Annotated[list[str], _merged]


class Body(StrEnum):
    """What a node is; its value stands behind its name in text."""

    PLAIN = ""
    COMMAND = "!"
    """Returns `Command(goto=...)`."""
    COMPILED = "[compiled]"
    """A subgraph that was compiled and added as the node."""
    CALLED = "[called]"
    """A function that calls a subgraph."""
    HANDLED = "[handled]"
    """Raises each time; its error handler returns `Command(goto=...)`."""


@dataclass(frozen=True, slots=True)
class To:
    """Where a route leads; with `item` as a `Send` that carries it."""

    node: str
    item: str | None = None

    def __str__(self) -> str:
        return self.node if self.item is None else f"Send({self.node}, {self.item})"


@dataclass(frozen=True, slots=True)
class Route:
    """A choice of what comes next: `turns[n - 1]` at the n-th visit, the last turn from then on.

    `listed` says whether a conditional edge names its targets when it is added.
    """

    name: str
    turns: tuple[tuple[To, ...], ...]
    is_async: bool = True
    listed: bool = True

    @property
    def nodes(self) -> list[str]:
        return sorted({to.node for turn in self.turns for to in turn if to.node != END})

    def at(self, visit: int) -> list[str | Send]:
        """Return where the `visit`-th visit leads."""
        turn = self.turns[min(visit, len(self.turns)) - 1]
        return [
            to.node if to.item is None else Send(to.node, {"trail": [], "item": to.item})
            for to in turn
        ]

    def __str__(self) -> str:
        turns = ", then ".join(" and ".join(map(str, turn)) or "nothing" for turn in self.turns)
        marks = ("" if self.is_async else " sync") + ("" if self.listed else " unlisted")
        return f"{turns}{marks}"


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    body: Body = Body.PLAIN
    is_async: bool = True
    deferred: bool = False
    goto: Route | None = None
    inner: Graph | None = None

    def __str__(self) -> str:
        marks = ("" if self.is_async else " sync") + (" deferred" if self.deferred else "")
        goto = "" if self.goto is None else f" goto {self.goto}"
        inner = "" if self.inner is None else f" {{{self.inner}}}"
        return f"{self.name}{self.body}{marks}{goto}{inner}"


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes, edges, edges from several nodes at once, and conditional edges."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...] = ()
    joins: tuple[tuple[tuple[str, ...], str], ...] = ()
    routes: tuple[tuple[str, Route], ...] = ()

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def __str__(self) -> str:
        return "; ".join(
            [
                ", ".join(map(str, self.nodes)),
                *(f"{a} -> {b}" for a, b in self.edges),
                *(f"{'+'.join(many)} -> {b}" for many, b in self.joins),
                *(f"{a} ?{route.name}-> {route}" for a, route in self.routes),
            ]
        )


# --- making them ---------------------------------------------------------------------------------

_DEEPEST = 2


def random_graph(dice: Random, *, depth: int = _DEEPEST, sync: bool = False) -> Graph:
    """Return a graph whose subgraphs are at most `depth` deep; `sync`: without an async function.

    It may go round for ever: whoever runs it must see to that.
    """
    most = 6 if depth == _DEEPEST else 3
    names = string.ascii_lowercase[: dice.randint(1 if depth < _DEEPEST else 2, most)]
    joins = _random_joins(dice, names)
    targets: dict[str, list[str]] = {source: [] for source in [START, *names]}
    joined = {target for _, target in joins}
    for at, name in enumerate(names):
        if name in joined and dice.random() < 0.7:
            continue
        before = [START, *names[:at]]
        near = before[-3:] if dice.random() < 0.8 else before
        for source in dice.sample(near, min(len(near), dice.choice([1, 1, 1, 2]))):
            targets[source].append(name)
    if not targets[START]:
        targets[START].append(names[0])
    nodes = [_random_node(dice, name, targets[name], depth=depth, sync=sync) for name in names]
    ends = {node.name for node in nodes if node.body in (Body.COMMAND, Body.HANDLED)}
    edges, routes = [], []
    for source, wanted in targets.items():
        if not wanted or source in ends:
            continue
        if dice.random() < 0.4:
            routes += [(source, route) for route in _random_routes(dice, source, wanted, sync=sync)]
        else:
            edges += [(source, target) for target in wanted]
    never_end = {node.name for node in nodes if node.body is Body.HANDLED}
    kept = [(many, target) for many, target in joins if never_end.isdisjoint(many)]
    return Graph(tuple(nodes), tuple(edges), tuple(kept), tuple(routes))


def _random_joins(dice: Random, names: str) -> list[tuple[tuple[str, ...], str]]:
    return [
        (tuple(dice.sample(names[:at], dice.choice([2, 2, min(3, at)]))), name)
        for at, name in enumerate(names)
        if at >= 2 and dice.random() < 0.3
    ]


def _random_node(dice: Random, name: str, wanted: list[str], *, depth: int, sync: bool) -> Node:
    is_async = not sync and dice.random() < 0.7
    bodies = [Body.PLAIN] * 10 + [Body.COMMAND] * 2 + [Body.HANDLED]
    if depth:
        bodies += [Body.COMPILED] * 3 + [Body.CALLED] * 2
    body = dice.choice(bodies)
    goto = inner = None
    if body in (Body.COMMAND, Body.HANDLED):
        goto = _random_route(dice, name, "", wanted, sync=sync, back=body is Body.COMMAND)
    if body in (Body.COMPILED, Body.CALLED):
        # What a sync function calls, it calls in its thread, without an event loop.
        within = sync or (body is Body.CALLED and not is_async)
        inner = random_graph(dice, depth=depth - 1, sync=within)
    return Node(name, body, is_async, deferred=dice.random() < 0.1, goto=goto, inner=inner)


def _random_routes(dice: Random, source: str, wanted: list[str], *, sync: bool) -> list[Route]:
    if len(wanted) > 1 and dice.random() < 0.4:
        cut = dice.randint(1, len(wanted) - 1)
        parts = [wanted[:cut], wanted[cut:]]
    else:
        parts = [wanted]
    return [
        _random_route(dice, source, str(at), part, sync=sync, back=at == 1 and source != START)
        for at, part in enumerate(parts, 1)
    ]


def _random_route(
    dice: Random, source: str, name: str, wanted: list[str], *, sync: bool, back: bool
) -> Route:
    last = tuple(to for node in wanted for to in _random_way(dice, node))
    if len(wanted) > 1 and dice.random() < 0.3:
        last = tuple(_random_way(dice, dice.choice(wanted)))
    turns = [last]
    if back and dice.random() < 0.3:
        earlier = string.ascii_lowercase[: string.ascii_lowercase.index(source) + 1]
        turns = [(To(dice.choice(earlier)),)] * dice.randint(1, 2) + turns
    is_async = not sync and dice.random() < 0.5
    return Route(name, tuple(turns), is_async, listed=dice.random() < 0.5)


def _random_way(dice: Random, node: str) -> list[To]:
    if dice.random() < 0.3:
        return [To(node, f"i{number}") for number in range(dice.randint(1, 3))]
    return [To(node)] if dice.random() < 0.95 else [To(END)]


# --- looking at them, and changing them ----------------------------------------------------------

_RENAMED = "_"


def nodes_of(graph: Graph, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Give all nodes at every depth with their paths, as `outer/inner`."""
    for node in graph.nodes:
        yield prefix + node.name, node
        if node.inner is not None:
            yield from nodes_of(node.inner, f"{prefix}{node.name}/")


def first_name(text: str) -> str:
    """Return a place, or an entry of a trail, as it was before any node was renamed."""
    return text.replace(_RENAMED, "")


def renamed(graph: Graph, path: str) -> Graph:
    """Return the graph with another name for the node at this path."""
    first, _, rest = path.partition("/")
    name = first + _RENAMED
    if rest:
        return replace(
            graph,
            nodes=tuple(
                replace(node, inner=renamed(node.inner, rest))
                if node.name == first and node.inner is not None
                else node
                for node in graph.nodes
            ),
        )

    def now(old: str) -> str:
        return name if old == first else old

    def routed(route: Route) -> Route:
        turns = tuple(tuple(To(now(to.node), to.item) for to in turn) for turn in route.turns)
        return replace(route, turns=turns)

    return Graph(
        nodes=tuple(
            replace(node, name=now(node.name), goto=node.goto and routed(node.goto))
            for node in graph.nodes
        ),
        edges=tuple((now(a), now(b)) for a, b in graph.edges),
        joins=tuple((tuple(map(now, many)), now(b)) for many, b in graph.joins),
        routes=tuple((now(a), routed(route)) for a, route in graph.routes),
    )


# --- building them -------------------------------------------------------------------------------


class Visits(Protocol):
    """Is told of each node and route that begins; may raise, or take its time."""

    def visit(self, place: str) -> None:
        """Note one that runs in a thread."""
        ...

    async def avisit(self, place: str) -> None:
        """Note one that runs on the event loop."""
        ...


Built = StateGraph[Any, Any, Any, Any]


def build(graph: Graph, visits: Visits, prefix: str = "") -> Built:
    """Return the graph as LangGraph's own; a place is `outer/inner`, a route of it `...?name`."""
    if prefix:
        built: Built = StateGraph(State, input_schema=Item, output_schema=Trail)
    else:
        built = StateGraph(State)
    for node in graph.nodes:
        _add(built, node, visits, prefix + node.name)
    for source, target in graph.edges:
        built.add_edge(source, target)
    for many, target in graph.joins:
        built.add_edge(list(many), target)
    for source, route in graph.routes:
        ends = [*route.nodes, END] if route.listed else None
        built.add_conditional_edges(source, _path(route, visits, prefix + source), ends)
    return built


def _add(built: Built, node: Node, visits: Visits, place: str) -> None:
    options: dict[str, Any] = {"defer": node.deferred}
    if node.goto is not None and node.body is Body.COMMAND:
        options["destinations"] = (*node.goto.nodes, END)
    if node.goto is not None and node.body is Body.HANDLED:
        options["error_handler"] = _handler(node, node.goto, visits, place)
    built.add_node(node.name, _body(node, visits, place), **options)


def _body(node: Node, visits: Visits, place: str) -> Any:  # noqa: ANN401 - what LangGraph takes
    match node:
        case Node(body=Body.COMPILED, inner=Graph() as inner):
            return build(inner, visits, f"{place}/").compile()
        case Node(body=Body.CALLED, inner=Graph() as inner):
            return _caller(node, inner, visits, place)
        case Node(body=Body.COMMAND, goto=Route() as goto):
            return _both(node.is_async, visits, place, lambda state: _command(goto, place, state))
        case Node(body=Body.HANDLED):
            return _both(node.is_async, visits, place, _refuse)
        case _:
            return _both(
                node.is_async, visits, place, lambda state: {"trail": [_entry(place, state)]}
            )


def _refuse(state: State) -> object:
    raise ValueError(f"refused, as always: {state['item']}")


def _command(goto: Route, place: str, state: State) -> Command[Any]:
    visit = _visits(place, state) + 1
    return Command(update={"trail": [_entry(place, state)]}, goto=goto.at(visit))


def _both(
    is_async: bool,  # noqa: FBT001 - which of the two
    visits: Visits,
    place: str,
    work: Callable[[State], object],
) -> Callable[[State], object] | Callable[[State], Awaitable[object]]:
    async def body(state: State) -> object:
        await visits.avisit(place)
        return work(state)

    def sync_body(state: State) -> object:
        visits.visit(place)
        return work(state)

    return body if is_async else sync_body


def _caller(
    node: Node, inner: Graph, visits: Visits, place: str
) -> Callable[[State], object] | Callable[[State], Awaitable[object]]:
    called = build(inner, visits, f"{place}/").compile()

    def told(state: State, found: dict[str, Any] | None) -> object:
        # None: it went straight to its end.
        return {"trail": [_entry(place, state), *(found or {"trail": []})["trail"]]}

    async def body(state: State) -> object:
        await visits.avisit(place)
        return told(state, await called.ainvoke({"item": state["item"]}))

    def sync_body(state: State) -> object:
        visits.visit(place)
        return told(state, called.invoke({"item": state["item"]}))

    return body if node.is_async else sync_body


def _handler(node: Node, goto: Route, visits: Visits, place: str) -> object:
    handles = f"{place}!"

    async def handler(state: State, error: NodeError) -> object:
        await visits.avisit(handles)
        assert error.node == node.name
        return _command(goto, handles, state)

    def sync_handler(state: State, error: NodeError) -> object:
        visits.visit(handles)
        assert error.node == node.name
        return _command(goto, handles, state)

    return handler if node.is_async else sync_handler


def _path(
    route: Route, visits: Visits, place: str
) -> Callable[[State], list[str | Send]] | Callable[[State], Awaitable[list[str | Send]]]:
    begins = f"{place}?{route.name}"

    async def path(state: State) -> list[str | Send]:
        await visits.avisit(begins)
        return route.at(_visits(place, state))

    def sync_path(state: State) -> list[str | Send]:
        visits.visit(begins)
        return route.at(_visits(place, state))

    path.__name__ = sync_path.__name__ = f"route{route.name}"
    return path if route.is_async else sync_path


def _entry(place: str, state: State) -> str:
    return place if state["item"] == WHOLE else f"{place}:{state['item']}"


def _visits(place: str, state: State) -> int:
    # By its first name: a node that was renamed has been visited under both.
    wanted = first_name(place)
    return sum(first_name(entry).partition(":")[0] == wanted for entry in state["trail"])
