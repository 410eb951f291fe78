"""docs/records.md against the models: its examples are read, its fields are all fields."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel
from tests.rows import rows

from redrive.dead_letter.audit_chain import AuditRecord
from redrive.dead_letter.record import (
    Cause,
    CheckpointRef,
    DeadLetter,
    GraphRef,
    LetterAttempt,
    LetterContext,
    LetterError,
    Source,
)
from redrive.dead_letter.source import LeftOut
from redrive.dead_letter.states import LetterState
from redrive.events import (
    ErrorInfo,
    EventHeaders,
    EventPlace,
    RunInfo,
    WorkflowEvent,
    WorkflowResultEvent,
)

PAGE = (Path(__file__).parents[2] / "docs" / "records.md").read_text(encoding="utf-8")
MODELS: dict[str, type[BaseModel]] = {
    "event": WorkflowEvent,
    "result": WorkflowResultEvent,
    "error_info": ErrorInfo,
    "run": RunInfo,
    "answers": EventPlace,
    "letter": DeadLetter,
    "letter.error": LetterError,
    "letter.context": LetterContext,
    "letter.cause_chain[]": Cause,
    "letter.attempts[]": LetterAttempt,
    "letter.source": Source,
    "letter.left_out": LeftOut,
    "letter.checkpoint": CheckpointRef,
    "letter.graph": GraphRef,
    "state": LetterState,
    "audit": AuditRecord,
}


def example(name: str) -> bytes:
    found = re.search(rf"^```json {name}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert found is not None, f"no example of {name}"
    return found[1].encode()


def fields_told(name: str) -> list[str]:
    section = PAGE.partition(f"### `{name}`\n")[2].partition("\n#")[0]
    return re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)


@pytest.mark.parametrize("name", ["event", "result", "error"])
def test_an_example_is_read(name: str) -> None:
    model = WorkflowEvent if name == "event" else WorkflowResultEvent

    model.from_bytes(example(name))


def test_the_example_of_a_letter_is_read_and_holds_the_example_of_an_event() -> None:
    letter = DeadLetter.model_validate_json(example("letter"))

    assert letter.source.value is not None
    assert json.loads(letter.source.value) == json.loads(example("event"))
    assert letter.original_event == json.loads(example("event"))


def test_the_example_of_an_audit_record_is_read_and_holds_the_example_of_a_state() -> None:
    told = AuditRecord.model_validate_json(example("audit"))

    assert told.done == LetterState.model_validate_json(example("state"))


@rows("name", MODELS)
def test_every_field_has_its_line(name: str) -> None:
    assert sorted(fields_told(name)) == sorted(MODELS[name].model_fields)


def test_every_header_has_its_line() -> None:
    told = re.findall(r"^\| `(redrive-[a-z-]+|traceparent)` \|", PAGE, flags=re.MULTILINE)
    letter = DeadLetter.model_validate_json(example("letter"))
    letter = letter.model_copy(update={"fingerprint": "f"})
    full = EventHeaders(
        thread="t",
        generation=1,
        attempt=1,
        not_before=1,
        deadline=1,
        of="o",
        event="e",
        count=1,
        mode="resume",
        checkpoint="c",
        source="s",
        letters=1,
        history="h",
        traceparent="p",
    )

    written = {name for name, _ in full.write()} | {name for name, _ in letter.headers()}

    assert written | {"redrive-record", "redrive-signature"} == set(told)
