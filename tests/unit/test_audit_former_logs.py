"""The judge, of a log of events that has begun anew: it names it, and judges what is there now."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from redrive.auditing.audit_findings import Unseen
from redrive.auditing.former_logs import FormerLogs
from redrive.auditing.judge import Commits, Judge
from redrive.auditing.read_since import ReadSince
from redrive.clock import SYSTEM
from redrive.events import EventPlace, ResultStatus, WorkflowEvent, WorkflowResultEvent
from redrive.kafka.log import Committed, ConsumerRecord, TopicPartition
from redrive.state.commit_metadata import CommitMetadata, encode
from redrive.testing.kafka_env import event
from redrive.testing.stored_letters import dead_letter

EVENTS, RESULTS, LETTERS = (
    TopicPartition("events", 0),
    TopicPartition("results", 0),
    TopicPartition("letters", 0),
)
FORMER = Unseen.RESULT_OF_FORMER


def asked(*events: WorkflowEvent) -> list[ConsumerRecord]:
    return [
        ConsumerRecord(EVENTS, at, None, one.to_bytes(), (), at) for at, one in enumerate(events)
    ]


def result(of: WorkflowEvent, offset: int | None) -> ConsumerRecord:
    answers = None
    if offset is not None:
        answers = EventPlace(topic=EVENTS.topic, partition=EVENTS.partition, offset=offset)
    told = WorkflowResultEvent(
        correlation_id=of.event_id,
        workflow_id=of.workflow_id,
        workflow_run_id=of.workflow_run_id,
        status=ResultStatus.SUCCESS,
        timestamp=SYSTEM.now(),
        answers=answers,
    )
    return ConsumerRecord(RESULTS, 0, of.event_id.encode(), told.to_bytes(), (), 1)


def judged(
    events: Sequence[ConsumerRecord],
    results: Sequence[ConsumerRecord],
    *,
    committed: int,
    letters: Sequence[ConsumerRecord] = (),
    former: FormerLogs | None = None,
    end: int | None = None,
) -> tuple[Judge, list[str]]:
    """Judge them; return the texts of what was found."""
    judge = Judge(former=former)
    judge.take_results(results, ReadSince())
    judge.take_letters(letters, ReadSince())
    commit = (
        Committed(committed, encode(CommitMetadata(1, 1))) if committed else Committed(None, None)
    )
    judge.take_events(
        events,
        ReadSince(),
        commits=Commits.of({EVENTS: commit}),
        starts={EVENTS: 0},
        ends={EVENTS: len(events) if end is None else end},
    )
    return judge, [finding.text for finding in judge.findings()]


def told(judge: Judge) -> str:
    return "\n".join(judge.former.told())


OLD = [event({"old": n}) for n in range(3)]
NEW = [event({"new": n}) for n in range(2)]


@pytest.mark.invariant("P1", "P2", "P6")
def test_results_and_letters_of_a_log_before_are_named_and_not_judged() -> None:
    letter = dead_letter(OLD[2], topic=EVENTS.topic, partition=0, offset=2)
    lies = ConsumerRecord(LETTERS, 0, letter.source.key, letter.to_bytes(), (), 1)
    results = [*(result(one, at) for at, one in enumerate(OLD)), result(NEW[0], 0)]

    judge, found = judged(asked(*NEW), results, letters=[lies], committed=1)

    assert found == []
    assert judge.unseen == {FORMER: 3, Unseen.LETTER_OF_FORMER: 1}
    assert "events, partition 0: the log has started over, or lost its end; 3 results" in told(
        judge
    )
    assert judge.events == {"ended": 1, "open": 1}


def test_what_names_no_record_is_of_the_log_before_only_where_others_show_that() -> None:
    results = [result(OLD[0], None), result(NEW[0], 0)]

    alone, found_alone = judged(asked(*NEW), results, committed=1)
    beside, found_beside = judged(asked(*NEW), [*results, result(OLD[1], 1)], committed=1)

    assert found_alone == [f"a result for event {OLD[0].event_id}, which was never sent"]
    assert told(alone) == ""
    assert found_beside == []
    assert beside.unseen == {FORMER: 2}


def test_a_result_for_a_record_that_no_reader_sees_is_nobodys() -> None:
    # Offset 2 is that of an aborted transaction, or of its end.
    judge, found = judged(asked(*NEW), [result(OLD[0], 2)], committed=0, end=4)

    assert found == [f"a result for event {OLD[0].event_id}, which was never sent"]
    assert told(judge) == ""


@pytest.mark.invariant("P1", "P2")
def test_an_event_that_was_sent_again_to_the_new_log_needs_its_own_result() -> None:
    again = asked(NEW[0], OLD[0])
    before = [result(OLD[0], 0)]

    _, lost = judged(again, [*before, result(NEW[0], 0)], committed=2)
    _, well = judged(again, [*before, result(NEW[0], 0), result(OLD[0], 1)], committed=2)

    assert [text.partition(":")[0] for text in lost] == ["lost"]
    assert OLD[0].event_id in lost[0]
    assert well == []


def test_a_commit_of_the_topic_before_is_named_and_finishes_nothing() -> None:
    former = FormerLogs({EVENTS: 40})

    judge, found = judged(asked(*NEW), [result(OLD[0], 39)], committed=0, former=former)

    assert found == []
    assert judge.events == {"open": 2}
    assert "the topic was deleted and created again; what the group has committed (40)" in told(
        judge
    )


@pytest.mark.invariant("P2")
def test_two_answers_to_one_record_are_doubled_whatever_began_anew() -> None:
    results = [result(OLD[0], 0), result(NEW[0], 0), result(NEW[0], 0), result(NEW[1], 1)]

    _, found = judged(asked(*NEW), results, committed=2)

    assert [text.partition(":")[0] for text in found] == ["doubled"]
