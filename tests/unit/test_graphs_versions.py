"""A graph's version: the same in every process, and never a server's to say."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from langgraph.pregel.remote import RemoteGraph
from tests.rows import rows

from redrive.errors import SettingsError
from redrive.events import WorkflowEvent
from redrive.graphs import Failed, GraphRegistry, Lease, WorkflowProcessor
from redrive.retry import Kind, classify


class State(TypedDict, total=False):
    text: str


class Server:
    """Listens, counts who connects, and answers nothing."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.calls = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.calls += 1
            connection.close()

    def close(self) -> None:
        # Closing alone does not wake the thread that waits.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with closing(Server()) as found:
        yield found


def of(node: Any, name: str = "node") -> StateGraph[State, None, State, State]:  # noqa: ANN401 - any node
    graph = StateGraph(State)
    graph.add_node(name, node)
    graph.add_edge(START, name)
    return graph


def calling(remote: RemoteGraph) -> StateGraph[State, None, State, State]:
    async def call(state: State) -> Any:  # noqa: ANN401 - as the server says
        return await remote.ainvoke(state)

    return of(call)


def test_loading_a_graph_with_a_remote_one_asks_no_server(server: Server) -> None:
    remote = RemoteGraph("agent", url=server.url)

    registry = GraphRegistry(
        {"node": of(remote), "nested": of(of(remote).compile()), "called": calling(remote)}
    )

    versions = [graph.version for graph in registry.graphs]
    assert server.calls == 0
    assert len(set(versions)) == 2, "a remote graph counts as its node, nested or not"
    assert all(len(version) == 12 for version in versions)


def test_what_stands_beside_a_remote_graph_counts() -> None:
    remote = RemoteGraph("agent", url="http://127.0.0.1:9")
    more = of(remote).add_node("more", lambda s: s).add_edge("node", "more")
    nested = of(remote).add_node("inner", of(lambda s: s, "a").compile())
    other = of(remote).add_node("inner", of(lambda s: s, "b").compile())

    registry = GraphRegistry(
        {"plain": of(remote), "again": of(remote), "more": more, "nested": nested, "other": other}
    )

    found = {graph.id: graph.version for graph in registry.graphs}
    assert found["plain"] == found["again"]
    assert len({found["plain"], found["more"], found["nested"], found["other"]}) == 4


async def test_a_run_whose_remote_graph_is_away_may_be_tried_again() -> None:
    event = WorkflowEvent.model_validate(
        {
            "event_id": "0b0f7a44-7a0e-4b5e-8f0a-0d6b1f1d2c3e",
            "timestamp": "2026-01-01T00:00:00Z",
            "workflow_id": "work",
            "workflow_run_id": "run",
            "payload": {"data": {"text": "in"}},
        }
    )
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    graph = of(RemoteGraph("agent", url=f"http://127.0.0.1:{port}"))

    end = await WorkflowProcessor({"work": graph}).run(event, thread_id="t", lease=Lease())

    assert isinstance(end, Failed)
    assert classify(end.error).kind is Kind.TRANSIENT


def last(_: object, new: object) -> object:
    return new


def undrawable(*names: str) -> StateGraph[Any, Any, Any, Any]:
    """Return a line of nodes on a state of a type that cannot be called, as drawing it does."""
    state: Any = Annotated[int | None, last]
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(state)
    for index, name in enumerate(names):
        graph.add_node(name, lambda s: s)
        graph.add_edge(names[index - 1] if index else START, name)
    return graph


def test_a_graph_that_cannot_be_drawn_has_a_version_of_its_structure() -> None:
    with pytest.raises(TypeError):
        undrawable("a").compile().get_graph(xray=True)

    inner = of(lambda s: s, "b").compile()
    registry = GraphRegistry(
        {
            "a": undrawable("a"),
            "same": undrawable("a"),
            "b": undrawable("b"),
            "order": undrawable("a", "b"),
            "other order": undrawable("b", "a"),
            "inner": undrawable().add_node("a", inner).add_edge(START, "a"),
        }
    )

    found = {graph.id: graph.version for graph in registry.graphs}
    assert found["a"] == found["same"]
    assert len(set(found.values())) == 5


@rows("name", ["agent", "other"])
def test_a_remote_graph_by_itself_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(SettingsError, match="is a RemoteGraph, not a graph: make it a node of a"):
        GraphRegistry({"work": RemoteGraph(name, url="http://127.0.0.1:9")})  # type: ignore[dict-item]
