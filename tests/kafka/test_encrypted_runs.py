"""Runs whose payloads are encrypted, from end to end: nothing of them lies anywhere in clear."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kafka.dlq_commands import dlq
from typer.testing import CliRunner, Result

from redrive.cli.app import app
from redrive.cli.exits import ExitCode
from redrive.kafka.log import ConsumerRecord
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic

MARK = "Erika-Mustermann-DE02120300000000202051"
GRAPH = """
from typing import TypedDict

from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    text: str
    fails: bool
    seen: str


def look(state: State) -> State:
    return {"seen": f"seen {state['text']}"}


def take(state: State) -> State:
    if state.get("fails"):
        error = ValueError(f"cannot take {state['text']}")
        error.add_note(state["seen"])
        raise error
    return {"seen": f"took {state['text']}"}


graph = StateGraph(State).add_node(look).add_node(take)
graph.add_edge(START, "look").add_edge("look", "take")
"""
KEYS = {
    "REDRIVE_SECURITY__CODEC": "redrive.codec:AesGcm",
    "REDRIVE_SECURITY__ENCRYPTION_KEYS": json.dumps(
        {"2026": "env:PAYLOAD_KEY", "2025": "env:OLD_PAYLOAD_KEY"}
    ),
}
HELD = {
    "PAYLOAD_KEY": base64.b64encode(bytes(range(32))).decode(),
    "OLD_PAYLOAD_KEY": bytes(range(32, 64)).hex(),
}
LABEL = "aesgcm/1 2026"


class Person:
    """Somebody at the command line, with the key or without."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def run(self, *arguments: str, with_key: bool = True) -> Result:
        for name, value in (KEYS | HELD).items():
            if with_key:
                self._patch.setenv(name, value)
            else:
                self._patch.delenv(name, raising=False)
        return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Person:
    return Person(monkeypatch)


@pytest.fixture
def env(make_stage: Callable[..., KafkaEnv], command_at: Callable[[KafkaEnv], None]) -> KafkaEnv:
    env = make_stage(
        partitions=1,
        REDRIVE_CHECKPOINTS__ENCRYPTION_KEY="0123456789abcdef" * 2,
        REDRIVE_LETTERS__SPOOL="spool.jsonl",
        REDRIVE_METRICS__PORT="0",
    )
    (env.folder / "sealed_agent.py").write_text(GRAPH)
    command_at(env)
    return env


def held(record: ConsumerRecord) -> bytes:
    """Return all that a record holds, with the bytes that a letter keeps in base64."""
    parts = [record.key or b"", record.value or b"", *(v or b"" for _, v in record.headers)]
    found = json.loads(record.value or b"{}")
    if (source := found.get("source")) and isinstance(source, dict):
        parts += [base64.b64decode(source[name] or "") for name in ("key", "value")]
    return b"\n".join(parts)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.invariant("P15")
def test_an_encrypted_run_leaves_no_payload_anywhere_and_works_with_the_key(
    env: KafkaEnv, person: Person
) -> None:
    data = json.dumps({"text": MARK, "fails": True})
    beside = ("--metadata", json.dumps({"langgraph": {"tags": [MARK]}, "team": "payments"}))
    worker = env.worker("--graph", "notes=sealed_agent:graph", environ=KEYS | HELD)
    with worker.running():
        fine = person.run("send", "notes", "--wait", "--data", json.dumps({"text": MARK}), *beside)
        failed = person.run("send", "notes", "--wait", "--json", "--data", data, *beside)
        assert failed.stdout, (fine.output, failed.output, failed.exception)
        told = json.loads(failed.stdout)
        letter = told["answer"]["error_info"]["dlq_id"]
        # What is not decoded is driven all the same: its bytes are sent as they are.
        again = person.run("dlq", "redrive", letter, "--yes", with_key=False)
        unread = person.run("send", "notes", "--wait", "--data", "{}", with_key=False)
        refused = person.run("dlq", "edit", told["event_id"], "--set", "x=1", with_key=False)
        edit = ("dlq", "edit", told["event_id"], "--set", "payload.data.fails=false", "--yes")
        edited = person.run(*edit)
        worker.stop()

    assert (fine.exit_code, json.loads(fine.stdout)["seen"]) == (0, f"took {MARK}"), fine.output
    assert f"cannot take {MARK}" in told["answer"]["error"]
    assert "error  " in again.output, again.output
    assert unread.exit_code == ExitCode.ENDED_BADLY
    assert f"it is encrypted as '{LABEL}'" in unread.output
    assert refused.exit_code == ExitCode.ENDED_BADLY
    assert f"not sent: it is encrypted as '{LABEL}'" in refused.output
    assert (edited.exit_code, "success  " in edited.output) == (0, True), edited.output

    clear = MARK.encode()
    for topic in (env.topics.events, env.topics.results, env.topics.dlq, env.topics.retry):
        records = read_topic(env.bootstrap_servers, topic)
        assert [record for record in records if clear in held(record)] == []
    left = files(env.folder)
    assert any(path.name.endswith(".db") for path in left)
    assert any(b"run.dead_lettered" in text for text in left.values())
    assert [path for path, text in left.items() if clear in text] == []

    for command in (
        ("dlq", "show", told["event_id"], "--reveal"),
        ("run", "show", told["event_id"]),
        ("dlq", "list"),
    ):
        closed, opened = person.run(*command, with_key=False), person.run(*command)
        assert (closed.exit_code, opened.exit_code) == (0, 0), (closed.output, opened.output)
        assert (MARK in closed.output, LABEL in closed.output) == (False, True), closed.output
        assert (MARK in opened.output) is True, opened.output

    exported, note = person.run("dlq", "export", "--output", "letters.jsonl"), "stay so"
    assert (MARK in (env.folder / "letters.jsonl").read_text(), note in exported.output) == (
        False,
        True,
    )
    imported = dlq("import", "letters.jsonl")
    assert (imported.exit_code, "already_there" in imported.output) == (0, True), imported.output

    audits = [person.run("doctor", "audit", with_key=with_key) for with_key in (True, False)]
    assert [audit.exit_code for audit in audits] == [0, 0], [audit.output for audit in audits]
    assert all(LABEL in audit.output for audit in audits)
    not_decoded = "records whose payload is encrypted, and could not be decoded"
    assert [not_decoded in audit.output for audit in audits] == [False, True]


@pytest.mark.invariant("P1", "P7")
def test_an_event_that_cannot_be_decoded_is_one_letter_and_clear_ones_are_still_taken(
    env: KafkaEnv, person: Person
) -> None:
    clear = event({"text": MARK}, workflow_id="notes")
    worker = env.worker("--graph", "notes=sealed_agent:graph", environ=KEYS | HELD)
    sent = person.run("send", "notes", "--data", json.dumps({"text": MARK}))
    (record,) = read_topic(env.bootstrap_servers, env.topics.events)
    moved = json.loads(record.value or b"")
    # Another event with this one's payload: what was sealed for the one is not the other's.
    moved["event_id"] = event({}).event_id
    env.send([json.dumps(moved).encode(), clear])
    with worker.running():
        env.wait_settled(timeout_s=60)

    results = [
        json.loads(r.value or b"") for r in read_topic(env.bootstrap_servers, env.topics.results)
    ]
    status = {result["correlation_id"]: result["status"] for result in results}
    assert status == {
        sent.stdout.strip(): "success",
        moved["event_id"]: "error",
        clear.event_id: "success",
    }
    (error,) = [result["error_info"] for result in results if result["status"] == "error"]
    assert error["reason"] == "codec_failed"
    letters = [
        one
        for one in read_topic(env.bootstrap_servers, env.topics.dlq)
        if b'"dlq_id"' in (one.value or b"")
    ]
    assert len(letters) == 1
    shown = person.run("dlq", "show", moved["event_id"])
    assert "was changed, or belongs to another record" in shown.output
