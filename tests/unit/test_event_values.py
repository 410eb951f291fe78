"""An event of more values than memory should hold is not parsed; one of long texts is."""

from __future__ import annotations

import json

import pytest
from tests.rows import rows

from redrive import events
from redrive.errors import RecordError
from redrive.events import WorkflowEvent, readable_event_id
from redrive.testing.kafka_env import event

MOST = 1_000
MANY = {
    "tables": "[" + "{}," * 600 + "{}]",
    "lists": "[" + "[]," * 600 + "[]]",
    "numbers": "[" + "1," * 1_000 + "1]",
    "texts": "[" + '"",' * 1_001 + '""]',
    "names": "{" + ",".join(f'"{n}":0' for n in range(1_001)) + "}",
    "escapes": "[" + '"\\\\",' * 1_001 + "1]",
}
FEW = {
    "a text of commas": '"' + "," * 50_000 + '"',
    "a text of quotes": '"' + '\\",[{' * 5_000 + '"',
    "a text of backslashes": '"' + "\\\\" * 5_000 + "," * 5_000 + '"',
    "numbers": "[" + "1.234567890123," * 900 + "1]",
}


def with_data(text: str) -> bytes:
    whole = json.loads(event({"a": "HERE"}).to_bytes())
    return json.dumps(whole).replace('"HERE"', text).encode()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_EVENT_VALUES", MOST)


@pytest.mark.invariant("P7", "P11")
@rows("text", MANY.items(), ids=lambda row: row[0])
def test_an_event_of_too_many_values_is_not_parsed(text: tuple[str, str], few: None) -> None:
    del few
    value = with_data(text[1])
    json.loads(value)

    with pytest.raises(RecordError, match="more than 1000 values"):
        WorkflowEvent.from_bytes(value)
    assert readable_event_id(value) is None


@rows("text", FEW.items(), ids=lambda row: row[0])
def test_what_stands_in_texts_is_not_counted(text: tuple[str, str], few: None) -> None:
    del few
    value = with_data(text[1])

    assert readable_event_id(value) == WorkflowEvent.from_bytes(value).event_id
