"""The judge on healthy histories, of which retention has taken what it liked: nothing is wrong.

And on histories that are not: what is missing, and cannot have been deleted, is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.auditing.audit_findings import Finding
from redrive.auditing.ids import pack, unpack
from redrive.auditing.judge import Commits, Judge
from redrive.auditing.read_since import ReadSince
from redrive.clock import SYSTEM
from redrive.events import ResultStatus, RunInfo, WorkflowEvent, WorkflowResultEvent
from redrive.kafka.log import Committed, ConsumerRecord, TopicPartition
from redrive.state.commit_metadata import CommitMetadata, encode
from redrive.testing.kafka_env import event

EVENTS, RESULTS = TopicPartition("events", 0), TopicPartition("results", 0)
HOUR_MS = 3_600_000
TEN_MINUTES_MS = 600_000
ASKED = tuple(event({"n": n}) for n in range(6))


@dataclass(frozen=True)
class History:
    """What happened: who was asked, hour by hour, what has ended, what was deleted since.

    Attributes:
        asked: Which of the events, one an hour; the same one again was published twice.
        delays: After how many times ten minutes each was answered: within the hour.
        committed: So many of the records are behind the committed offset.
        past: Which of those behind it have ended too.
        moved: Results that came after the commits were read the first time.
        events_deleted: So many of the events' records are gone.
        results_deleted: So many of the results.
    """

    asked: tuple[WorkflowEvent, ...]
    delays: tuple[int, ...]
    committed: int
    past: frozenset[int]
    moved: frozenset[int]
    events_deleted: int
    results_deleted: int

    def before(self) -> frozenset[int]:
        return frozenset(range(self.committed)) | self.past

    def events(self) -> list[ConsumerRecord]:
        return [
            ConsumerRecord(EVENTS, at, None, asked.to_bytes(), (), at * HOUR_MS)
            for at, asked in enumerate(self.asked)
        ]

    def results(self) -> list[ConsumerRecord]:
        ended = sorted(
            (at * HOUR_MS + self.delays[at] * TEN_MINUTES_MS, at)
            for at in self.before() | self.moved
            if at < len(self.asked)
        )
        return [
            ConsumerRecord(RESULTS, n, None, _result(self.asked[at]), (), at_ms + 1)
            for n, (at_ms, at) in enumerate(ended)
        ]

    def judged(self, results: list[ConsumerRecord]) -> list[Finding]:
        judge = Judge()
        kept = [record for record in results if record.offset >= self.results_deleted]
        judge.take_results(kept, _reach(self.results_deleted))
        judge.take_letters([], ReadSince())
        judge.take_events(
            self.events()[self.events_deleted :],
            _reach(self.events_deleted),
            commits=Commits.of(
                {EVENTS: self._commit(self.before())},
                {EVENTS: self._commit(self.before() | self.moved)},
            ),
            starts={EVENTS: self.events_deleted},
        )
        return list(judge.findings())

    def _commit(self, ended: frozenset[int]) -> Committed:
        past = sum(1 << (at - self.committed) for at in ended if at >= self.committed)
        return Committed(self.committed, encode(CommitMetadata(1, 1, past)))


def _result(asked: WorkflowEvent) -> bytes:
    return WorkflowResultEvent(
        correlation_id=asked.event_id,
        workflow_id=asked.workflow_id,
        workflow_run_id=asked.workflow_run_id,
        status=ResultStatus.SUCCESS,
        timestamp=SYSTEM.now(),
    ).to_bytes()


def _reach(deleted: int) -> ReadSince:
    return ReadSince({0: None} if deleted else {})


@st.composite
def histories(draw: st.DrawFn, *, deleted: bool = True, twice: bool = True) -> History:
    asked = draw(st.lists(st.sampled_from(ASKED), max_size=8, unique_by=None if twice else id))
    count = len(asked)
    offsets = st.frozensets(st.integers(0, max(count - 1, 0)), max_size=count)
    committed = draw(st.integers(0, count))
    up_to = st.integers(0, count if deleted else 0)
    return History(
        tuple(asked),
        tuple(draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))),
        committed,
        frozenset(at for at in draw(offsets) if count > at >= committed),
        frozenset(at for at in draw(offsets) if count > at >= committed),
        draw(up_to),
        draw(up_to),
    )


@pytest.mark.invariant("P1", "P2", "P3")
@given(histories())
def test_of_a_healthy_history_nothing_is_called_wrong_whatever_was_deleted(story: History) -> None:
    assert story.judged(story.results()) == []


@pytest.mark.invariant("P1", "P2")
@given(histories(deleted=False, twice=False), st.data())
def test_a_result_that_is_missing_or_there_again_is_told(
    story: History, data: st.DataObject
) -> None:
    results = story.results()
    due = [r for r in results if _offset_of(story, r) in story.before()]
    if not due:
        return
    one = data.draw(st.sampled_from(due))
    event_id = WorkflowResultEvent.from_bytes(one.value).correlation_id

    lost = story.judged([record for record in results if record is not one])
    doubled = story.judged([*results, one])

    assert [(f.promise, f.event_id) for f in lost] == [("P1", event_id)]
    assert [(f.promise, f.event_id) for f in doubled] == [("P2", event_id)]


@given(st.text(), st.integers(0, 10**18))
def test_an_id_comes_out_of_its_bytes_as_it_went_in(text: str, count: int) -> None:
    assert unpack(pack(text, count)) == (text, count)


def test_a_usual_id_takes_few_bytes() -> None:
    asked = event({}).event_id

    assert unpack(pack(asked, 3)) == (asked, 3)
    assert len(pack(asked)) == 17


def _offset_of(story: History, result: ConsumerRecord) -> int:
    event_id = WorkflowResultEvent.from_bytes(result.value).correlation_id
    return next(at for at, asked in enumerate(story.asked) if asked.event_id == event_id)


@pytest.mark.invariant("P16")
@pytest.mark.parametrize(("verified", "told"), [(True, []), (None, []), (False, ["P16"])])
def test_a_success_whose_resume_was_seen_to_skip_is_told(
    *,
    verified: bool | None,
    told: list[str],
) -> None:
    asked = event({})
    now = asked.timestamp
    run = RunInfo(
        attempts=1,
        started_at=now,
        finished_at=now,
        resumed=True,
        redrive_count=1,
        worker="w",
        resume_verified=verified,
    )
    result = WorkflowResultEvent(
        correlation_id=asked.event_id,
        workflow_id="w",
        workflow_run_id="r",
        result={},
        status=ResultStatus.SUCCESS,
        timestamp=now,
        run=run,
    )
    judge = Judge()

    judge.take_results([ConsumerRecord(RESULTS, 0, None, result.to_bytes(), (), 1)], ReadSince())

    assert [found.promise for found in judge.findings() if found.promise == "P16"] == told
