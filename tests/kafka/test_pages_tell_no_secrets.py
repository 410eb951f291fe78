"""Secrets of many forms in failures and payloads: no page of the command line shows one.

Letters of a worker, whose texts it has masked, and letters and results of other writers, who have
not. How each form is masked is in tests/unit/test_redact.py.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from typing import Any, TypedDict

import pytest
from confluent_kafka import Producer
from langgraph.graph import START, StateGraph
from structlog.testing import capture_logs
from tests.kafka.dlq_commands import dlq
from tests.unit.test_redact import SECRETS
from typer.testing import CliRunner

from redrive.cli.app import app
from redrive.clock import SYSTEM
from redrive.dead_letter.record import Cause, DeadLetter, LetterAttempt, LetterContext, LetterError
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.events import ErrorInfo, ResultStatus, WorkflowEvent, WorkflowResultEvent
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.retry.kinds import Kind, Reason
from redrive.settings import Settings
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.stored_letters import dead_letter, store_letters
from redrive.wiring import LangGraphKafkaConsumer

TEXTS = list(SECRETS)
CANARIES = set(SECRETS.values())


class Told(TypedDict):
    text: str


def look_up(text: str) -> None:
    error = LookupError(text)
    error.add_note(text)
    raise error


async def fail(state: Told) -> Told:
    try:
        look_up(state["text"])
    except LookupError as error:
        raise ValueError(f"while it was told: {state['text']}") from error
    return state


def asked(text: str) -> WorkflowEvent:
    sent = event({"text": text, "list": [text], "by name": {text: text}})
    return sent.model_copy(update={"metadata": {"environment": text}, "source": text})


def of_another_writer(number: int, topic: str, texts: list[str]) -> DeadLetter:
    """Return a letter of one who masks nothing: these texts stand wherever it has a text."""
    text, now = texts[0], SYSTEM.now()
    made = dead_letter(
        asked(text),
        topic=topic,
        offset=10_000 + number,
        fingerprint=f"{number:016x}",
        error=LetterError(type="ValueError", message=text, traceback=text, notes=texts),
        context=LetterContext.model_validate({"workflow_id": "w", "hint": texts, text: 1}),
        cause_chain=[Cause(type="KeyError", message=each) for each in texts],
        attempts=[
            LetterAttempt(
                number=1,
                started_at=now,
                ended_at=now,
                kind=Kind.PERMANENT,
                type="ValueError",
                message=each,
                worker="w",
            )
            for each in texts
        ],
    )
    headers = [("authorization", text.encode())]
    source = made.source.model_copy(update={"key": text.encode(), "headers": headers})
    return made.model_copy(update={"source": source, "more": texts})


def result_and_state(env: KafkaEnv, letter: DeadLetter, text: str) -> None:
    event_id = (letter.original_event or {})["event_id"]
    info = ErrorInfo(
        kind=Kind.PERMANENT,
        type="ValueError",
        message=text,
        reason=Reason.PERMANENT,
        attempts=1,
        exhausted=False,
    )
    answer = WorkflowResultEvent(
        correlation_id=event_id,
        workflow_id="w",
        workflow_run_id="r",
        status=ResultStatus.ERROR,
        timestamp=SYSTEM.now(),
        error=text,
        error_info=info,
    )
    state = LetterState(
        dlq_id=letter.dlq_id,
        event_id=event_id,
        state=State.OPEN,
        timestamp=SYSTEM.now(),
        actor="ada",
        reason=text,
    )
    producer = Producer({"bootstrap.servers": env.bootstrap_servers})
    producer.produce(env.topics.results, answer.to_bytes(), event_id.encode())
    producer.produce(env.topics.dlq, state.to_bytes(), partition=0, headers=[*STATE_HEADERS])
    assert producer.flush(30) == 0


async def letters_of_a_worker(env: KafkaEnv, events: list[WorkflowEvent]) -> None:
    graph: Any = StateGraph(Told)
    graph.add_node("fail", fail).add_edge(START, "fail")
    settings = Settings(kafka=env.kafka_settings(), checkpoints=CheckpointSettings(url="none"))
    async with LangGraphKafkaConsumer(settings, {"*": graph}):
        env.send(events, headers={"authorization": f"Bearer {TEXTS[0]}"})
        await asyncio.to_thread(env.wait_settled, timeout_s=30)


def pages(*event_ids: str) -> Iterator[tuple[str, str]]:
    commands = ["dlq list --limit 1000", "dlq groups", "dlq stats", "dlq redrive --all --dry-run"]
    commands += [f"{command} {one}" for one in event_ids for command in ("dlq show", "run show")]
    for command in commands:
        for words in (command.split(), [*command.split(), "--json"]):
            ran = CliRunner().invoke(app, words)
            assert ran.exit_code in (0, 1), ran.output
            yield " ".join(words), ran.output


@pytest.mark.invariant("P15")
async def test_no_page_shows_a_secret_whoever_wrote_the_letter(
    make_stage: Callable[..., KafkaEnv],
    command_at: Callable[[KafkaEnv], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = make_stage(partitions=1)
    command_at(env)
    monkeypatch.setenv("COLUMNS", "5000")
    events = [asked(text) for text in TEXTS]
    with capture_logs() as logs:
        await letters_of_a_worker(env, events)
    foreign = [of_another_writer(n, env.topics.events, [text]) for n, text in enumerate(TEXTS)]
    whole = of_another_writer(len(TEXTS), env.topics.events, TEXTS)
    store_letters(env.kafka_settings(), [*foreign, whole])
    for text in TEXTS:
        result_and_state(env, whole, text)
    of_whole = (whole.original_event or {})["event_id"]

    shown = dict(await asyncio.to_thread(lambda: list(pages(of_whole, events[0].event_id))))

    shown["log"] = repr(logs)
    leaks = {page: [c for c in CANARIES if c in text] for page, text in shown.items()}
    assert {page: found for page, found in leaks.items() if found} == {}
    assert f"{2 * len(TEXTS) + 1} letter(s) to redrive" in shown["dlq redrive --all --dry-run"]
    for page in ("dlq list --limit 1000", "dlq groups", f"dlq show {of_whole}", "run show"):
        masks = [text.count("[redacted:") for name, text in shown.items() if page in name]
        assert min(masks) >= (1 if page == "run show" else len(TEXTS))
    # An export is the bytes themselves; what the worker added to them shows nothing either.
    lines = map(json.loads, (await asyncio.to_thread(dlq, "export")).stdout.splitlines())
    exported = {line["dlq_id"]: base64.b64decode(line["value"]) for line in lines}
    assert exported[whole.dlq_id] == whole.to_bytes()
    ours = [one for one in map(DeadLetter.model_validate_json, exported.values()) if one.graph]
    assert {one.source.value for one in ours} == {one.to_bytes() for one in events}
    added = [one.model_dump_json(exclude={"source", "original_event"}) for one in ours]
    assert [c for c in CANARIES if c in "\n".join(added)] == []
