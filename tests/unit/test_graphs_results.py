"""What becomes JSON and how; what is refused, and where it lies."""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    ToolMessage,
    convert_to_messages,
)
from langgraph.types import Interrupt
from pydantic import BaseModel, ConfigDict
from tests.rows import rows

from redrive.errors import ResultError
from redrive.graphs.json_results import to_json
from redrive.retry.kinds import Reason


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int
    when: datetime


class Person(BaseModel):
    name: str
    born: date


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    items: list[Any]


WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@rows(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (10**30, 10**30),
        (1.5, 1.5),
        ("grüße", "grüße"),
        ((1, [2]), [1, [2]]),
        (deque([1]), [1]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({1: "a", None: "b", Colour.RED: "c"}, {"1": "a", "null": "b", "red": "c"}),
        ({UUID(int=1): 1}, {"00000000-0000-0000-0000-000000000001": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (WHEN, "2026-01-02T03:04:05+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (timedelta(minutes=1), "PT1M"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (PurePosixPath("a/b"), "a/b"),
        (IPv4Address("127.0.0.1"), "127.0.0.1"),
        (b"\xff\x00", "/wA="),
        (Point(1, WHEN), {"x": 1, "when": "2026-01-02T03:04:05+00:00"}),
        (Person(name="Ada", born=date(1815, 12, 10)), {"name": "Ada", "born": "1815-12-10"}),
        (Holder(items=[math.nan]), {"items": [None]}),
        (Interrupt(value="go on?", id="1"), {"value": "go on?", "id": "1"}),
    ],
)
def test_what_json_lacks_becomes_what_readers_expect(value: object, expected: object) -> None:
    found = to_json({"value": value})

    assert isinstance(found, dict)
    if isinstance(expected, dict) and isinstance(found["value"], dict):
        found["value"].pop("response_schema", None)
    assert found == {"value": expected}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_messages_come_out_as_langgraphs_api_shows_them_and_can_be_read_back() -> None:
    messages: list[AnyMessage] = [
        HumanMessage("what is 2 + 2?", id="1"),
        AIMessage("", id="2", tool_calls=[{"name": "add", "args": {"a": 2}, "id": "call"}]),
        ToolMessage("4", id="3", tool_call_id="call"),
        AIMessage("It is 4.", id="4"),
    ]

    found = to_json({"messages": messages})

    assert isinstance(found, dict)
    read = convert_to_messages(json.loads(json.dumps(found, allow_nan=False))["messages"])
    assert [message["type"] for message in found["messages"]] == ["human", "ai", "tool", "ai"]
    assert [message["content"] for message in found["messages"]][-1] == "It is 4."
    assert [(type(m), m.content, m.id) for m in read] == [
        (type(m), m.content, m.id) for m in messages
    ]
    assert isinstance(read[1], AIMessage)
    assert read[1].tool_calls[0]["args"] == {"a": 2}


@rows(
    ("state", "place"),
    [
        ({"items": [1, 2, 3, {"lock": threading.Lock()}]}, r"result\.items\[3\]\.lock"),
        (threading.Lock(), "result is not JSON: it is of type _thread.lock"),
        ({"score": math.nan}, r"result\.score is not JSON: the number is nan"),
        ([math.inf], r"result\[0\] is not JSON: the number is inf"),
        ({"a": {(1, 2): 1}}, r"result\.a is not JSON: a key is of type builtins.tuple"),
        ({"text": "\ud800"}, r"result\.text is not JSON: the text holds half a character"),
        ({"made": Holder(items=[1, threading.Lock()])}, r"result\.made\.items\[1\] is not JSON"),
        ({"f": print}, r"result\.f is not JSON: it is of type"),
        ({"f": Person}, r"result\.f is not JSON: it is of type"),
    ],
)
def test_what_is_not_json_is_refused_and_its_place_named(state: object, place: str) -> None:
    with pytest.raises(ResultError, match=place) as caught:
        to_json(state)

    assert caught.value.__redrive_reason__ == Reason.RESULT_NOT_JSON


def test_a_state_that_contains_itself_is_refused() -> None:
    state: dict[str, object] = {}
    state["self"] = state

    with pytest.raises(ResultError, match="contains itself"):
        to_json(state)


def test_the_advice_says_what_to_do() -> None:
    with pytest.raises(ResultError, match="`output` function"):
        to_json({"lock": threading.Lock()})
