"""Retries that multiply are found by looking at a loaded graph."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypedDict

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy
from tests.rows import rows

from redrive.graphs import GraphRegistry, retry_policy
from redrive.graphs.registry import GraphSource
from redrive.graphs.retry_amplification import RetryAmplification, stacked_retries
from redrive.retry import RetryConfig


class State(TypedDict):
    text: str


class Client:
    """As the SDKs of model providers: so many retries of its own."""

    def __init__(self, max_retries: int = 2) -> None:
        self.max_retries = max_retries

    def ask(self) -> str:
        return "answer"


class Slotted:
    __slots__ = ("max_retries",)

    def __init__(self) -> None:
        self.max_retries = 2


class Model:
    """As LangChain's chat models: no limit of its own, and a client inside."""

    max_retries = None

    def __init__(self) -> None:
        self.root_client = Client()


class Holder:
    def __init__(self, held: Any) -> None:  # noqa: ANN401 - whatever
        self.held = held

    def node(self, _: State) -> State:
        return {"text": self.held.ask()}

    def __call__(self, _: State) -> State:
        return {"text": self.held.ask()}


CLIENT = Client()
SLOTTED = Slotted()
LLM: Any = ModuleType("llm")
LLM.client = Client()


def with_global(_: State) -> State:
    return {"text": CLIENT.ask()}


def with_nested_global(_: State) -> State:
    return {"text": "".join(CLIENT.ask() for _ in range(2))}


def with_slots(_: State) -> State:
    return {"text": str(SLOTTED)}


def with_module(_: State) -> State:
    return {"text": LLM.client.ask()}


def asks() -> str:
    return CLIENT.ask()


def with_function(_: State) -> State:
    return {"text": asks()}


def with_argument(client: Client, _: State) -> State:
    return {"text": client.ask()}


async def with_await(_: State) -> State:
    return {"text": CLIENT.ask()}


def with_nothing(_: State) -> State:
    return {"text": str(CLIENTS_OF_OTHERS)}


CLIENTS_OF_OTHERS = [Client(0), Model]


def with_closure() -> Callable[[State], State]:
    client = Client()
    return lambda _: {"text": client.ask()}


def graph_of(node: Any, policy: Any = None) -> GraphSource:  # noqa: ANN401 - LangGraph's types
    return StateGraph(State).add_node("write", node, retry_policy=policy).add_edge(START, "write")


def amplified(
    graph: GraphSource, policy: RetryConfig | None = None
) -> tuple[RetryAmplification, ...]:
    return stacked_retries(GraphRegistry({"report": graph}).find("report"), policy=policy)


def test_langgraphs_policy_is_found() -> None:
    found = amplified(graph_of(with_nothing, RetryPolicy()))

    assert found == (
        RetryAmplification(
            "report",
            "write",
            "node 'write' of graph 'report' is tried 3 times by LangGraph's RetryPolicy, and the "
            "worker tries each run 4 times: up to 12 calls",
            12,
            "give the node redrive.graphs.retry_policy(), whose retries are those of the run",
        ),
    )


@pytest.mark.parametrize(
    "policy",
    [
        retry_policy(),
        [retry_policy(5), retry_policy()],
        RetryPolicy(max_attempts=1),
        None,
    ],
)
def test_what_does_not_multiply_is_not_told(policy: Any) -> None:  # noqa: ANN401
    assert amplified(graph_of(with_nothing, policy)) == ()


def test_a_policy_beside_ours_is_found() -> None:
    policies = [retry_policy(), RetryPolicy(max_attempts=5, retry_on=KeyError)]

    (found,) = amplified(graph_of(with_nothing, policies))

    assert found.calls == 20


def test_defaults_of_a_graph_are_found() -> None:
    graph = StateGraph(State).set_node_defaults(retry_policy=RetryPolicy(max_attempts=2))
    node: Any = with_nothing
    graph.add_node("a", node).add_node("b", node).add_edge(START, "a").add_edge("a", "b")

    assert [(found.node, found.calls) for found in amplified(graph)] == [("a", 8), ("b", 8)]


def test_nothing_multiplies_where_the_worker_tries_once() -> None:
    once = RetryConfig(max_retries=0)

    assert amplified(graph_of(with_nothing, RetryPolicy()), once) == ()
    assert amplified(graph_of(with_global), once) == ()
    (client,) = amplified(graph_of(with_global, RetryPolicy()), once)
    assert client.calls == 9


@rows(
    "node",
    [
        with_global,
        with_nested_global,
        with_module,
        with_function,
        with_await,
        with_closure(),
        functools.partial(with_argument, Client()),
        Holder(Client()).node,
        Holder(Client()),
        Holder(Holder([Client()])).node,
        RunnableLambda(with_global),
        RunnableLambda(with_closure()) | RunnableLambda(with_nothing),
    ],
)
def test_a_client_that_retries_is_found(node: Any) -> None:  # noqa: ANN401
    (found,) = amplified(graph_of(node))

    module = __name__.partition(".")[0]
    assert found.what == (
        f"node 'write' of graph 'report' reaches {module}.Client with max_retries=2, and the "
        "worker tries each run 4 times: up to 12 calls"
    )
    assert found.advice == "set max_retries=0 and let redrive retry, or accept up to 12 calls"


def test_a_client_inside_a_model_is_found() -> None:
    (found,) = amplified(graph_of(Holder(Model()).node))

    assert "Client with max_retries=2" in found.what


def test_a_client_with_slots_is_found() -> None:
    (found,) = amplified(graph_of(with_slots))

    assert "Slotted with max_retries=2" in found.what


def test_langchains_with_retry_is_found() -> None:
    model = FakeListChatModel(responses=["a"]).with_retry(stop_after_attempt=5)

    (found,) = amplified(graph_of(lambda _: {"text": model.invoke("x").content}))

    assert "langchain_core.RunnableRetry" in found.what
    assert (found.calls, found.advice.partition(" and")[0]) == (20, "set max_attempt_number=1")


def test_a_client_in_a_node_that_is_retried_multiplies_with_both() -> None:
    policy, client = amplified(graph_of(with_global, RetryPolicy()))

    assert (policy.calls, client.calls) == (12, 36)
    assert "is tried 3 times by LangGraph and reaches" in client.what


def test_subgraphs_are_looked_into() -> None:
    inner: Any = StateGraph(State)
    inner.add_node("ask", with_global, retry_policy=RetryPolicy(max_attempts=2))
    inner.add_edge(START, "ask")

    found = amplified(graph_of(inner.compile(), RetryPolicy(max_attempts=3)))

    assert [(one.node, one.calls) for one in found] == [
        ("write", 12),
        ("write/ask", 24),
        ("write/ask", 72),
    ]


class Hostile:
    """Whatever is asked of it raises, also its class."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)


def test_objects_that_raise_are_passed_over() -> None:
    hostile, client = Hostile(), Client()

    (found,) = amplified(graph_of(lambda _: {"text": str([hostile, client])}))

    assert found.calls == 12


def test_properties_are_not_asked() -> None:
    asked = []

    class Lazy:
        @property
        def max_retries(self) -> int:
            asked.append("max_retries")
            return 2

        def __getattr__(self, name: str) -> object:
            asked.append(name)
            raise AttributeError(name)

    lazy = Lazy()
    graph = GraphRegistry({"report": graph_of(lambda _: {"text": str(lazy)})})
    asked.clear()  # LangGraph asks it for `__self__` when it compiles

    found = stacked_retries(graph.find("report"))

    assert (found, asked) == ((), [])


def test_a_wide_and_circular_heap_is_looked_at_in_bounds() -> None:
    circle: list[Any] = [Client()]
    circle.append(circle)
    circle += [[{"x": object()} for _ in range(50)] for _ in range(500)]

    (found,) = amplified(graph_of(lambda _: {"text": str(circle)}))

    assert found.calls == 12


def test_an_empty_cell_is_passed_over() -> None:
    def make() -> Callable[[State], State]:
        def node(_: State) -> State:
            return {"text": str(later) + CLIENT.ask()}

        if sys.maxsize < 0:
            later = 1
        return node

    (found,) = amplified(graph_of(make()))

    assert found.calls == 12
