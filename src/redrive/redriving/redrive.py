"""Driving letters again, and moving them: the whole topic, partition by partition.

    report = redrive(settings.kafka, Selection(reason="retries_exhausted"), actor="anna")
    for ending in follow(settings.kafka, report, timeout=timedelta(minutes=5)):
        print(ending.entry.dlq_id, ending.answer.status)

Twice, by two people, cut in the middle: one effect. Each transaction holds events and what it says
of their letters; who claims a partition anew shuts the one before out. [P13]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from datetime import timedelta

from redrive.clock import SYSTEM, Clock
from redrive.dead_letter.states import State
from redrive.kafka.client import admin_config
from redrive.kafka.connect import make_admin
from redrive.kafka.end_offsets import end_offsets
from redrive.kafka.existing import partitions_of
from redrive.kafka.options import KafkaSettings
from redrive.kafka.topics import verify_topics
from redrive.redriving.deciding import Mode
from redrive.redriving.door import KafkaDoor
from redrive.redriving.facts import Report, Step
from redrive.redriving.following import Follower, Watch
from redrive.redriving.jobs import Driving, Job, Moving
from redrive.redriving.outgoing import MAX_ACTOR_CHARS
from redrive.redriving.pace import Paced
from redrive.redriving.selection import Selection
from redrive.redriving.working import look, work

__all__ = ["discard", "park", "plan", "redrive", "unpark"]

Told = Callable[[Step], None]


def redrive(  # noqa: PLR0913 - what a person may wish of it, each by its name
    settings: KafkaSettings,
    selection: Selection,
    *,
    actor: str,
    mode: Mode = "resume",
    reason: str | None = None,
    max_redrives: int = 3,
    replace: Mapping[str, bytes] | None = None,
    deadline: timedelta | None = None,
    limit: int | None = None,
    rate: float | None = None,
    canary: int = 0,
    stop_on_same_fingerprint: bool = False,
    patience: timedelta = timedelta(minutes=5),
    told: Told | None = None,
    clock: Clock = SYSTEM,
) -> Report:
    """Send the events of letters back to the workers, each once.

    Args:
        settings: How to reach Kafka.
        selection: Which letters.
        actor: Who does it, for the record.
        mode: `resume` goes on where each run stopped, `restart` begins anew.
        reason: Why, for the record.
        max_redrives: How often one event may be driven (`redrive.max`).
        replace: New bytes for the events of letters, by dlq_id; the letters keep the old ones.
        deadline: From now on; after it nobody wants the results. None: for ever.
        limit: How many letters at most.
        rate: How many a second.
        canary: How many go first; the others follow when all of these have succeeded.
        stop_on_same_fingerprint: Stop when a run comes back with the failure of its letter.
        patience: How long canaries may take, counted from the latest end of one.
        told: Hears of each step when it is durable.
        clock: Where time comes from.

    Raises:
        KafkaUnavailableError: The broker did not answer, or went away.
        SettingsError: A topic does not exist, or the broker refuses us.
    """
    job = Driving(
        selection,
        actor[:MAX_ACTOR_CHARS],
        settings.events_topic,
        partitions_of(settings, settings.events_topic, clock=clock),
        mode=mode,
        reason=reason,
        most=max_redrives,
        deadline=None if deadline is None else clock.now() + deadline,
        replace=replace or {},
    )
    report = Report(results_from=end_offsets(settings, clock=clock))
    with ExitStack() as opened:
        follower = None
        if canary or stop_on_same_fingerprint:
            follower = opened.enter_context(Follower(settings, report.results_from))
        watch = Watch(report, follower, stop_on_same_fingerprint, patience, clock)
        pace = Paced(clock, limit=limit, rate=rate, canary=canary, guard=watch)
        for step in _work(settings, job, pace, clock):
            watch.hear(step)
            if told is not None:
                told(step)
    return _complete(report, selection)


def plan(
    settings: KafkaSettings,
    selection: Selection,
    *,
    mode: Mode = "resume",
    max_redrives: int = 3,
    replace: Mapping[str, bytes] | None = None,
    limit: int | None = None,
    clock: Clock = SYSTEM,
) -> Report:
    """Return what `redrive` would do now: `done` are the letters that would be driven.

    Nothing is claimed: whoever is at work with the letters goes on.
    """
    events = partitions_of(settings, settings.events_topic, clock=clock)
    job = Driving(
        selection,
        "",
        settings.events_topic,
        events,
        mode=mode,
        most=max_redrives,
        replace=replace or {},
    )
    report = Report()
    for partition, door in _doors(settings, clock):
        report.add(look(door, partition, job))
    if limit is not None:
        del report.done[limit:]
    return _complete(report, selection)


def discard(
    settings: KafkaSettings,
    selection: Selection,
    *,
    actor: str,
    reason: str | None = None,
    clock: Clock = SYSTEM,
) -> Report:
    """Say of letters that nobody will work on them any more."""
    return _move(settings, selection, State.DISCARDED, actor, reason, clock)


def park(
    settings: KafkaSettings,
    selection: Selection,
    *,
    actor: str,
    reason: str | None = None,
    clock: Clock = SYSTEM,
) -> Report:
    """Set letters aside: they are not driven until they are taken back."""
    return _move(settings, selection, State.PARKED, actor, reason, clock)


def unpark(
    settings: KafkaSettings,
    selection: Selection,
    *,
    actor: str,
    reason: str | None = None,
    clock: Clock = SYSTEM,
) -> Report:
    """Take letters back that were set aside."""
    return _move(settings, selection, State.OPEN, actor, reason, clock)


def _move(
    settings: KafkaSettings,
    selection: Selection,
    wanted: State,
    actor: str,
    reason: str | None,
    clock: Clock,
) -> Report:
    job, report = Moving(selection, actor[:MAX_ACTOR_CHARS], wanted, reason), Report()
    for step in _work(settings, job, Paced(clock), clock):
        report.add(step)
    return _complete(report, selection)


def _work(settings: KafkaSettings, job: Job, pace: Paced, clock: Clock) -> Iterator[Step]:
    for partition, door in _doors(settings, clock):
        # Who has no letter here claims nothing, and shuts nobody out.
        found = look(door, partition, job)
        if not found.done:
            yield found
        elif pace.most() > 0:
            for step in work(door, partition, job, pace=pace, clock=clock):
                yield step
                if step.taken_over is not None:
                    # The other one will come to the next partitions too: two who go on would take
                    # them from each other.
                    return


def _doors(settings: KafkaSettings, clock: Clock) -> Iterator[tuple[int, KafkaDoor]]:
    verified = verify_topics(settings, clock=clock)
    admin = make_admin(admin_config(settings))
    for partition in sorted(partitions_of(settings, settings.dlq_topic, clock=clock)):
        door = KafkaDoor(
            settings, partition, admin=admin, max_bytes=verified.max_bytes, clock=clock
        )
        with closing(door):
            yield partition, door


def _complete(report: Report, selection: Selection) -> Report:
    entries = [done.entry for done in report.done] + [no.entry for no in report.refused]
    found = {selection.named(entry) for entry in entries}
    report.unknown = (selection.ids or frozenset()) - found
    return report
