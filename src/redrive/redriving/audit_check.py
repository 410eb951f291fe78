"""Whether the audit topic is whole: its chains, and that each action on a letter is recorded there.

What a chain can show, and what not, is told in docs/auditing.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

from redrive.clock import SYSTEM, Clock
from redrive.dead_letter.audit_chain import AuditChain, FlawKind, read_audit_record
from redrive.dead_letter.states import LetterState, read_letter
from redrive.errors import SettingsError
from redrive.kafka.client import admin_config
from redrive.kafka.connect import make_admin
from redrive.kafka.existing import partitions_of
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import TopicPartition
from redrive.kafka.scan import scan
from redrive.kafka.watermarks import Watermarks, watermarks

__all__ = ["AuditFinding", "AuditReport", "AuditedPartition", "NotedHead", "check_audit_topic"]

CLOCKS_DIFFER = timedelta(minutes=5)
"""Who writes states and who writes the first audit record may have other clocks."""
_DIGEST_CHARS = 64

_NAME_BYTES = 16


@dataclass(frozen=True, slots=True)
class NotedHead:
    """A chain's head as somebody noted it: the chain must still hold it."""

    partition: int
    seq: int
    digest: str

    @classmethod
    def parse(cls, text: str) -> NotedHead:
        """Read `PARTITION:SEQ:HASH`.

        Raises:
            ValueError: It is something else.
        """
        partition, seq, digest = text.split(":")
        if not partition.isdecimal() or not seq.isdecimal() or len(digest) != _DIGEST_CHARS:
            raise ValueError(text)
        return cls(int(partition), int(seq), digest)


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One thing that is wrong; `offset` is on the audit topic, or on that of the letters."""

    kind: str
    topic: str
    partition: int
    offset: int
    what: str


@dataclass(slots=True)
class AuditedPartition:
    """What lies in one partition of the audit topic."""

    partition: int
    chain: AuditChain
    records: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    noted: dict[int, set[str]] = field(default_factory=dict)
    """The hashes that were noted elsewhere, by their number; those that are found go."""


@dataclass(slots=True)
class AuditReport:
    """What was read, and what is wrong."""

    topic: str
    partitions: dict[int, AuditedPartition]
    findings: list[AuditFinding] = field(default_factory=list)
    since: datetime | None = None
    """The first action that is recorded."""


def check_audit_topic(
    settings: KafkaSettings, *, noted: Sequence[NotedHead] = (), clock: Clock = SYSTEM
) -> AuditReport:
    """Read the audit topic and the states of letters, and say what is wrong; changes nothing.

    Raises:
        KafkaUnavailableError: The broker did not answer.
        SettingsError: There is no audit topic, or the broker refuses us.
    """
    topic = settings.audit_topic
    if topic is None:
        raise SettingsError("kafka.audit_topic is not set: nothing is recorded")
    admin = make_admin(admin_config(settings))
    # Taken first: what is done to letters from now on may not be on the audit topic as we read it.
    letters = watermarks(settings, admin, _tps(settings, settings.dlq_topic, clock), clock=clock)
    audited = watermarks(settings, admin, _tps(settings, topic, clock), clock=clock)
    report = AuditReport(
        topic,
        {
            tp.partition: AuditedPartition(tp.partition, AuditChain(start=watermark.first))
            for tp, watermark in audited.items()
        },
    )
    for head in noted:
        part = report.partitions.get(head.partition)
        if part is None:
            raise SettingsError(f"{topic!r} has no partition {head.partition}, which was noted")
        part.noted.setdefault(head.seq, set()).add(head.digest)
    recorded = _read(settings, report, clock)
    report.findings += _not_found(report)
    report.findings += _unrecorded(settings, report, letters, recorded, clock)
    return report


def _tps(settings: KafkaSettings, topic: str, clock: Clock) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in partitions_of(settings, topic, clock=clock)]


def _read(settings: KafkaSettings, report: AuditReport, clock: Clock) -> set[bytes]:
    """Take all records in, and return which actions they record."""
    recorded: set[bytes] = set()
    with closing(scan(settings, report.topic, clock=clock)) as records:
        for record in records:
            part = report.partitions.get(record.tp.partition)
            if part is None:
                continue  # it came in this moment
            for flaw in part.chain.take(record):
                report.findings.append(
                    AuditFinding(
                        flaw.kind.value, report.topic, part.partition, flaw.offset, flaw.what
                    )
                )
            part.records += 1
            last = part.chain.last
            if last is not None and last.seq in part.noted:
                part.noted[last.seq].discard(last.digest)
            told = read_audit_record(record)
            if told is not None:
                recorded.add(_name(told.done))
                at = told.done.timestamp
                part.oldest = min(at, part.oldest or at)
                part.newest = max(at, part.newest or at)
                report.since = min(at, report.since or at)
    return recorded


def _not_found(report: AuditReport) -> Iterator[AuditFinding]:
    for part in report.partitions.values():
        begins_at = part.chain.begins_at or 1
        for seq, digests in part.noted.items():
            if digests and not (part.chain.start and seq < begins_at):
                yield AuditFinding(
                    FlawKind.MISSING.value,
                    report.topic,
                    part.partition,
                    part.chain.start,
                    f"number {seq} was noted with another hash, or is not there",
                )


def _unrecorded(
    settings: KafkaSettings,
    report: AuditReport,
    letters: dict[TopicPartition, Watermarks],
    recorded: set[bytes],
    clock: Clock,
) -> Iterator[AuditFinding]:
    if report.since is None:
        return
    spans = {
        tp.partition: (watermark.first, watermark.end)
        for tp, watermark in letters.items()
        if watermark.first < watermark.end
    }
    if not spans:
        return
    with closing(scan(settings, settings.dlq_topic, spans=spans, clock=clock)) as records:
        for record in records:
            state = read_letter(record)
            since = _recorded_since(report, record.tp.partition)
            if not isinstance(state, LetterState) or since is None:
                continue
            if state.timestamp - since < CLOCKS_DIFFER:
                continue
            if _name(state) not in recorded:
                yield AuditFinding(
                    "unrecorded",
                    record.tp.topic,
                    record.tp.partition,
                    record.offset,
                    f"letter {state.dlq_id} is {state.state.value} by {state.actor!r} at "
                    f"{state.timestamp.isoformat(timespec='seconds')}, and nothing records it",
                )


def _recorded_since(report: AuditReport, partition: int) -> datetime | None:
    """Return from when on all that was done in a partition must be recorded; None: nobody knows."""
    part = report.partitions.get(partition)
    if part is None or not part.chain.start:
        return report.since
    # Its older records are deleted.
    return part.oldest


def _name(state: LetterState) -> bytes:
    """Return what tells a state from all others, in few bytes."""
    facts = (
        state.dlq_id,
        state.event_id,
        state.state.value,
        state.timestamp.timestamp(),
        state.actor,
        state.redrive_count,
    )
    return sha256(repr(facts).encode()).digest()[:_NAME_BYTES]
