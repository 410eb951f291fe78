"""What is wrong with what a broker told: values in, findings out. Pure; `broker_checks` asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from redrive.cli.findings import DoctorFinding, FindingLevel
from redrive.consumer.policy import Policy
from redrive.kafka.metadata_limit import NOTE_LIMIT_OPTION
from redrive.redriving.backlog import Backlog
from redrive.state.commit_metadata import (
    MAX_ENTRIES,
    MAX_METADATA_CHARS,
    MIN_METADATA_CHARS,
    WINDOW,
)
from redrive.state.metadata_room import MetadataRoom
from redrive.units import format_duration

__all__ = ["age", "judge_backlog", "judge_clock", "judge_delays", "judge_note_limit"]

_NEAR_RETENTION = 0.8
_NOTABLE = timedelta(seconds=1)


def judge_backlog(
    backlog: Backlog, *, topic: str, group: str, retention: timedelta | None, now: datetime
) -> Iterator[DoctorFinding]:
    """Say what is wrong with how far the group is behind; `retention` None is for ever."""
    oldest = timedelta(0) if backlog.oldest is None else max(now - backlog.oldest, timedelta(0))
    waiting = f"{backlog.unfinished} event(s) of {topic!r} are not finished"
    told = f"{waiting}, the oldest of {age(oldest)}" if backlog.oldest else waiting
    idle = backlog.unfinished > 0 and backlog.members == 0
    near = retention is not None and oldest >= _NEAR_RETENTION * retention
    if idle:
        yield DoctorFinding(
            FindingLevel.WARNING,
            f"{told}, and there is no worker in group {group!r}",
            "start one: redrive worker; one that runs has another kafka.group_id",
        )
    if near and retention is not None:
        yield DoctorFinding(
            FindingLevel.WARNING,
            f"{told}: the topic keeps events for {format_duration(retention)}",
            f"run more workers, or raise retention.ms of {topic}, before events are deleted",
        )
    if backlog.deleted:
        yield DoctorFinding(
            FindingLevel.WARNING,
            f"{backlog.deleted} offsets of {topic!r} were deleted that group {group!r} had not "
            "finished: events that nobody will run, or the ends of transactions",
            f"raise retention.ms of {topic}, and run enough workers",
        )
    if not (idle or near or backlog.deleted):
        yield DoctorFinding(
            FindingLevel.OK, f"{told}; workers in group {group!r}: {backlog.members}"
        )


def judge_delays(
    policies: Iterable[Policy], *, topic: str, retention: timedelta | None
) -> Iterator[DoctorFinding]:
    """Say whether events are kept longer than their runs may wait; `retention` None is for ever.

    A run that waits for its retry is read again after a crash, from where it lay.
    """
    longest = max((_longest_wait(policy) for policy in policies), default=timedelta(0))
    told = f"runs may wait {format_duration(longest)} for their retries"
    kept = "for ever" if retention is None else f"for {format_duration(retention)}"
    if retention is not None and retention < longest:
        yield DoctorFinding(
            FindingLevel.WARNING,
            f"{told}, and {topic!r} keeps events {kept}: after a crash, one that waits may be gone",
            f"raise retention.ms of {topic}, or lower retry.max_retries or retry.max_delay",
        )
    else:
        yield DoctorFinding(FindingLevel.OK, f"{told}; {topic!r} keeps events {kept}")


def judge_note_limit(limit_chars: int | None) -> Iterator[DoctorFinding]:
    """Say what it costs where brokers take little beside an offset; None is a limit not told."""
    if limit_chars is None:
        yield DoctorFinding(
            FindingLevel.OK,
            f"{NOTE_LIMIT_OPTION} of the brokers cannot be read: assumed to be 4096, as it is by "
            "default; where it is smaller, a worker learns it from the first refusal",
        )
        return
    room = MetadataRoom(limit_chars)
    told = f"{NOTE_LIMIT_OPTION} of the brokers is {limit_chars}"
    fix = f"leave {NOTE_LIMIT_OPTION} out of server.properties: it is 4096 then"
    if not room.entries:
        yield DoctorFinding(
            FindingLevel.ERROR,
            f"{told}, must be {MIN_METADATA_CHARS} or more: no worker starts",
            fix,
        )
    elif limit_chars < MAX_METADATA_CHARS:
        yield DoctorFinding(
            FindingLevel.WARNING,
            f"{told}: of each partition {room.entries} events may run or wait for a retry at once, "
            f"not {MAX_ENTRIES}, and one that takes long lets the next {room.window} end before "
            f"it, not {WINDOW}",
            fix,
        )
    else:
        yield DoctorFinding(
            FindingLevel.OK, f"{told}: what has started and ended fits beside each offset"
        )


def _longest_wait(policy: Policy) -> timedelta:
    retry = policy.retry
    limits = (retry.most_retries * retry.max_delay, retry.total_limit_s, policy.run_s)
    return timedelta(seconds=min(limit for limit in limits if limit is not None))


def judge_clock(
    newest: Mapping[str, datetime], stamping: set[str], *, now: datetime
) -> Iterator[DoctorFinding]:
    """Say which clock is ahead of this host's, as far as the newest records show it.

    Args:
        newest: The latest timestamp of each topic that has a record.
        stamping: The topics whose records bear the broker's time, not their writer's.
        now: This host's time, read after the others.
    """
    ahead = {topic: at - now for topic, at in newest.items() if at - now > _NOTABLE}
    for topic, by in ahead.items():
        whose = "the broker's clock" if topic in stamping else "the clock of a producer"
        yield DoctorFinding(
            FindingLevel.WARNING,
            f"a record of {topic!r} has a time {age(by)} ahead of this host's clock: {whose} is "
            "ahead, or this one is behind",
            "synchronise the clocks of all hosts (NTP): deadlines and ages depend on them",
        )
    if not ahead:
        yield DoctorFinding(
            FindingLevel.SKIPPED,
            "Kafka does not tell its time: a clock that is behind cannot be seen. No record bears "
            "a time ahead of this host's clock",
        )


def age(value: timedelta) -> str:
    """Write an age for people, without parts of a second."""
    return str(value).partition(".")[0]
