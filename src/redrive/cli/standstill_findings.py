"""What stands still, and what to do about each: values in, findings out. Pure.

`redrive.redriving.standstill` looks; the reasons inside a worker have names of their own, in
`redrive.consumer.waits`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from redrive.cli.broker_findings import age
from redrive.cli.findings import DoctorFinding, FindingLevel
from redrive.consumer.waits import KINDS, TELL_AFTER_S, Wait
from redrive.redriving.run_stories import RunStatus
from redrive.redriving.standstill import WATCHED_S, Head, OpenTransaction, Standstill

__all__ = ["Leaders", "judge_leaders", "judge_standstill", "judge_waits"]

_T = TypeVar("_T")

STUCK = timedelta(minutes=15)
"""An event that has been under way for so long is told of; as long as `redrive:limit:stuck_seconds`
of the alerts."""
NOT_BEGUN = timedelta(minutes=1)
"""An event that no worker has begun for so long is told of."""
MOST_TOLD = 10
"""Partitions of one kind that are told one by one."""


@dataclass(frozen=True, slots=True)
class Leaders:
    """The partitions of one topic, as the cluster describes them.

    Attributes:
        topic: Its name.
        in_sync: How many replicas of each are in sync; None where it has no leader.
        least_in_sync: How many must be, for what we write to be taken (`min.insync.replicas`).
        is_written: Whether workers write to it.
    """

    topic: str
    in_sync: Mapping[int, int | None]
    least_in_sync: int
    is_written: bool

    @property
    def leaderless(self) -> frozenset[int]:
        """The partitions without a leader."""
        return frozenset(number for number, count in self.in_sync.items() if count is None)


def judge_leaders(topics: Iterable[Leaders]) -> Iterator[DoctorFinding]:
    """Say which partitions have no leader, or take no writes, and what waits for them."""
    found = False
    for one in topics:
        if one.leaderless:
            found = True
            waits = (
                "records for it wait apart, and their events are not finished"
                if one.is_written
                else "nothing of them is read"
            )
            yield DoctorFinding(
                FindingLevel.ERROR,
                f"{_partitions(one.leaderless)} of {one.topic!r} without a leader: {waits}",
                "bring back the brokers with its replicas; where they are gone for good, "
                "kafka-leader-election.sh --election-type unclean gives up what only they had",
            )
        thin = [n for n, count in one.in_sync.items() if count and count < one.least_in_sync]
        if thin:
            found = True
            yield DoctorFinding(
                FindingLevel.ERROR,
                f"{_partitions(thin)} of {one.topic!r} with fewer than {one.least_in_sync} "
                "replicas in sync (min.insync.replicas): no record can be stored there",
                "bring back the brokers with its replicas",
            )
    if not found:
        yield DoctorFinding(FindingLevel.OK, "each partition has a leader and accepts records")


def judge_standstill(
    seen: Standstill, *, topic: str, group: str, servers: str, now: datetime
) -> Iterator[DoctorFinding]:
    """Say what of the group's work stands still.

    Args:
        seen: What was seen.
        topic: Of the events.
        group: The workers' group.
        servers: The brokers' addresses, for commands.
        now: The time.
    """
    found = [
        *_of_transactions(seen.open, servers, now),
        *_of_pending(seen.pending, topic, group, servers),
        *_of_logs(seen, topic, group),
        *_of_owners(seen, topic, group),
        *_of_heads(seen.heads, topic, now),
    ]
    yield from found
    if not any(one.level is not FindingLevel.OK for one in found):
        yield DoctorFinding(FindingLevel.OK, "nothing stands still")


def judge_waits(
    counts: Mapping[str, float], lasting_s: Mapping[str, float]
) -> Iterator[DoctorFinding]:
    """Say what a worker waits for, by its own figures: `redrive_waiting`, and its seconds."""
    for wait in Wait:
        kind, waited_s = KINDS[wait], lasting_s.get(wait.value, 0.0)
        if waited_s >= TELL_AFTER_S and not kind.is_planned:
            yield DoctorFinding(
                FindingLevel.WARNING,
                f"a worker here has waited for {age(timedelta(seconds=waited_s))} "
                f"({wait.value}, {counts.get(wait.value, 0):.0f}): {kind.what}",
                "its log says why; what to do is in docs/running-a-worker.md, What a worker waits "
                "for",
            )


def _of_transactions(
    seen: Iterable[OpenTransaction], servers: str, now: datetime
) -> Iterator[DoctorFinding]:
    for one in seen:
        since = "" if one.since is None else f", written {age(_since(one.since, now))} ago"
        tool = f"kafka-transactions.sh --bootstrap-server {servers}"
        topic, partition = one.tp
        yield DoctorFinding(
            FindingLevel.WARNING,
            f"partition {partition} of {topic!r}: a transaction is open at offset {one.offset}"
            f"{since}, and did not end in {WATCHED_S:g} s: no reader sees the {one.behind} offsets "
            "from there on",
            f"find its producer: {tool} describe-producers --topic {topic} --partition "
            f"{partition}. A program that is alive ends it, or its transaction.timeout.ms does; if "
            f"one hangs: "
            f"{tool} find-hanging, then abort --topic {topic} --partition {partition} "
            f"--start-offset {one.offset}",
        )


def _of_pending(
    partitions: Sequence[int], topic: str, group: str, servers: str
) -> Iterator[DoctorFinding]:
    if partitions:
        tool = f"kafka-transactions.sh --bootstrap-server {servers}"
        yield DoctorFinding(
            FindingLevel.ERROR,
            f"what group {group!r} has committed for {_partitions(partitions)} of {topic!r} cannot "
            f"be read: a transaction over it is open, and did not end in {WATCHED_S:g} s. Whoever "
            "gets them waits (offsets)",
            f"its producer's transaction.timeout.ms ends it; one that hangs: {tool} find-hanging, "
            "then abort. Nothing more was checked",
        )


def _of_logs(seen: Standstill, topic: str, group: str) -> Iterator[DoctorFinding]:
    if seen.before:
        offsets = ", ".join(f"{number} at {at}" for number, at in _first(seen.before))
        yield DoctorFinding(
            FindingLevel.WARNING,
            f"{topic!r} was deleted and created again: what group {group!r} has committed for "
            f"{_partitions(seen.before)} belongs to the earlier topic ({offsets})",
            "a worker starts at the beginning of the new topic by itself, and logs "
            "partition.log_began_anew. Unfinished events of the earlier topic are lost: redrive "
            "doctor audit",
        )
    for number, (offset, end) in _first(seen.beyond):
        yield DoctorFinding(
            FindingLevel.WARNING,
            f"partition {number} of {topic!r} ends at {end}, and group {group!r} has committed "
            f"{offset}: its log has lost its end, or was created again",
            "a worker continues at the end of the log by itself, and logs partition.log_cut_back. "
            "Find out what happened to the broker's disk, and check unclean.leader.election.enable",
        )


def _of_owners(seen: Standstill, topic: str, group: str) -> Iterator[DoctorFinding]:
    # Where nobody is in the group at all, the check of the lag says so.
    unowned = {n for n, head in seen.heads.items() if head.owner is None}
    if unowned and seen.group.members:
        yield DoctorFinding(
            FindingLevel.WARNING,
            f"{_partitions(unowned)} of {topic!r} with unfinished events, and none of the "
            f"{seen.group.members} member(s) of group {group!r} owns them; the group is "
            f"{seen.group.state}",
            "a rebalance that does not end waits for a member that does not answer: stop that one. "
            "In a stable group, a member has not subscribed to the topic: is it another program?",
        )


def _of_heads(heads: Mapping[int, Head], topic: str, now: datetime) -> Iterator[DoctorFinding]:
    told = 0
    for number, head in sorted(heads.items()):
        finding = None if head.owner is None else _of_head(number, head, topic, now)
        if finding is None:
            continue
        told += 1
        if told <= MOST_TOLD:
            yield finding
    if told > MOST_TOLD:
        yield DoctorFinding(FindingLevel.WARNING, f"{told - MOST_TOLD} more partitions like this")


def _of_head(number: int, head: Head, topic: str, now: datetime) -> DoctorFinding | None:
    waited = timedelta(0) if head.at is None else _since(head.at, now)
    which = (
        f"partition {number} of {topic!r}: the event at offset {head.offset} "
        f"({head.event_id or 'its id cannot be read'}), {age(waited)} old,"
    )
    failed = (
        f"{head.progress.failed or 0} attempt(s) failed, {head.progress.crashes or 0} crash(es)"
    )
    show = "" if head.event_id is None else f"redrive run show {head.event_id}; "
    if head.until is not None and head.until > now:
        until = head.until.replace(microsecond=0).isoformat()
        return DoctorFinding(
            FindingLevel.OK, f"{which} waits until {until} for its next attempt: {failed}"
        )
    if head.progress.status is RunStatus.MAY_BE_RUNNING:
        if waited < STUCK:
            return None
        return DoctorFinding(
            FindingLevel.WARNING,
            f"{which} may be running at {head.owner}, and nothing of its partition was committed "
            f"in {WATCHED_S:g} s: {failed}",
            f"{show}redrive_stuck_seconds of that worker says whether the run moves: one that "
            "hangs wants timeouts.idle. Where it has ended, worker.waits and settle.outcomes_wait "
            "in its log say what its result waits for",
        )
    if waited < NOT_BEGUN:
        return None
    return DoctorFinding(
        FindingLevel.WARNING,
        f"{which} has not been begun by {head.owner}, and nothing of its partition was committed "
        f"in {WATCHED_S:g} s: {failed}",
        f"{show}worker.waits in the log of that worker says for what: a slot, memory, suspicion",
    )


def _first(found: Mapping[int, _T]) -> list[tuple[int, _T]]:
    return sorted(found.items())[:MOST_TOLD]


def _since(at: datetime, now: datetime) -> timedelta:
    return max(now - at, timedelta(0))


def _partitions(numbers: Iterable[int]) -> str:
    """Write numbers of partitions, of many the first ones."""
    found = sorted(numbers)
    told = ", ".join(str(number) for number in found[:MOST_TOLD])
    more = f" and {len(found) - MOST_TOLD} more" if len(found) > MOST_TOLD else ""
    return f"partition{'s' if len(found) > 1 else ''} {told}{more}"
