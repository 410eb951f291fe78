"""The public test kit: its names are there, and the judge catches what it must."""

from __future__ import annotations

import dataclasses

import pytest

import redrive.testing
from redrive.consumer.event_run import Run
from redrive.consumer.outcome import PolledRecord
from redrive.consumer.outcome_builder import GivenUp, OutcomeBuilder
from redrive.dead_letter.record import DeadLetter, dlq_id, event_name
from redrive.events import EventHeaders, WorkflowEvent
from redrive.graphs.attempt_ends import Ended
from redrive.kafka.log import Committed, ConsumerRecord, TopicPartition
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.state.commit_metadata import CommitMetadata, encode
from redrive.testing import Evidence, ManualClock, Verdict, event, judge
from redrive.testing.judging import Gone

EVENTS = TopicPartition("events", 0)


def test_all_names_are_sorted_and_there() -> None:
    names = redrive.testing.__all__

    assert sorted(names) == names
    assert all(callable(getattr(redrive.testing, name)) for name in names)


@pytest.fixture
def evidence() -> Evidence:
    """A run in which every promise was kept: a success, and a letter."""
    answers = OutcomeBuilder(
        results_topic="results",
        dlq_topic="letters",
        max_bytes={"results": 10**6, "letters": 10**6},
        worker="w",
        clock=ManualClock(),
    )
    asked = [event({"n": number}) for number in range(2)]
    runs = [
        Run(
            PolledRecord(
                ConsumerRecord(EVENTS, offset, b"key", a.to_bytes(), (("h", b"1"),), 1), epoch=1
            ),
            a,
            EventHeaders(),
            "thread",
        )
        for offset, a in enumerate(asked)
    ]
    good = answers.ended(runs[0], Ended({}, resumed=False))
    bad = answers.given_up(
        runs[1], GivenUp(ValueError("no"), Failure(Kind.PERMANENT), Reason.PERMANENT)
    )
    out = [*good.records, *bad.records]
    stored = [
        ConsumerRecord(TopicPartition(r.topic, 0), n, r.key, r.value, (), 1)
        for n, r in enumerate(out)
    ]
    return Evidence(
        events=[run.polled.record for run in runs],
        results=[record for record in stored if record.tp.topic == "results"],
        letters=[record for record in stored if record.tp.topic == "letters"],
        committed={EVENTS: Committed(2, encode(CommitMetadata(1, 1)))},
        ends={EVENTS: 2},
    )


def test_the_judge_finds_nothing_where_every_promise_was_kept(evidence: Evidence) -> None:
    verdict = judge(evidence)

    assert verdict.ok
    assert (verdict.results["success"], verdict.letters["permanent"]) == (1, 1)


@pytest.mark.invariant("P1", "P2", "P3", "P6")
@pytest.mark.parametrize(
    ("field", "change", "finding"),
    [
        ("results", lambda found: found[1:], "lost"),
        ("results", lambda found: [*found, found[0]], "doubled"),
        ("letters", lambda _: [], "which does not exist"),
        ("letters", lambda found: found * 2, "2 letters"),
        ("events", lambda found: [_altered(record) for record in found], "not byte-equal"),
        ("events", lambda found: found[:1], "which was never sent"),
        ("committed", lambda _: {EVENTS: Committed(1, None)}, "is committed at 1"),
        ("committed", lambda _: {}, "is committed at None"),
        ("committed", lambda _: {EVENTS: Committed(9, None)}, "is committed at 9"),
        (
            "committed",
            lambda _: {EVENTS: Committed(2, encode(CommitMetadata(1, 1, 2)))},
            "still speaks",
        ),
        ("committed", lambda _: {EVENTS: Committed(2, "1" * 4000)}, "characters of metadata"),
    ],
)
def test_the_judge_catches(field: str, change: object, finding: str, evidence: Evidence) -> None:
    assert callable(change)
    doctored = dataclasses.replace(evidence, **{field: change(getattr(evidence, field))})

    assert any(finding in found for found in judge(doctored).findings)


@pytest.mark.invariant("P1")
def test_an_event_that_waits_at_the_end_of_a_run_is_stuck_and_not_lost(evidence: Evidence) -> None:
    committed = {EVENTS: Committed(1, None)}
    waiting = dataclasses.replace(evidence, results=evidence.results[:1], committed=committed)

    verdict = judge(waiting)

    event_id = WorkflowEvent.from_bytes(evidence.events[1].value).event_id
    assert (verdict.stuck, verdict.lost) == (1, 0)
    assert any(
        found.startswith(f"stuck: event {event_id} waits at events 0@1 since 1970-01-01T00:00:00")
        and found.endswith("the group stands at 1")
        for found in verdict.findings
    )


def test_an_event_that_went_unfinished_may_be_answered_or_not_and_not_twice(
    evidence: Evidence,
) -> None:
    def without(*, results: int, ended: bool) -> Verdict:
        first, *others = evidence.events
        given = [evidence.results[0]] * results + evidence.results[1:]
        gone = [Gone(first, ended)]
        return judge(dataclasses.replace(evidence, events=others, results=given, gone=gone))

    assert without(results=0, ended=False).ok
    assert without(results=1, ended=False).ok
    assert without(results=2, ended=False).doubled == 1
    assert without(results=1, ended=True).ok
    assert without(results=0, ended=True).lost == 1


def test_an_event_whose_offset_was_set_back_may_be_answered_once_more(evidence: Evidence) -> None:
    def answered(times: int) -> Verdict:
        given = dataclasses.replace(
            evidence,
            results=evidence.results * times,
            letters=evidence.letters * times,
            again=evidence.events,
        )
        return judge(given)

    assert answered(1).ok
    assert answered(2).ok
    assert answered(3).doubled == 3
    assert judge(dataclasses.replace(evidence, again=evidence.events, results=[])).lost == 2


def test_an_offset_that_a_new_log_gives_again_has_letters_of_its_own(evidence: Evidence) -> None:
    of_old, letter_of_old = evidence.events[1], evidence.letters[0]
    later = 2
    letter = DeadLetter.model_validate_json(letter_of_old.value or b"")
    source = letter.source.model_copy(update={"timestamp": later, "value": b"{another"})
    tp = (source.topic, source.partition, source.offset)
    new_id = dlq_id(*tp, count=0, event=event_name(source.value))
    told = letter.model_copy(update={"source": source, "dlq_id": new_id})
    of_new = of_old._replace(timestamp_ms=later, value=b"{another")
    letter_of_new = letter_of_old._replace(offset=1, value=told.to_bytes())
    both = dataclasses.replace(
        evidence,
        events=[evidence.events[0], of_new],
        letters=[letter_of_old, letter_of_new],
        gone=[Gone(of_old, ended=True)],
    )

    assert judge(both).ok


def test_a_double_is_told_once_and_as_what_it_is(evidence: Evidence) -> None:
    doubled = dataclasses.replace(evidence, results=[*evidence.results, evidence.results[0]])

    (finding,) = judge(doubled).findings
    assert finding.startswith("doubled: ")


def _altered(record: ConsumerRecord) -> ConsumerRecord:
    return record._replace(headers=(("h", b"2"),))
