"""The judge at the end of a run: reads the topics and the offsets, never a worker's memory.

It is the judge of `redrive.auditing`, which says what is lost, doubled or altered; at the end of a
run nothing may be left open either: what still waits is stuck (P1), offsets are at the end, with
nothing behind them (P3). An event that a producer published twice may be answered once per record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from redrive.auditing.committed_offsets import FinishedOffsets
from redrive.auditing.judge import Commits, Judge
from redrive.auditing.read_since import ReadSince
from redrive.events import ResultStatus, WorkflowResultEvent, readable_event_id
from redrive.kafka.log import Committed, ConsumerRecord, TopicPartition
from redrive.state.commit_metadata import MAX_METADATA_CHARS, commit_metadata_of
from redrive.testing.created_topics import Topics
from redrive.testing.reading import committed_offsets, end_offsets, high_watermarks, read_topic

__all__ = ["Evidence", "Gone", "Verdict", "gather", "judge"]

_EVER = 2**63
"""An offset that no log reaches."""


class Gone(NamedTuple):
    """An event that was accepted, and that its topic does not hold any more.

    Args:
        record: The event.
        ended: Whether the group had finished it when it went; else nobody need have answered it.
    """

    record: ConsumerRecord
    ended: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the topics and the group say at the end of a run.

    Args:
        events: What lies on the events topic.
        results: What lies on the results topic.
        letters: What lies on the letters topic.
        committed: What the group has committed.
        ends: Where the events' partitions end: behind their last records.
        marks: Where they end for the broker: behind the ends of transactions. Where that is not
            told, at the same offset.
        gone: Events that were deleted meanwhile.
        again: Events that may be answered once more, as often as they stand here: the group's
            offset was set back.
    """

    events: list[ConsumerRecord]
    results: list[ConsumerRecord]
    letters: list[ConsumerRecord]
    committed: Mapping[TopicPartition, Committed]
    ends: Mapping[TopicPartition, int]
    gone: list[Gone] = field(default_factory=list)
    again: list[ConsumerRecord] = field(default_factory=list)
    marks: Mapping[TopicPartition, int] = field(default_factory=dict)

    @property
    def accepted(self) -> list[ConsumerRecord]:
        """All events that were ever stored."""
        return [*self.events, *(gone.record for gone in self.gone)]

    @property
    def succeeded(self) -> set[str]:
        """The ids of the events that a result calls a success."""
        results = [WorkflowResultEvent.from_bytes(record.value) for record in self.results]
        return {one.correlation_id for one in results if one.status is ResultStatus.SUCCESS}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge found; `findings` is empty when every promise was kept."""

    findings: list[str]
    results: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.findings

    @property
    def lost(self) -> int:
        """How many events, or letters that a result names, are lost."""
        return self._count("lost:")

    @property
    def doubled(self) -> int:
        """How many events have more endings than records, or more than one letter."""
        return self._count("doubled:")

    @property
    def skipped(self) -> int:
        """How many events are called a success, and nodes of theirs never ran."""
        return self._count("skipped:")

    @property
    def stuck(self) -> int:
        """How many events still wait at the end of a run."""
        return self._count("stuck:")

    def _count(self, what: str) -> int:
        return sum(finding.startswith(what) for finding in self.findings)


def gather(bootstrap_servers: str, topics: Topics) -> Evidence:
    """Read everything there is to judge."""
    return Evidence(
        events=read_topic(bootstrap_servers, topics.events, whole=True),
        results=read_topic(bootstrap_servers, topics.results, whole=True),
        letters=read_topic(bootstrap_servers, topics.dlq, whole=True),
        committed=committed_offsets(bootstrap_servers, topics.events, topics.group),
        ends=end_offsets(bootstrap_servers, topics.events),
        marks=high_watermarks(bootstrap_servers, topics.events),
    )


def judge(evidence: Evidence) -> Verdict:
    """Check the promises that topics can show: P1, P2, P3, P6, P13, P16."""
    judge = Judge()
    judge.take_results(evidence.results, ReadSince())
    judge.take_letters(evidence.letters, ReadSince())
    starts = dict.fromkeys(evidence.ends, 0)
    for records, commits in _asked(evidence):
        judge.take_events(records, ReadSince(), commits=commits, starts=starts)
    findings = [finding.text for finding in judge.findings()]
    # All was seen: what could not be judged ought not to be there.
    findings += [f"{count} {what.value}" for what, count in judge.unseen.items()]
    findings += _stuck(evidence)
    findings += _offsets(evidence)
    return Verdict(findings, results=judge.results, letters=judge.letters)


def _asked(evidence: Evidence) -> Iterable[tuple[list[ConsumerRecord], Commits]]:
    """Yield all events, with what is known of their ends."""
    yield evidence.events, Commits.of(evidence.committed)
    for known, ended in (
        (FinishedOffsets(_EVER), True),
        (FinishedOffsets(None, readable=False), False),
    ):
        records = [gone.record for gone in evidence.gone if gone.ended is ended]
        if not ended:
            records += evidence.again
        finished = {record.tp: known for record in records}
        yield records, Commits(finished, finished)


def _stuck(evidence: Evidence) -> Iterable[str]:
    """Say which events have not ended: in which partition they wait, and since when. [P1]."""
    answered = {
        WorkflowResultEvent.from_bytes(record.value).correlation_id for record in evidence.results
    }
    for record in evidence.events:
        committed = evidence.committed.get(record.tp, Committed(None, None))
        event_id = readable_event_id(record.value)
        # One that is answered all the same would run again: that is told by the judge.
        if FinishedOffsets.of(committed).has(record.offset) or event_id in answered:
            continue
        since = datetime.fromtimestamp((record.timestamp_ms or 0) / 1000, UTC)
        yield (
            f"stuck: event {event_id or '(unreadable)'} waits at {record.tp.topic} "
            f"{record.tp.partition}@{record.offset} since {since.isoformat('T', 'seconds')}; "
            f"the group stands at {committed.offset}"
        )


def _offsets(evidence: Evidence) -> Iterable[str]:
    for tp, end in evidence.ends.items():
        committed = evidence.committed.get(tp, Committed(None, None))
        last = max(end, evidence.marks.get(tp, end))
        if end and not (committed.offset is not None and end <= committed.offset <= last):
            yield f"{tp} is committed at {committed.offset}, and ends at {end}"
        if len(committed.metadata or "") > MAX_METADATA_CHARS:
            yield f"{tp} has {len(committed.metadata or '')} characters of metadata"
        metadata = commit_metadata_of(committed.metadata, offset=committed.offset)
        if metadata is not None and (metadata.finished or metadata.entries):
            yield f"{tp} is at its end, and its note still speaks of offsets"
