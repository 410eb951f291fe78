"""What nodes write is read back as it is stored: what comes back otherwise is told, or refused."""

from __future__ import annotations

import datetime as dt
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from pydantic import BaseModel, PrivateAttr
from structlog.testing import capture_logs
from tests.rows import rows

from redrive.errors import SettingsError, StateChangedError
from redrive.graphs import Checkpoints, CheckpointSettings, Ended, Failed, Lease, WorkflowProcessor
from redrive.graphs.attempt_ends import RunEnd
from redrive.graphs.fidelity import difference
from redrive.testing.kafka_env import event

EVENT = event({})


class Color(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    when: dt.datetime | None = None


class Model(BaseModel):
    point: Point
    tags: set[str] = set()


class Guarded(BaseModel):
    _hidden: str = PrivateAttr(default="unset")


def with_hidden() -> Guarded:
    guarded = Guarded()
    guarded._hidden = "set"  # noqa: SLF001 - as a graph's own code does
    return guarded


class State(TypedDict, total=False):
    value: Any
    n: int


KEPT: dict[str, Any] = {
    "text": "ü",
    "number": 2**63 - 1,
    "nan": float("nan"),
    "set": {1, 2},
    "frozenset": frozenset({"a"}),
    "datetime": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    "delta": dt.timedelta(seconds=1),
    "decimal": Decimal("1.10"),
    "uuid": uuid.UUID(int=5),
    "path": Path("/a"),
    "enum": Color.RED,
    "dataclass": Point(1, dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
    "model": Model(point=Point(1), tags={"a"}),
    "message": AIMessage("hi", tool_calls=[{"name": "t", "args": {"d": 1}, "id": "c"}]),
    "array": np.arange(6.0).reshape(2, 3),
    "text of its own class": AIMessage("hi").text,
    "decimal NaN": Decimal("NaN"),
    "nested": {"a": [1, {"b": [None, True]}]},
}
CHANGED: dict[str, tuple[Any, str]] = {
    "Counter": (Counter("aab"), "state['value']"),
    "defaultdict": (defaultdict(list, {"a": [1]}), "state['value']"),
    "OrderedDict": (OrderedDict(a=1), "state['value']"),
    "a tuple in a list": ([(1, 2)], "state['value'][0]"),
    "a Counter deep inside": (
        {"tools": {"counts": Counter("a")}},
        "state['value']['tools']['counts']",
    ),
    "deque with a limit": (deque([1], maxlen=3), "state['value'].maxlen"),
    "an exception": (ValueError("x"), "state['value']"),
    "bytearray": (bytearray(b"a"), "state['value']"),
    "a zone": (
        dt.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        "state['value'].tzinfo",
    ),
    "a private attribute": (with_hidden(), "state['value']._hidden"),
    "a set of tuples": ({(1, 2)}, "state['value']"),
    "half a character": ("a\ud800", "state['value']"),
}


def writes(value: Any) -> Any:  # noqa: ANN401 - a graph
    async def make(_: State) -> State:
        return {"value": value}

    async def count(state: State) -> State:
        return {"n": state.get("n", 0) + 1}

    graph: Any = StateGraph(State)
    graph.add_node("make", make).add_edge(START, "make")
    graph.add_node("count", count).add_edge("make", "count")
    return graph


async def run(value: Any, folder: Path, **settings: object) -> tuple[RunEnd, list[Any]]:  # noqa: ANN401 - any
    kept = CheckpointSettings.model_validate({"url": f"sqlite:///{folder}/kept.db", **settings})
    with capture_logs() as logged:
        async with Checkpoints(kept) as checkpoints:
            end = await WorkflowProcessor({"*": writes(value)}, checkpoints).run(
                EVENT, thread_id=f"{EVENT.event_id}/0/0", lease=Lease()
            )
    return end, [line for line in logged if line["event"] == "checkpoints.state_changes"]


@pytest.mark.parametrize("name", KEPT)
async def test_what_comes_back_as_it_was_is_stored_without_a_word(
    name: str, tmp_path: Path
) -> None:
    end, told = await run(KEPT[name], tmp_path, verify="refuse")

    assert not (isinstance(end, Failed) and isinstance(end.error, StateChangedError))
    assert told == []


@pytest.mark.parametrize("name", CHANGED)
async def test_what_comes_back_as_something_else_is_told_by_node_and_key(
    name: str, tmp_path: Path
) -> None:
    value, place = CHANGED[name]

    _, told = await run(value, tmp_path)

    assert [(line["node"], line["place"]) for line in told] == [("make", place)]


async def test_what_may_not_change_fails_its_run_before_anything_is_stored(tmp_path: Path) -> None:
    end, _ = await run({"counts": Counter("a")}, tmp_path, verify="refuse")

    assert isinstance(end, Failed)
    assert isinstance(end.error, StateChangedError)
    assert (end.error.node, end.error.place) == ("make", "state['value']['counts']")
    assert end.position is not None
    assert end.position.next == ("make",)


async def test_nothing_is_looked_at_where_nobody_asks(tmp_path: Path) -> None:
    end, told = await run(Counter("a"), tmp_path, verify="off")

    assert isinstance(end, Ended)
    assert told == []


async def test_a_shape_is_told_once(tmp_path: Path) -> None:
    kept = CheckpointSettings(url=f"sqlite:///{tmp_path}/kept.db")
    with capture_logs() as logged:
        async with Checkpoints(kept) as checkpoints:
            processor = WorkflowProcessor({"*": writes(Counter("a"))}, checkpoints)
            for number in range(3):
                await processor.run(EVENT, thread_id=f"thread-{number}", lease=Lease())

    assert [line["event"] for line in logged].count("checkpoints.state_changes") == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_a_value_does_not_differ_from_itself(value: object) -> None:
    assert difference(value, value) is None


@given(JSON, JSON)
def test_two_values_differ_exactly_where_they_are_not_equal(one: object, other: object) -> None:
    found = difference(one, other)

    assert (found is None) == (repr(one) == repr(other) or _same(one, other))


def _same(one: object, other: object) -> bool:
    """Compare types as well, at every depth; the order of keys does not count."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other or repr(one) == repr(other) == "nan"


@rows("value", [np.arange(3), np.array([1.5]), Send("n", {"a": 1}), {"b": Send("n", [1])}])
def test_what_python_does_not_have_is_compared_too(value: object) -> None:
    read = JsonPlusSerializer().loads_typed(JsonPlusSerializer().dumps_typed([value]))

    assert difference([value], read) is None


async def test_encrypted_checkpoints_hold_no_text_of_the_state_and_are_read(
    tmp_path: Path,
) -> None:
    end, _ = await run("a secret of the customer", tmp_path, encryption_key="k" * 32)
    again, _ = await run("another", tmp_path, encryption_key="k" * 32)

    assert isinstance(end, Ended)
    assert again == Ended(result=end.result, resumed=True)
    assert b"a secret of the customer" not in all_bytes(tmp_path)


def all_bytes(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.glob("kept.db*"))


async def test_what_was_stored_before_there_was_a_key_is_read(tmp_path: Path) -> None:
    before, _ = await run("plain", tmp_path)
    after, _ = await run("another", tmp_path, encryption_key="k" * 16)

    assert isinstance(before, Ended)
    assert after == Ended(result=before.result, resumed=True)


@rows(
    "settings, says",
    [
        ({"encryption_key": "short"}, "has 5 bytes: AES takes 16, 24 or 32"),
        ({"serializer": "json:dumps"}, "json:dumps raised when it was called"),
        ({"serializer": "json:decoder"}, "json:decoder is a module"),
        ({"serializer": "nowhere:it"}, "no module 'nowhere'"),
    ],
)
def test_a_serializer_that_cannot_work_is_refused_at_start(
    settings: dict[str, str], says: str
) -> None:
    with pytest.raises(SettingsError, match=says) as refused:
        Checkpoints(CheckpointSettings.model_validate(settings))

    assert "short" not in str(refused.value)


class _Upper(JsonPlusSerializer):
    """A serializer of the user's own."""

    calls = 0

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:  # noqa: ANN401 - LangGraph's
        _Upper.calls += 1
        return super().dumps_typed(obj)


async def test_a_serializer_of_the_users_own_is_used(tmp_path: Path) -> None:
    end, _ = await run("x", tmp_path, serializer=f"{__name__}:_Upper", verify="off")

    assert isinstance(end, Ended)
    assert _Upper.calls > 0
