"""An audit of a deployment's topics: reads them and the group's commits, and changes nothing.

The order matters while workers are at work. What the group had finished is read first, so that the
results of all of it are there; events last, so that each result's event is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from redrive.auditing.audit_findings import Finding
from redrive.auditing.committed_offsets import FinishedOffsets
from redrive.auditing.former_logs import FormerLogs
from redrive.auditing.judge import Commits, Judge
from redrive.auditing.read_since import SKEW_MS
from redrive.auditing.topic_part import OnRead, TopicPart, TopicRead, look_at
from redrive.clock import SYSTEM, Clock
from redrive.group_commits import group_commits
from redrive.kafka.broker_wait import reach
from redrive.kafka.existing import partitions_of
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import Committed, TopicPartition
from redrive.payloads import CLEAR, Payloads
from redrive.signatures import NO_TRUST, Verifier

__all__ = ["Audit", "audit"]

_SKEW = timedelta(milliseconds=SKEW_MS)


@dataclass(frozen=True, slots=True)
class Audit:
    """What was read, and who judges it.

    Attributes:
        topics: Of events, results and letters, in this order.
        judge: What it counted.
        offsets: Findings about what the group has committed.
        notes: What could not be seen of single partitions, in words.
        group: Whose commits were read; None where it has committed nothing, so that nobody can say
            which events have ended.
    """

    topics: tuple[TopicRead, TopicRead, TopicRead]
    judge: Judge
    offsets: tuple[Finding, ...]
    notes: tuple[str, ...]
    group: str | None

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong; `judge.unseen` and `began_anew` are whole when this has ended."""
        yield from self.offsets
        yield from self.judge.findings()

    def began_anew(self) -> Iterator[str]:
        """Say which logs of the events have begun anew: what was in them before is not judged."""
        yield from self.judge.former.told()


def audit(
    settings: KafkaSettings,
    *,
    since: datetime | None = None,
    at_least_once: bool = False,
    payloads: Payloads = CLEAR,
    on_read: OnRead = lambda _topic, _records: None,
    verifier: Verifier = NO_TRUST.verifier,
    clock: Clock = SYSTEM,
) -> Audit:
    """Read the three topics and the group's commits, and judge them.

    Joins no group, commits nothing, creates nothing. For the memory that it takes see `Judge`.

    Args:
        settings: How to reach Kafka; whose group.
        since: Only events that bear this time or a later one; None for all that there are.
        at_least_once: Whether workers may answer twice.
        payloads: Decodes what is encrypted, to see that it is whole.
        on_read: Called now and then with the topic and how many of its records were read.
        verifier: Says which states of letters count.
        clock: Measures how long nothing came.

    Raises:
        KafkaUnavailableError: Nothing more came for `kafka.startup_timeout`.
        SettingsError: A topic does not exist, or the client's options cannot work.
    """
    admin, _ = reach(settings, clock=clock)
    # Results follow their events, by another host's clock, and letters lie beside results.
    early = None if since is None else since - _SKEW
    earlier = None if since is None else since - 2 * _SKEW
    before = _committed(settings, clock)
    results = look_at(settings, admin, settings.results_topic, early, clock=clock)
    judge = Judge(
        result_partitions=len(results.watermarks),
        at_least_once=at_least_once,
        former=FormerLogs(before.of_former),
        payloads=payloads,
        verifier=verifier,
    )
    judge.take_results(results.records(settings, on_read, clock=clock), results.reach)
    letters = look_at(settings, admin, settings.dlq_topic, earlier, clock=clock)
    judge.take_letters(letters.records(settings, on_read, clock=clock), letters.reach)
    after = _committed(settings, clock)
    events = look_at(settings, admin, settings.events_topic, since, clock=clock)
    judge.take_events(
        events.records(settings, on_read, clock=clock),
        events.reach,
        commits=Commits.of(before.now, after.now),
        starts=events.starts,
        ends={tp: span.end for tp, span in events.watermarks.items()},
    )
    return Audit(
        (events.read, results.read, letters.read),
        judge,
        tuple(_beyond(events, after.now)),
        tuple(_notes((events, results, letters), after.now)),
        settings.group_id if after.has_any else None,
    )


@dataclass(frozen=True, slots=True)
class _Committed:
    now: Mapping[TopicPartition, Committed]
    of_former: Mapping[TopicPartition, int]

    @property
    def has_any(self) -> bool:
        """Whether the group has committed anything at all."""
        return bool(self.of_former) or any(one.offset is not None for one in self.now.values())


def _committed(settings: KafkaSettings, clock: Clock) -> _Committed:
    topic = settings.events_topic
    numbers = partitions_of(settings, topic, clock=clock)
    found = group_commits(settings, topic, numbers, clock=clock)
    return _Committed(
        {TopicPartition(topic, number): one for number, one in found.now.items()},
        {TopicPartition(topic, number): offset for number, offset in found.before.items()},
    )


def _beyond(events: TopicPart, commits: Mapping[TopicPartition, Committed]) -> Iterator[Finding]:
    for tp, span in events.watermarks.items():
        offset = commits[tp].offset if tp in commits else None
        if offset is not None and offset > span.end:
            text = f"partition {tp.partition} of the events is committed at {offset}, and ends"
            yield Finding("P3", f"{text} at {span.end}", tp=tp, offset=offset)


def _notes(
    parts: tuple[TopicPart, TopicPart, TopicPart], commits: Mapping[TopicPartition, Committed]
) -> Iterator[str]:
    for part in parts:
        topic = part.read.topic
        if part.deleted:
            yield f"{topic}: {part.deleted:,} offsets were deleted from it"
        for number in sorted(part.hidden):
            yield (
                f"{topic}, partition {number}: what lies behind a transaction that does not end "
                f"(offset {part.watermarks[TopicPartition(topic, number)].end} was not reached)"
            )
    events = parts[0]
    for tp, committed in commits.items():
        first = events.watermarks[tp].first if tp in events.watermarks else 0
        if committed.offset is not None and committed.offset < first:
            yield (
                f"{tp.topic}, partition {tp.partition}: {first - committed.offset:,} offsets "
                "that were deleted though the group had not passed them"
            )
        if not FinishedOffsets.of(committed).readable:
            yield (
                f"{tp.topic}, partition {tp.partition}: which offsets past "
                f"{committed.offset} are finished: the commit bears no note of ours"
            )
