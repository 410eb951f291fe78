"""Encrypted payloads where they are read: what is told without the key, and what a codec may do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from structlog.testing import capture_logs
from tests.property.test_answers import letter_of, polled

from redrive.airflow.run_answers import FailedRun, SucceededRun, heard, judge
from redrive.auditing.encrypted import MAX_LABELS, EncryptedCounts
from redrive.cli.dlq_edit import _Editing
from redrive.cli.editor import Draft
from redrive.cli.exits import CommandError
from redrive.cli.letter_page import letter_json, letter_page
from redrive.codec import AesGcm
from redrive.consumer.event_run import Run
from redrive.consumer.outcome_builder import GivenUp, OutcomeBuilder
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.sealing import opened_letter, sealed_letter
from redrive.errors import CodecError, OtherInputError, SettingsError
from redrive.events import (
    EventHeaders,
    Payload,
    WorkflowEvent,
    WorkflowResultEvent,
    said_by,
)
from redrive.graphs import Ended, Failed, Lease, WorkflowProcessor
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.payloads import CLEAR, Payloads, Sealed
from redrive.redriving.letters_topic import LetterStory, StoredLetter
from redrive.redriving.sealed_events import open_text, seal_text
from redrive.redriving.views import fold
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.sealed_records import opened_event, sealed_event, sealed_result
from redrive.security_settings import SecuritySettings
from redrive.settings import Settings
from redrive.testing.kafka_env import event
from redrive.testing.manual_clock import ManualClock
from redrive.testing.stored_letters import dead_letter
from redrive.wiring import LangGraphKafkaConsumer

MARK = "Erika Mustermann"
KEY = Payloads(AesGcm({"k": bytes(32)}))
OTHER = Payloads(AesGcm({"other": bytes(32)}))
WITHOUT = "it is encrypted as 'aesgcm/1 k', and nothing here can decrypt it: set security.codec"
MEMORY = Path("/dev/shm")  # noqa: S108 - what is there is only looked at


class Failing:
    """A codec whose vault has gone."""

    label = "vault/1"

    def encode(self, plain: bytes, about: bytes) -> bytes:
        raise ConnectionError(f"no vault for {plain!r} {about!r}")

    def decode(self, label: str, data: bytes, about: bytes) -> bytes:
        raise ConnectionError(f"no vault for {label} {data!r} {about!r}")


def answers(payloads: Payloads) -> OutcomeBuilder:
    return OutcomeBuilder(
        results_topic="results",
        dlq_topic="letters",
        max_bytes={"results": 10_000, "letters": 30_000},
        worker="w",
        clock=ManualClock(),
        payloads=payloads,
    )


def run_of(sent: WorkflowEvent) -> Run:
    return Run(polled(sent.to_bytes(), []), sent, EventHeaders(), f"{sent.event_id}/2/0")


def a_letter(payloads: Payloads = KEY) -> DeadLetter:
    sent = sealed_event(event({"name": MARK}), payloads)
    given_up = GivenUp(ValueError(f"no {MARK}"), Failure(Kind.PERMANENT), Reason.PERMANENT)
    return letter_of(answers(payloads).given_up(run_of(sent), given_up))


def story(letter: DeadLetter) -> LetterStory:
    return LetterStory(StoredLetter(2, 7, letter))


class Name(TypedDict):
    name: str


def greeter() -> WorkflowProcessor:
    graph = StateGraph(Name).add_node("greet", lambda s: {"name": f"hello {s['name']}"})
    graph.add_edge(START, "greet")
    return WorkflowProcessor({"fates": graph}, payloads=KEY)


async def end_of(processor: WorkflowProcessor, sent: WorkflowEvent) -> Any:  # noqa: ANN401 - each is told apart below
    return await processor.run(sent, thread_id="t", lease=Lease())


@pytest.mark.invariant("P7", "P15")
async def test_a_graph_gets_the_payload_and_clear_ones_and_nothing_that_is_not_decoded() -> None:
    clear = event({"name": MARK})
    large = event({"name": MARK * 50_000})
    ended = [
        await end_of(greeter(), sent)
        for sent in (sealed_event(clear, KEY), clear, sealed_event(large, KEY))
    ]
    closed = [
        await end_of(greeter(), sent)
        for sent in (
            sealed_event(clear, OTHER),
            sealed_event(clear, KEY).model_copy(update={"workflow_id": "*"}),
        )
    ]
    keyless = WorkflowProcessor(greeter()._graphs)  # noqa: SLF001 - the same, without the key
    closed.append(await end_of(keyless, sealed_event(clear, KEY)))

    assert [one.result["name"][:5] for one in ended] == ["hello"] * 3
    assert all(isinstance(one, Ended) for one in ended)
    assert all(isinstance(one, Failed) and type(one.error) is CodecError for one in closed)
    assert WITHOUT in str(closed[-1].error)


@pytest.mark.invariant("P4", "P9")
async def test_an_event_sent_again_is_the_same_input_though_no_two_encryptions_are_equal() -> None:
    first, ran = event({"name": "first"}), []
    other = first.model_copy(update={"payload": Payload(data={"name": "other"})})
    graph = StateGraph(Name).add_node("greet", lambda s: ran.append(s["name"]))
    graph.add_edge(START, "greet")
    processor = WorkflowProcessor({"fates": graph}, InMemorySaver(), payloads=KEY)
    thread = f"{first.event_id}/0/0"
    ends = [
        await processor.run(sent, thread_id=thread, lease=Lease(), said=lambda: "of the bytes")
        for sent in (
            sealed_event(first, KEY),
            sealed_event(first, KEY),
            sealed_event(other, KEY),
        )
    ]
    given_up = await processor.give_up(
        sealed_event(first, KEY), RuntimeError("died"), thread_id=thread, lease=Lease()
    )
    unread = await processor.give_up(
        sealed_event(first, OTHER), RuntimeError("died"), thread_id=thread, lease=Lease()
    )

    assert ([getattr(end, "result", None) for end in ends[:2]], ran) == (
        [{"name": "first"}] * 2,
        ["first"],
    )
    assert isinstance(ends[2], Failed)
    assert type(ends[2].error) is OtherInputError
    assert (str(given_up.error), given_up.position is None) == ("died", False)
    assert (str(unread.error), unread.position) == ("died", None)


@pytest.mark.invariant("P13")
def test_what_an_event_asks_for_is_told_alike_of_each_encryption_of_it() -> None:
    sent = event({"name": MARK})
    sealed = [sealed_event(sent, payloads) for payloads in (KEY, KEY, OTHER)]
    elsewhere = sealed_event(sent.model_copy(update={"workflow_id": "w"}), KEY)

    assert len({said_by(one) for one in sealed}) == 1
    assert len({said_by(one) for one in (sealed[0], sent, elsewhere)}) == 3
    assert said_by(opened_event(sealed[0], KEY)) == said_by(sent)


@pytest.mark.invariant("P1", "P15")
def test_a_codec_that_fails_stops_nothing_and_nothing_leaves_in_clear() -> None:
    sent = event({"name": MARK})
    failing = answers(Payloads(Failing()))
    failed = GivenUp(ValueError(f"no {MARK}"), Failure(Kind.PERMANENT), Reason.PERMANENT)
    with capture_logs() as logs:
        gave_up = failing.given_up(run_of(sealed_event(sent, KEY)), failed)
        ended = failing.ended(run_of(sealed_event(sent, KEY)), Ended({"name": MARK}, resumed=False))

    for outcome, reason in ((gave_up, Reason.PERMANENT), (ended, Reason.CODEC_FAILED)):
        letter, (told, *_) = letter_of(outcome), outcome.records
        answer = WorkflowResultEvent.from_bytes(told.value)
        assert (letter.reason, answer.status) == (reason, "error")
        assert letter.error.message == "left out: the codec raised ConnectionError"
        assert MARK not in letter.model_dump_json() + answer.model_dump_json() + str(logs)
    assert {one["event"] for one in logs} == {"codec.failed"}


@pytest.mark.invariant("P14")
def test_lists_show_the_message_with_the_key_and_that_it_is_encrypted_without() -> None:
    letter = a_letter()
    record = ConsumerRecord(
        TopicPartition("letters", 2), 7, b"k", letter.to_bytes(), tuple(letter.headers()), 1
    )
    shown = [fold([record], payloads=payloads).letters[0] for payloads in (KEY, OTHER, CLEAR)]

    assert [one.message for one in shown] == [f"no {MARK}", *["encrypted (aesgcm/1 k)"] * 2]
    assert {one.error_type for one in shown} == {"ValueError"}
    assert len({one.fingerprint for one in shown}) == 1


def test_a_letters_page_says_what_is_encrypted_and_shows_it_with_the_key(
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = story(a_letter())
    for payloads, reveal, is_shown in (
        (KEY, True, True),
        (KEY, False, False),
        (CLEAR, True, False),
        (OTHER, True, False),
    ):
        told = letter_json(whole, topic="t", reveal=reveal, payloads=payloads)
        letter_page(whole, topic="t", reveal=reveal, payloads=payloads)
        page = capsys.readouterr().out
        decoded = payloads is KEY

        assert (f'"name": "{MARK}"' in page, "aesgcm/1 k" in page) == (is_shown, True)
        assert (f"no {MARK}" in page, "not decoded" in page) == (decoded, not decoded)
        assert (told["encrypted"] or {})["decoded"] is decoded  # type: ignore[index]  # a dict here
        assert (f'"name": "{MARK}"' in json.dumps(told)) is is_shown
    in_clear = story(dead_letter(event({}), topic="events"))
    assert letter_json(in_clear, topic="t", reveal=True)["encrypted"] is None


def test_a_tasks_answer_is_decoded_by_the_task_and_no_success_without_the_key() -> None:
    ended = answers(KEY).ended(run_of(event({})), Ended({"name": MARK}, resumed=False))
    failed = GivenUp(ValueError(f"no {MARK}"), Failure(Kind.TRANSIENT), Reason.RETRIES_EXHAUSTED)
    gave_up = answers(KEY).given_up(run_of(event({})), failed)
    success, error = (
        heard(WorkflowResultEvent.from_bytes(outcome.records[0].value))
        for outcome in (ended, gave_up)
    )

    # What goes through Airflow's triggerer and its database is not decoded.
    assert MARK not in json.dumps([success, error])
    assert judge(success, KEY) == SucceededRun({"name": MARK})
    with_key, closed, closed_error = judge(error, KEY), judge(success), judge(error, OTHER)
    assert isinstance(with_key, FailedRun)
    assert f"no {MARK}" in with_key.text
    assert isinstance(closed, FailedRun)
    assert (closed.final, "succeeded, but its result cannot be decoded" in closed.text) == (
        True,
        True,
    )
    assert isinstance(closed_error, FailedRun)
    assert not closed_error.final
    assert "ValueError, whose text is not decoded" in closed_error.text
    assert (closed_error.kind, closed_error.reason) == ("transient", "retries_exhausted")


def test_an_encrypted_event_is_edited_as_the_producer_wrote_it_and_sent_encrypted() -> None:
    sent = event({"sum": 1}, workflow_id="w").model_copy(update={"metadata": {"a": 1}})
    payload = '{"data": {"sum": 1.10, "n": 12345678901234567890}}'
    inner = f'{{"payload": {payload}, "metadata": {{"context": {{"z": 1.50}}}}}}'
    sealed = KEY.seal(inner.encode(), ("event", sent.event_id, "w"))
    value = sent.model_copy(update={"payload": Payload(data=sealed.as_json())}).to_bytes()
    text = open_text(value.decode(), KEY)

    assert f'"payload":{payload}' in text
    assert '"context":{"z": 1.50}' in text
    again = WorkflowEvent.from_bytes(seal_text(text, KEY).encode())
    assert Sealed.of(again.payload.data) is not None
    assert opened_event(again, KEY).metadata == {"a": 1, "context": {"z": 1.5}}
    # Also while nothing new is encrypted: what was, stays so.
    sample = Payloads(KEY.codec, encodes=False)
    assert Sealed.of(WorkflowEvent.from_bytes(seal_text(text, sample).encode()).payload.data)


@pytest.mark.invariant("P15")
def test_a_draft_of_an_encrypted_event_is_kept_encrypted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    editing = _Editing.of(a_letter(), KEY)
    draft = Draft(editing.text(), in_memory=editing.is_sealed)
    first = draft.path
    if MEMORY.is_dir():
        assert MEMORY in first.parents
    first.write_text(first.read_text().replace(MARK, f"{MARK} is not JSON any more"))
    (first.parent / "event.json~").write_text(MARK)
    draft.keep(editing.kept)

    kept = draft.path.read_bytes()
    assert not first.parent.exists()
    assert (MARK.encode() in kept, draft.path.stat().st_mode & 0o077) == (False, 0)
    assert f"{MARK} is not JSON any more".encode() in editing.taken(kept)
    with pytest.raises(CommandError, match="'aesgcm/1 k'"):
        _Editing.of(a_letter(), CLEAR)
    with pytest.raises(CommandError, match="not sent: what is encrypted"):
        _Editing.of(a_letter(), KEY).taken(kept)
    draft.drop()
    assert list(tmp_path.iterdir()) == []


def test_letters_of_versions_before_and_of_others_are_read() -> None:
    clear = dead_letter(event({}), topic="events")
    foreign = clear.model_copy(update={"sealed": "anything"})

    assert b'"sealed"' not in clear.to_bytes()
    assert opened_letter(clear, KEY) == clear
    read = DeadLetter.model_validate_json(foreign.to_bytes())
    assert opened_letter(read, KEY) == foreign


def test_an_audit_counts_what_is_encrypted_and_how_much_is_not_decoded() -> None:
    given = [sealed_event(event({}), payloads).to_bytes() for payloads in (KEY, KEY, OTHER)]
    letter = a_letter()
    result = sealed_result(WorkflowResultEvent.from_bytes(_result(event({}))), KEY)
    tampered = given[0].replace(b"aesgcm/1 k", b"aesgcm/2 k")
    many = [given[0].replace(b"aesgcm/1 k", b"made up %d" % n) for n in range(2 * MAX_LABELS)]
    with_key, without, hostile = EncryptedCounts(KEY), EncryptedCounts(CLEAR), EncryptedCounts(KEY)
    for audit in (with_key, without):
        for value in (*given, tampered, event({}).to_bytes(), None, b"redrive-codec"):
            audit.event(value)
        audit.letter(letter)
        audit.result(result)
    for value in many:
        hostile.event(value)

    labels = {"aesgcm/1 k": 4, "aesgcm/1 other": 1, "aesgcm/2 k": 1}
    assert (with_key.labels, with_key.closed) == (labels, 2)
    assert (without.labels, without.closed) == (labels, 6)
    assert (len(hostile.labels), hostile.closed) == (MAX_LABELS + 1, 2 * MAX_LABELS)


def _result(sent: WorkflowEvent) -> bytes:
    told: Mapping[str, object] = {
        "correlation_id": sent.event_id,
        "workflow_id": "w",
        "workflow_run_id": "r",
        "status": "success",
        "timestamp": "2026-01-01T00:00:00Z",
    }
    return json.dumps(told).encode()


def test_what_is_sealed_is_told_by_its_form_alone() -> None:
    mark = {"redrive-codec": "a", "data": "b"}
    others: list[object] = [
        None,
        [],
        "x",
        {**mark, "more": 1},
        {"redrive-codec": "a"},
        {**mark, "data": 1},
    ]
    assert [Sealed.of(other) for other in others] == [None] * len(others)
    assert Sealed.of(mark) == Sealed("a", "b")
    assert sealed_letter(dead_letter(event({}), topic="e"), CLEAR).sealed is None


async def test_a_worker_without_its_key_does_not_start_and_says_which_one() -> None:
    security = SecuritySettings.model_validate(
        {"codec": "redrive.codec:AesGcm", "encryption_keys": {"k": "env:NOBODY_HAS_SET_THIS"}}
    )
    # No broker is asked before.
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:1")

    with pytest.raises(
        SettingsError, match=r"security\.encryption_keys\.k: .* NOBODY_HAS_SET_THIS"
    ):
        await LangGraphKafkaConsumer(Settings(security=security, kafka=kafka)).start()
