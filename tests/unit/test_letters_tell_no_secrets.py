"""Secrets are planted wherever a failure has text: nothing that we write of it shows them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypedDict

import pytest
import structlog
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from structlog.testing import capture_logs
from tests.unit.test_redact import SECRETS

from redrive.consumer.event_run import Run
from redrive.consumer.outcome import Outcome, PolledRecord
from redrive.consumer.outcome_builder import OutcomeBuilder
from redrive.consumer.policy import Policy
from redrive.consumer.runner import Runner
from redrive.dead_letter.record import DeadLetter
from redrive.errors import RecordError
from redrive.events import EventHeaders
from redrive.graphs import Lease, WorkflowProcessor
from redrive.graphs.answer import answer
from redrive.graphs.attempt_ends import Ended
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.retry import Classifier, RetryConfig
from redrive.retry.kinds import Reason
from redrive.telemetry.logging import configure_logging
from redrive.telemetry.redactor import Redactor
from redrive.testing.kafka_env import event
from redrive.testing.manual_clock import ManualClock

RESULTS, LETTERS = "results", "letters"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class State(TypedDict):
    text: str


def in_its_message(text: str) -> None:
    raise ValueError(text)


def in_its_cause(text: str) -> None:
    try:
        in_its_message(text)
    except ValueError as error:
        raise RuntimeError("no connection") from error


def in_what_it_handled(text: str) -> None:
    try:
        in_its_message(text)
    except ValueError:
        raise RuntimeError("while that was handled")  # noqa: B904 - that is what is tested


def in_a_note(text: str) -> None:
    error = ValueError("see the note")
    error.add_note(text)
    raise error


def in_a_member_of_a_group(text: str) -> None:
    raise ExceptionGroup("two failed", [ValueError(text), OSError(text)])


WAYS = [in_its_message, in_its_cause, in_what_it_handled, in_a_note, in_a_member_of_a_group]


def answers(redactor: Redactor | None = None) -> OutcomeBuilder:
    return OutcomeBuilder(
        results_topic=RESULTS,
        dlq_topic=LETTERS,
        max_bytes={RESULTS: 10**6, LETTERS: 10**6},
        worker="w",
        clock=ManualClock(),
        redactor=redactor or Redactor(),
    )


async def run(node: Callable[[], object], *, redactor: Redactor | None = None) -> Outcome:
    async def fail(_: State) -> State:
        node()
        return {"text": ""}

    graph: Any = StateGraph(State)
    graph.add_node("fail", fail).add_edge(START, "fail")
    return await attempt({"*": graph}, answers(redactor))


async def attempt(graphs: Any, writes: OutcomeBuilder) -> Outcome:  # noqa: ANN401 - LangGraph's types
    clock, asked = ManualClock(), event({"text": ""})
    runner = Runner(
        WorkflowProcessor(graphs, InMemorySaver(), clock=clock),
        writes,
        policy=lambda _: Policy(RetryConfig(max_retries=0)),
        grace_s=1.0,
        classifier=Classifier(),
        worker="w",
        clock=clock,
    )
    run = Run(polled(asked.to_bytes()), asked, EventHeaders(), f"{asked.event_id}/2/0")
    step = await runner.attempt(run, lease=Lease(), control=None)
    assert isinstance(step.next, Outcome)
    return step.next


def polled(value: bytes) -> PolledRecord:
    return PolledRecord(
        ConsumerRecord(TopicPartition("events", 2), 5, b"key", value, (), 1), epoch=1
    )


def told(outcome: Outcome, logged: object = "") -> str:
    """Return all that was written, as a reader sees it."""
    texts = [repr(logged), repr(outcome.account)]
    for record in outcome.records:
        texts += [str(header) for header in record.headers]
        texts += list(strings(json.loads(record.value or b"")))
    return "\n".join(texts)


def strings(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for name, inner in value.items():
                yield name
                yield from strings(inner)
        case list():
            for inner in value:
                yield from strings(inner)


def letter_of(outcome: Outcome) -> DeadLetter:
    (found,) = [record for record in outcome.records if record.topic == LETTERS]
    return DeadLetter.model_validate_json(found.value or b"")


@pytest.mark.invariant("P15")
@pytest.mark.parametrize("way", WAYS)
async def test_a_failure_shows_no_secret_however_it_is_planted(way: Callable[[str], None]) -> None:
    for text, secret in SECRETS.items():
        with capture_logs() as logged:
            outcome = await run(lambda text=text: way(text))  # type: ignore[misc]

        assert len(outcome.records) == 2
        assert [line["event"] for line in logged] == ["run.dead_lettered"]
        seen = told(outcome, logged)
        assert secret not in seen
        assert "[redacted:" in seen


@pytest.mark.invariant("P15")
async def test_a_line_of_source_in_the_traceback_shows_no_secret() -> None:
    def connect() -> None:
        open_with(host="db", password="correct horse")  # noqa: S106 - a canary

    outcome = await run(connect)

    trace = letter_of(outcome).error.traceback or ""
    assert 'open_with(host="db", password="[redacted:password]")' in trace
    assert "correct horse" not in told(outcome)


def open_with(**_: str) -> None:
    raise ConnectionError("refused")


async def test_a_secret_in_the_middle_of_a_long_traceback_is_not_shown_in_half() -> None:
    secret = next(iter(SECRETS.values()))

    outcome = await run(lambda: in_its_message(f"{secret} " * 5_000))

    assert secret[:8] not in told(outcome)


def test_what_a_graph_says_itself_shows_no_secret() -> None:
    for text, secret in SECRETS.items():
        asked = event({"text": ""})
        failed = Ended(None, resumed=False, reason=Reason.GRAPH_FAILED, error=text)
        run = Run(polled(asked.to_bytes()), asked, EventHeaders(), "t")

        outcome = answers().ended(run, failed)
        alone = answer(asked, failed, started_at=NOW, finished_at=NOW, worker="w")

        assert secret not in told(outcome)
        assert secret not in "\n".join(strings(json.loads(alone.to_bytes())))
        assert "[redacted:" in (alone.error or "")


async def test_a_run_without_kafka_shows_no_secret_either() -> None:
    for text, secret in SECRETS.items():

        async def fail(_: State, text: str = text) -> State:
            raise ValueError(text)

        graph: Any = StateGraph(State)
        graph.add_node("fail", fail).add_edge(START, "fail")

        result = await WorkflowProcessor({"*": graph}).process_workflow_event(event({"text": ""}))

        assert secret not in "\n".join(strings(json.loads(result.to_bytes())))


def test_an_event_that_cannot_be_read_shows_no_secret_but_keeps_its_bytes() -> None:
    for text, secret in SECRETS.items():
        value = json.dumps({"event_id": "7", "key": text}).encode()

        outcome = answers().unreadable(polled(value), RecordError(text, field="event_id"))
        letter = letter_of(outcome)

        assert letter.source.value == value
        assert letter.original_event == json.loads(value)
        ours = letter.model_dump_json(exclude={"source", "original_event"})
        assert secret not in "\n".join(strings(json.loads(ours)))


async def test_secrets_of_your_own_are_masked_as_well() -> None:
    redactor = Redactor([r"EMP-\d+"])

    outcome = await run(lambda: in_its_cause("no EMP-4711"), redactor=redactor)

    assert "EMP-4711" not in told(outcome)
    assert letter_of(outcome).cause_chain[0].message == "no [redacted:custom]"


@pytest.mark.invariant("P15")
@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize("as_json", [True, False])
def test_no_log_line_of_the_command_shows_a_secret(
    capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    configure_logging(json=as_json)
    log, foreign = structlog.get_logger("redrive.x"), logging.getLogger("httpx")

    for text, secret in SECRETS.items():
        log.warning("x.failed", error=text, seen=[{"a": text}], raised=ValueError(text))
        foreign.error("said %s", text)
        try:
            in_its_cause(text)
        except RuntimeError:
            log.exception("x.broke")
            foreign.exception("broke")

        written = capsys.readouterr().err
        assert written.count("x.failed") == 1
        assert "no connection" in written
        assert secret not in written
