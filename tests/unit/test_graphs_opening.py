"""What graphs open on the event loop: lifespans, async factories, context managers, their ends."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import current_thread
from types import ModuleType
from typing import Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from structlog.testing import capture_logs
from tests.rows import rows

from redrive.errors import SettingsError
from redrive.events import WorkflowEvent
from redrive.graphs import (
    Ended,
    Failed,
    GraphRegistry,
    GraphSettings,
    Lease,
    WorkflowProcessor,
    lifespan_value,
)
from redrive.graphs.registry import Configured, GraphSource
from redrive.retry import Kind, classify

EVENT_ID = "0b0f7a44-7a0e-4b5e-8f0a-0d6b1f1d2c3e"

LIFESPANS = """
import asyncio
from contextlib import asynccontextmanager

told = []

@asynccontextmanager
async def lifespan():
    # A task group is left by the task that entered it, or raises.
    async with asyncio.TaskGroup() as tasks:
        beat = tasks.create_task(asyncio.Event().wait())
        told.append("opened")
        yield told
        beat.cancel()
    told.append("closed")

@asynccontextmanager
async def other():
    told.append("other opened")
    yield "other"
    told.append("other closed")

@asynccontextmanager
async def refuses():
    raise ConnectionRefusedError("nobody at db:5432")
    yield

@asynccontextmanager
async def refuses_in_a_group():
    async def connect():
        raise ConnectionRefusedError("nobody at mcp:80")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connect())
        await asyncio.Event().wait()
        yield

@asynccontextmanager
async def cancels_itself():
    asyncio.current_task().cancel()
    await asyncio.Event().wait()
    yield

@asynccontextmanager
async def hangs():
    await asyncio.Event().wait()
    yield

@asynccontextmanager
async def closes_badly():
    yield
    raise OSError("already gone")

@asynccontextmanager
async def never_closes():
    yield
    while True:
        await asyncio.Event().wait()

breaks = None
faults = {}

@asynccontextmanager
async def lost():
    global breaks
    if "raises" in faults:
        raise faults.pop("raises")
    if "waits" in faults:
        await asyncio.Event().wait()
    breaks = asyncio.Event()
    async def serve():
        await breaks.wait()
        raise OSError("the session has ended")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve())
        told.append("opened")
        yield len(told)

async def not_decorated():
    yield
"""


class State(TypedDict, total=False):
    said: str


def graph_that(says: Any) -> StateGraph[State, None, State, State]:  # noqa: ANN401 - any node
    graph = StateGraph(State)
    graph.add_node("say", says)
    graph.add_edge(START, "say")
    return graph


def saying(text: str) -> StateGraph[State, None, State, State]:
    return graph_that(lambda _: {"said": text})


def with_lifespan(source: Any, name: str = "lifespan") -> Configured:  # noqa: ANN401 - any graph
    return Configured(source, GraphSettings(lifespan=f"lifespans:{name}"))


def event() -> WorkflowEvent:
    return WorkflowEvent.model_validate(
        {
            "event_id": EVENT_ID,
            "timestamp": "2026-01-01T00:00:00Z",
            "workflow_id": "work",
            "workflow_run_id": "run",
            "payload": {"data": {}},
        }
    )


async def said(source: GraphSource | GraphRegistry) -> object:
    """Return what the graph says to one event, run without a worker."""
    registry = source if isinstance(source, GraphRegistry) else GraphRegistry({"work": source})
    end = await WorkflowProcessor(registry).run(event(), thread_id="t", lease=Lease())
    if isinstance(end, Failed):
        raise end.error
    assert isinstance(end, Ended)
    assert isinstance(end.result, dict)
    return end.result["said"]


async def said_while_open(graphs: dict[str, GraphSource]) -> object:
    async with GraphRegistry(graphs) as registry:
        return await said(registry)


@pytest.fixture(autouse=True)
def lifespans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module `lifespans`, new for each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "lifespans.py").write_text(LIFESPANS)
    yield import_module("lifespans")
    del sys.modules["lifespans"]


async def test_an_async_factory_connects_on_the_loop_that_runs_its_graph() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    async def make_graph() -> object:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)

        async def ask(_: State) -> State:
            writer.write(b"ping\n")
            return {"said": (await reader.readline()).decode().strip()}

        return graph_that(ask)

    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    # As a worker does: imported in a thread, and run on the loop.
    registry = await asyncio.to_thread(GraphRegistry, {"work": make_graph})

    answer = await said(registry)
    server.close()
    for writer in writers:
        writer.close()
        await writer.wait_closed()

    assert answer == "PING"


async def test_what_is_opened_by_the_first_event_is_opened_once() -> None:
    made: list[str] = []

    async def make_graph() -> object:
        await asyncio.sleep(0)
        made.append("made")
        return saying("hello")

    registry = GraphRegistry({"work": make_graph})
    processor = WorkflowProcessor(registry)

    async with asyncio.TaskGroup() as tasks:
        for number in range(5):
            tasks.create_task(processor.run(event(), thread_id=f"t{number}", lease=Lease()))

    assert made == ["made"]


def test_each_event_loop_has_what_it_opened_itself() -> None:
    made: list[asyncio.AbstractEventLoop] = []

    async def make_graph() -> object:
        made.append(asyncio.get_running_loop())
        return saying("hello")

    registry = GraphRegistry({"work": make_graph})

    answers = [asyncio.run(said(registry)) for _ in range(2)]

    assert answers == ["hello", "hello"]
    assert made[0] is not made[1]


def config_only(config: RunnableConfig) -> object:
    return saying(f"{sorted(config)} {config['configurable'].get('model', 'default')}")


async def async_config(config: RunnableConfig) -> object:
    return config_only(config)


def by_annotation(given: RunnableConfig, debug: bool = False) -> object:  # noqa: FBT001, FBT002 - theirs
    assert not debug
    return config_only(given)


def only_one(_anything, /):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - as people write
    return config_only(_anything)


def with_default(config: RunnableConfig | None = None) -> object:
    assert config is not None
    return config_only(config)


@asynccontextmanager
async def async_manager(config: RunnableConfig) -> AsyncIterator[object]:
    yield config_only(config)


@contextmanager
def sync_manager(config: RunnableConfig) -> Iterator[object]:
    yield config_only(config)


@rows(
    "factory",
    [
        config_only,
        async_config,
        by_annotation,
        only_one,
        with_default,
        async_manager,
        sync_manager,
        partial(async_config),
        partial(sync_manager),
        lambda config: async_config(config),  # noqa: PLW0108 - returns an awaitable, and is none
        lambda config: async_manager(config),  # noqa: PLW0108 - as above
    ],
    ids=str,
)
def test_a_factory_gets_a_config_without_values(factory: GraphSource) -> None:
    answer = asyncio.run(said_while_open({"work": factory}))

    # No recursion limit: one that the factory binds to its graph would hold.
    assert answer == "['configurable', 'metadata', 'tags'] default"


def test_a_sync_factory_with_a_config_needs_no_event_loop() -> None:
    registry = GraphRegistry({"work": config_only})

    assert set(registry.find("work").compiled.nodes) == {"__start__", "say"}
    assert registry.unopened == ()


def test_a_graph_that_is_made_on_the_loop_says_so_elsewhere() -> None:
    registry = GraphRegistry({"work": async_manager, "b": saying("b")})

    with pytest.raises(SettingsError, match=r"'work' is made on the event loop.*async with"):
        registry.find("work")
    assert registry.unopened == ("work",)
    assert [graph.id for graph in registry.graphs] == ["b"]


async def test_a_context_manager_is_open_while_the_registry_is() -> None:
    told: list[str] = []

    @asynccontextmanager
    async def make_graph() -> AsyncIterator[object]:
        async with asyncio.TaskGroup():
            told.append("opened")
            yield graph_that(lambda _: {"said": " ".join(told)})
        told.append("closed")

    async with GraphRegistry({"work": make_graph}) as registry:
        answer = await said(registry)

    assert answer == "opened"
    assert told == ["opened", "closed"]


async def test_a_blocking_context_manager_is_entered_and_left_in_one_thread_of_its_own() -> None:
    threads: list[object] = []

    @contextmanager
    def make_graph() -> Iterator[object]:
        threads.append(current_thread())
        yield saying("hello")
        threads.append(current_thread())

    async with GraphRegistry({"work": make_graph}) as registry:
        assert await said(registry) == "hello"

    assert threads[0] is threads[1]
    assert threads[0] is not current_thread()


async def test_a_lifespan_is_open_while_the_registry_is(lifespans: ModuleType) -> None:
    source = with_lifespan(saying("hello"))

    async with GraphRegistry({"work": source}) as registry:
        told_meanwhile = list(lifespans.told)
        assert await said(registry) == "hello"
        assert await said(registry) == "hello"

    assert told_meanwhile == ["opened"]
    assert lifespans.told == ["opened", "closed"]


def factory_with_value(lifespan: list[str], config: RunnableConfig) -> object:
    assert config == {"tags": [], "metadata": {}, "configurable": {}}
    return graph_that(lambda _: {"said": f"from the factory: {lifespan}"})


async def async_factory_with_value(*, lifespan: list[str]) -> object:
    return graph_that(lambda _: {"said": f"from the factory: {lifespan}"})


async def asks_async(_: State) -> State:
    return {"said": f"from the node: {lifespan_value(list)}"}


def asks_sync(_: State) -> State:
    return {"said": f"from the node: {lifespan_value(list)}"}


@rows(
    ("source", "where"),
    [
        (factory_with_value, "factory"),
        (async_factory_with_value, "factory"),
        (graph_that(asks_async), "node"),
        (graph_that(asks_sync), "node"),
        (graph_that(asks_sync).compile(), "node"),
    ],
)
def test_a_graph_gets_at_what_its_lifespan_yields(
    source: GraphSource, where: str, lifespans: ModuleType
) -> None:
    lifespans.told.clear()

    answer = asyncio.run(said_while_open({"work": with_lifespan(source)}))

    assert answer == f"from the {where}: ['opened']"


async def test_who_asks_for_what_no_lifespan_has_yielded_is_told() -> None:
    with pytest.raises(TypeError, match=r"has yielded a NoneType, not a list: see graphs\.ID\.lif"):
        await said(graph_that(asks_async))


async def test_two_graphs_of_one_lifespan_share_it(lifespans: ModuleType) -> None:
    sources = {
        "a": with_lifespan(async_factory_with_value),
        "b": with_lifespan(saying("b")),
        "c": with_lifespan(saying("c"), "other"),
    }

    async with GraphRegistry(sources) as registry:
        values = [registry.find(name).lifespan for name in "abc"]

    assert values == [lifespans.told, lifespans.told, "other"]
    assert lifespans.told == ["opened", "other opened", "other closed", "closed"]


async def test_a_lifespan_that_cannot_open_refuses_the_start(lifespans: ModuleType) -> None:
    sources = {
        "a": with_lifespan(saying("a")),
        "b": with_lifespan(saying("b"), "refuses"),
    }
    registry = GraphRegistry(sources)

    with pytest.raises(
        SettingsError,
        match=r"^graph 'b', its lifespan: lifespans:refuses raised when it was called "
        r"\(ConnectionRefusedError: nobody at db:5432\): fix it$",
    ):
        await registry.open()

    assert lifespans.told == ["opened", "closed"]
    assert registry.unopened == ("a", "b")


@rows(
    ("name", "says"),
    [
        ("refuses_in_a_group", "raised when it was called .ConnectionRefusedError: nobody at mcp"),
        ("cancels_itself", "lifespans:cancels_itself cancelled itself while it was opened"),
    ],
)
def test_why_a_lifespan_did_not_open_is_said(name: str, says: str) -> None:
    registry = GraphRegistry({"work": with_lifespan(saying("a"), name)})

    with pytest.raises(SettingsError, match=says):
        asyncio.run(registry.open())


async def test_a_lifespan_that_does_not_open_in_time_refuses_the_start() -> None:
    registry = GraphRegistry({"work": with_lifespan(saying("a"), "hangs")})

    with pytest.raises(
        SettingsError, match=r"lifespans:hangs was not open within 0\.01 s.*worker\.open_timeout"
    ):
        await registry.open(limit_s=0.01)


@rows(
    ("name", "why"),
    [("closes_badly", "OSError: already gone"), ("never_closes", "not within")],
)
def test_a_lifespan_that_does_not_close_is_logged(name: str, why: str) -> None:
    async def open_and_close() -> None:
        registry = GraphRegistry({"work": with_lifespan(saying("a"), name)})
        await registry.open()
        await registry.close(limit_s=0.02)

    with capture_logs() as logs:
        asyncio.run(open_and_close())

    (told,) = logs
    assert (told["event"], told["log_level"]) == ("graph.not_closed", "warning")
    assert told["what"] == f"graph 'work', its lifespan, lifespans:{name}"
    assert why in told["error"]


async def test_a_lifespan_that_was_lost_is_opened_again(lifespans: ModuleType) -> None:
    asks = graph_that(lambda _: {"said": str(lifespan_value(int))})
    async with GraphRegistry({"work": with_lifespan(asks, "lost")}) as registry:
        first = await said(registry)

        with capture_logs() as logs:
            lifespans.breaks.set()
            while not logs:  # noqa: ASYNC110 - a log line cannot be awaited
                await asyncio.sleep(0)
        second = await said(registry)

    assert (first, second) == ("1", "2")
    assert [(told["event"], told["log_level"]) for told in logs] == [
        ("graph.opened_part_lost", "error")
    ]


async def test_a_graph_whose_lifespan_was_lost_is_made_anew_and_what_it_held_is_closed(
    lifespans: ModuleType,
) -> None:
    told: list[str] = []

    @asynccontextmanager
    async def make_graph(lifespan: int) -> AsyncIterator[object]:
        told.append(f"opened with {lifespan}")
        yield saying(f"made with {lifespan}")
        told.append(f"closed with {lifespan}")

    async with GraphRegistry({"work": with_lifespan(make_graph, "lost")}) as registry:
        first = await said(registry)
        with capture_logs() as logs:
            lifespans.breaks.set()
            while not logs:  # noqa: ASYNC110 - a log line cannot be awaited
                await asyncio.sleep(0)
        second = await said(registry)

    assert (first, second) == ("made with 1", "made with 2")
    assert told == ["opened with 1", "closed with 1", "opened with 2", "closed with 2"]


async def test_all_lifespans_are_closed_although_one_never_is() -> None:
    names = ("lifespan", "never_closes", "other")
    registry = GraphRegistry({name: with_lifespan(saying(name), name) for name in names})
    await registry.open()
    module = import_module("lifespans")

    with capture_logs() as logs:
        await registry.close(limit_s=0.02)

    assert module.told == ["opened", "other opened", "other closed", "closed"]
    assert [told["what"] for told in logs] == [
        "graph 'never_closes', its lifespan, lifespans:never_closes"
    ]


async def test_what_cannot_be_opened_again_fails_the_run_as_its_cause_does(
    lifespans: ModuleType,
) -> None:
    asks = graph_that(lambda _: {"said": str(lifespan_value(int))})
    registry = GraphRegistry({"work": with_lifespan(asks, "lost")})
    await registry.open(limit_s=0.01)
    with capture_logs() as logs:
        lifespans.breaks.set()
        while not logs:  # noqa: ASYNC110 - a log line cannot be awaited
            await asyncio.sleep(0)
    processor = WorkflowProcessor(registry)

    lifespans.faults["raises"] = ConnectionRefusedError("nobody at db:5432")
    refused = await processor.run(event(), thread_id="t", lease=Lease())
    lifespans.faults["waits"] = True
    late = await processor.run(event(), thread_id="t", lease=Lease())
    await registry.close(limit_s=0.01)

    assert isinstance(refused, Failed)
    assert isinstance(late, Failed)
    assert [classify(end.error).kind for end in (refused, late)] == [Kind.TRANSIENT, Kind.TIMEOUT]


async def test_closing_does_not_wait_for_what_is_being_opened() -> None:
    registry = GraphRegistry({"work": with_lifespan(saying("a"), "hangs")})
    opening = asyncio.create_task(registry.open_for("work"))
    await asyncio.sleep(0)

    await registry.close(limit_s=0.01)

    assert not opening.done()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening


def needs(model: str, temperature: float) -> object:
    raise AssertionError((model, temperature))


def needs_server(runtime: ServerRuntime) -> object:  # type: ignore[name-defined]  # noqa: F821 - a name only
    raise AssertionError(runtime)


async def undecorated() -> AsyncIterator[object]:
    yield saying("x")


def undecorated_sync() -> Iterator[object]:
    yield saying("x")


def wants_a_loop() -> object:
    return asyncio.get_running_loop()


@rows(
    ("source", "says"),
    [
        (needs, "its parameter 'model' is required, and only config can be given; give it a def"),
        (needs_server, "its parameter 'runtime' is required, and only config can be given"),
        (factory_with_value, r"takes `lifespan`, and the graph has none: set graphs\.ID\.lifespan"),
        (undecorated, r"is a generator: decorate it with contextlib\.asynccontextmanager"),
        (undecorated_sync, r"is a generator: decorate it with contextlib\.contextmanager"),
        (wants_a_loop, "no running event loop.: make it an async function"),
        (with_lifespan(saying("x"), "nowhere"), "its lifespan: lifespans:nowhere does not exist"),
        (with_lifespan(saying("x"), "told"), "its lifespan: lifespans:told is a list: name a fun"),
        (with_lifespan(saying("x"), "not_decorated"), "lifespans:not_decorated is a generator"),
        (with_lifespan(needs), "only config and lifespan can be given"),
    ],
)
def test_what_cannot_be_called_is_refused_before_anything_is_opened(
    source: GraphSource, says: str
) -> None:
    with pytest.raises(SettingsError, match=f"^graph 'work'.*{says}"):
        GraphRegistry({"work": source})


async def nothing() -> None:
    return None


@contextmanager
def nothing_to_enter() -> Iterator[object]:
    raise OSError("no route")
    yield


async def exits() -> object:
    raise SystemExit(3)


@rows(
    ("source", "says"),
    [
        (nothing, "the object given is a NoneType, not a graph"),
        (exits, "raised when it was called .SystemExit: 3"),
        (nothing_to_enter, "raised when it was called .OSError: no route"),
    ],
)
def test_what_a_factory_makes_is_looked_at_when_it_is_opened(
    source: GraphSource, says: str
) -> None:
    registry = GraphRegistry({"work": source})

    with pytest.raises(SettingsError, match=f"^graph 'work': .*{says}"):
        asyncio.run(registry.open())
