"""The judge at the end of a run: reads the topics and the offsets, never a worker's memory.

It is the judge of `redrive.auditing`, which says what is lost, doubled or altered; at the end of a
run nothing may be left open either: offsets are at the end, with nothing behind them (P3). An event
that a producer published twice may be answered once per record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from redrive.auditing.finished import Finished
from redrive.auditing.judge import Commits, Judge
from redrive.auditing.reach import Reach
from redrive.events import ResultStatus, WorkflowResultEvent
from redrive.kafka.log import Committed, Place, Record
from redrive.state.offsets import MAX_NOTE_CHARS, note_of
from redrive.testing.reading import committed_offsets, end_offsets, read_topic
from redrive.testing.topics import Topics

__all__ = ["Evidence", "Verdict", "gather", "judge"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the topics and the group say at the end of a run."""

    events: list[Record]
    results: list[Record]
    letters: list[Record]
    committed: Mapping[Place, Committed]
    ends: Mapping[Place, int]

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
        return sum(finding.startswith("lost:") for finding in self.findings)

    @property
    def doubled(self) -> int:
        """How many events have more endings than records, or more than one letter."""
        return sum(finding.startswith("doubled:") for finding in self.findings)


def gather(bootstrap_servers: str, topics: Topics) -> Evidence:
    """Read everything there is to judge."""
    return Evidence(
        events=read_topic(bootstrap_servers, topics.events, whole=True),
        results=read_topic(bootstrap_servers, topics.results, whole=True),
        letters=read_topic(bootstrap_servers, topics.dlq, whole=True),
        committed=committed_offsets(bootstrap_servers, topics.events, topics.group),
        ends=end_offsets(bootstrap_servers, topics.events),
    )


def judge(evidence: Evidence) -> Verdict:
    """Check the promises that topics can show: P1, P2, P3, P6, P13, P16."""
    # At the end of a run all must have ended, whatever the group has committed.
    ended = {place: Finished(end) for place, end in evidence.ends.items()}
    judge = Judge()
    judge.take_results(evidence.results, Reach())
    judge.take_letters(evidence.letters, Reach())
    judge.take_events(
        evidence.events,
        Reach(),
        commits=Commits(ended, ended),
        starts=dict.fromkeys(evidence.ends, 0),
    )
    findings = [finding.text for finding in judge.findings()]
    # All was seen: what could not be judged ought not to be there.
    findings += [f"{count} {what.value}" for what, count in judge.unseen.items()]
    findings += _offsets(evidence)
    return Verdict(findings, results=judge.results, letters=judge.letters)


def _offsets(evidence: Evidence) -> Iterable[str]:
    for place, end in evidence.ends.items():
        committed = evidence.committed.get(place, Committed(None, None))
        if end and committed.offset != end:
            yield f"{place} is committed at {committed.offset}, and ends at {end}"
        if len(committed.metadata or "") > MAX_NOTE_CHARS:
            yield f"{place} has {len(committed.metadata or '')} characters of metadata"
        note = note_of(committed.metadata, offset=committed.offset)
        if note is not None and (note.finished or note.entries):
            yield f"{place} is at its end, and its note still speaks of offsets"
