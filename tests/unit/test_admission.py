"""Which events may run: signed ones, where that is required; others end in a letter each."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs
from tests.rows import rows
from tests.unit.test_dispatcher import PLACE, answers_of, covered, intake_of

from redrive.consumer.admission import Admission
from redrive.consumer.event_run import Run
from redrive.consumer.outcome import Ending, Outcome, PolledRecord
from redrive.consumer.outcome_builder import OutcomeBuilder
from redrive.consumer.runner import NextStep
from redrive.dead_letter.record import DeadLetter
from redrive.errors import NotAllowedError, UnsignedError
from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.kafka.signed import signed
from redrive.retry.kinds import Reason
from redrive.signatures import Require, Rights, Signer, Subject, Verifier
from redrive.telemetry.instruments import Counter
from redrive.telemetry.metrics import EVENT_SIGNATURES
from redrive.telemetry.repeats import Repeats
from redrive.testing.kafka_env import event
from redrive.testing.manual_clock import ManualClock

KEYS = {"ops": b"o" * 32, "airflow": b"a" * 32}
RIGHTS = {"airflow": Rights(("report-*",), letters=False)}
OPS, AIRFLOW = Signer("ops", KEYS["ops"]), Signer("airflow", KEYS["airflow"])


def record_of(
    told: WorkflowEvent, signer: Signer | None, *, at: TopicPartition = PLACE
) -> ConsumerRecord:
    sent = ProducerRecord(*at[:1], told.event_id.encode(), told.to_bytes(), partition=at.partition)
    sent = signed(sent, Subject.EVENT, signer)
    return ConsumerRecord(PLACE, 0, sent.key, sent.value, sent.headers, None)


def admission_of(
    require: Require, counted: Counter | None = None, *, clock: ManualClock | None = None
) -> Admission:
    repeats = Repeats(clock or ManualClock())
    return Admission(Verifier(KEYS, require, RIGHTS), counted=counted, repeats=repeats)


REPORT, PAY = event({}, workflow_id="report-7"), event({}, workflow_id="pay")


@pytest.mark.invariant("P15")
@rows(
    ("told", "record", "reason"),
    [
        (PAY, record_of(PAY, OPS), None),
        (REPORT, record_of(REPORT, AIRFLOW), None),
        (PAY, record_of(PAY, AIRFLOW), Reason.NOT_ALLOWED),
        (PAY, record_of(PAY, None), Reason.UNSIGNED),
        (PAY, record_of(PAY, Signer("ops", b"x" * 32)), Reason.UNSIGNED),
        (PAY, record_of(PAY, Signer("who", b"x" * 32)), Reason.UNSIGNED),
        (PAY, record_of(PAY, OPS, at=TopicPartition("events", 1)), Reason.UNSIGNED),
        (PAY, record_of(PAY, OPS, at=TopicPartition("others", 0)), Reason.UNSIGNED),
        # A signature that was taken from another event.
        (
            PAY,
            record_of(PAY, None)._replace(headers=record_of(REPORT, OPS).headers),
            Reason.UNSIGNED,
        ),
    ],
)
def test_only_signed_events_run_where_that_is_required(
    told: WorkflowEvent, record: ConsumerRecord, reason: Reason | None
) -> None:
    refused = admission_of(Require.REFUSE).refusal(record, told)

    assert (refused and refused.reason) == reason
    assert admission_of(Require.REFUSE).refuses_now(record, told) is (reason is not None)
    assert not admission_of(Require.WARN).refuses_now(record, told)
    assert admission_of(Require.WARN).refusal(record, told) is None
    assert admission_of(Require.OFF).refusal(record, told) is None


def test_what_comes_is_counted_and_logged_once_a_minute() -> None:
    counted, clock = Counter(EVENT_SIGNATURES), ManualClock()
    admission = admission_of(Require.WARN, counted, clock=clock)

    with capture_logs() as logs:
        for number in range(100):
            # Whatever they call themselves, they are one line.
            told = event({}, workflow_id=f"w{number}-{'x' * number}")
            admission.refusal(record_of(told, None), told)
        admission.refusal(record_of(PAY, OPS), PAY)
        admission.refusal(record_of(PAY, AIRFLOW), PAY)
        clock.advance(61)
        admission.refusal(record_of(PAY, None), PAY)

    told_of = [(line["judged"], line["runs"], line.get("times")) for line in logs]
    assert told_of == [
        ("unsigned", True, None),
        ("not_allowed", True, None),
        ("unsigned", True, 100),
    ]
    assert counted.read().values == {
        ("unsigned", ""): 101,
        ("signed", "ops"): 1,
        ("not_allowed", "airflow"): 1,
    }


def test_nothing_is_counted_or_logged_where_nothing_is_required() -> None:
    counted = Counter(EVENT_SIGNATURES)

    with capture_logs() as logs:
        admission_of(Require.OFF, counted).refusal(record_of(PAY, None), PAY)

    assert (logs, counted.read().values) == ([], {})


class Runs:
    """Notes which events were run."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def new_control(self) -> None:
        return None

    async def attempt(self, run: Run, **_: object) -> NextStep:
        self.ran.append(run.event_id)
        return NextStep(Outcome(run.polled, Ending.SUCCEEDED))


@pytest.mark.invariant("P1", "P15")
async def test_an_event_that_is_refused_ends_in_one_letter_and_never_runs() -> None:
    finished, runs = list[Outcome](), Runs()
    refuse = admission_of(Require.REFUSE)
    dispatcher = intake_of(answers_of(OutcomeBuilder), runs, finished.append, admission=refuse)
    own = event({}, workflow_id="pay")
    records = [record_of(PAY, None), record_of(PAY, AIRFLOW), record_of(own, OPS)]
    starts = covered()
    polled_records = [
        PolledRecord(record._replace(offset=at), 1, starts) for at, record in enumerate(records)
    ]

    async with asyncio.TaskGroup() as tasks:
        waking = dispatcher.begin(tasks)
        dispatcher.accept(polled_records)
        while len(finished) < 3 or dispatcher.running:  # noqa: ASYNC110 - of its own accord
            await asyncio.sleep(0)
        waking.cancel()

    assert runs.ran == [own.event_id]
    found = {outcome.polled.offset: outcome for outcome in finished}
    for at, name in (0, UnsignedError), (1, NotAllowedError):
        answer, letter = found[at].records
        told = WorkflowResultEvent.from_bytes(answer.value)
        kept = DeadLetter.model_validate_json(letter.value or b"")
        assert told.error_info is not None
        assert told.error_info.reason == kept.reason == name.__redrive_reason__
        assert told.answers is not None
        assert told.answers.offset == at
        assert kept.source.value == records[at].value
        assert kept.retry_count == 0
