"""Working through one partition of letters, step by step, so that it may be cut anywhere.

Read to the end, claim, read on, decide; then page by page write what is done with the letters, in
one transaction each. Whatever is in doubt is settled by claiming and reading on again.

What has been read once is committed, and only retention takes it away; what a transaction still
open may add, the reading has waited for. So nothing is read again for another claim. [P13]
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import datetime
from typing import Protocol

from redrive.clock import Clock
from redrive.dead_letter.states import LetterState
from redrive.errors import KafkaUnavailableError
from redrive.redriving.audit_trail import AuditTrail
from redrive.redriving.deciding import Decision, Refusal, Refuse
from redrive.redriving.extracts import read_slimly
from redrive.redriving.fenced_partition import (
    FencedPartition,
    InDoubtError,
    RefusedRecordsError,
    TakenOverError,
)
from redrive.redriving.jobs import Job
from redrive.redriving.letters_topic import Name
from redrive.redriving.partition import Entry, PartitionFold
from redrive.redriving.redrive_report import Done, Refused, Step, TakenOver
from redrive.redriving.transaction_pages import Chosen, TransactionPage, TransactionPages

__all__ = ["Pace", "has_work", "look", "read_on", "work"]

_MOST_CLAIMS = 5
_WHO_WAITS_S = 0.25
_WHO_ASKED = 8


class Pace(Protocol):
    """Says how fast it may go."""

    def most(self) -> int:
        """Return how many letters may follow, once they may; 0 ends the work."""
        ...

    def went(self, done: list[Done]) -> None:
        """Hear what was done."""
        ...


def read_on(fenced: FencedPartition, fold: PartitionFold) -> None:
    """Add what has come since the last reading, up to the end as it is now.

    Raises:
        KafkaUnavailableError: The broker does not give it.
    """
    end = fenced.end()
    for record in fenced.read(fold.end, end):
        fold.add(record)
    fold.has_read_to(end)


def has_work(fold: PartitionFold, job: Job) -> bool:
    """Say whether anything would be done with a partition's letters."""
    chosen = filter(job.selection.means, fold)
    return any(not isinstance(_decide(job, entry), Refuse) for entry in chosen)


def look(fold: PartitionFold, partition: int, job: Job) -> Step:
    """Say what would be done with a partition's letters; nothing is claimed or written."""
    chosen, refused = _choose(fold, job, without=set())
    return Step(partition, [Done(*each) for each in chosen], refused)


def work(
    fenced: FencedPartition,
    partition: int,
    job: Job,
    *,
    fold: PartitionFold,
    pace: Pace,
    clock: Clock,
    trail: AuditTrail | None = None,
) -> Iterator[Step]:
    """Do the job with a partition's letters; each step comes when it is durable.

    Args:
        fenced: The way to the partition.
        partition: Its number.
        job: What is done.
        fold: What was read of the partition before, if anything was: it is gone on with.
        pace: How fast.
        clock: Says when.
        trail: Makes audit records of what is done, if those are wanted.

    Raises:
        KafkaUnavailableError: The broker went away, or commits stay in doubt.
    """
    worker = _Worker(fenced, partition, job, fold, pace, clock, trail)
    doubts = 0
    while doubts < _MOST_CLAIMS:
        try:
            if (yield from worker.go()):
                return
        except InDoubtError:
            doubts += 1
        except TakenOverError:
            yield worker.taken_over()
            return
    raise KafkaUnavailableError(
        f"after {_MOST_CLAIMS} claims it is still not known what was written to partition "
        f"{partition} of the letters: what is, counts; ask again later"
    )


class _Worker:
    def __init__(
        self,
        fenced: FencedPartition,
        partition: int,
        job: Job,
        fold: PartitionFold,
        pace: Pace,
        clock: Clock,
        trail: AuditTrail | None,
    ) -> None:
        self._fenced = fenced
        self._partition = partition
        self._job = job
        self._fold = fold
        self._pace = pace
        self._clock = clock
        self._trail = trail
        self._told: set[Name] = set()
        self._written: set[Name] = set()
        self._doubtful: dict[Name, Done] = {}
        self._at: datetime | None = None

    def go(self) -> Generator[Step, None, bool]:
        """Go on until all is done; False where records were refused: to be claimed again."""
        self._fenced.claim()
        if self._trail is not None:
            self._trail.claim()
        yield Step(self._partition)
        read_on(self._fenced, self._fold)
        found = self._settle_doubt()
        chosen, refused = _choose(self._fold, self._job, without=self._told)
        if self._trail is not None:
            self._trail.intend(entry.dlq_id for entry, _ in chosen)
        self._told.update(_name(each.entry) for each in refused)
        yield Step(self._partition, found, refused)
        pages = TransactionPages(self._fenced, self._fold.originals, self._job, chosen)
        while pages.follow and (most := self._pace.most()) > 0:
            page = pages.take(most, at=self._clock.now(), end=self._fold.end)
            yield Step(self._partition)
            step = self._write(page)
            yield step
            if step.refused:
                return False
        if not pages.follow:
            yield Step(self._partition, refused=self._gone(chosen))
        return True

    def taken_over(self) -> Step:
        """Find out who has taken over, by what they have written since."""
        found: list[Done] = []
        for _ in range(_WHO_ASKED):
            others = []
            for record in self._fenced.read(self._fold.end, self._fenced.end()):
                state = read_slimly(record)
                if not isinstance(state, LetterState) or _by_worker(state):
                    continue
                name = (state.dlq_id, state.event_id)
                if name in self._written:
                    continue
                # Who took over may have found our last transaction stored, and ended it.
                doubtful = self._doubtful.get(name)
                if doubtful is not None and self._is_ours(state.timestamp, state.actor):
                    found.append(doubtful)
                    self._went([doubtful])
                else:
                    others.append(state)
            if others:
                by = TakenOver(self._partition, others[-1].actor, others[-1].timestamp)
                return Step(self._partition, found, taken_over=by)
            self._clock.block(_WHO_WAITS_S)
        return Step(self._partition, found, taken_over=TakenOver(self._partition, None, None))

    def _settle_doubt(self) -> list[Done]:
        """Return what a commit in doubt turns out to have done."""
        found = []
        for done in self._doubtful.values():
            entry = self._fold.find(done.entry)
            if entry is not None and self._is_ours(entry.state_at, entry.actor):
                found.append(done)
        self._doubtful.clear()
        self._went(found)
        return found

    def _gone(self, chosen: list[Chosen]) -> list[Refused]:
        """Return what the topic's retention has deleted in the meantime."""
        gone = [entry for entry, _ in chosen if _name(entry) not in self._told]
        self._told.update(map(_name, gone))
        return [
            Refused(entry, Refusal.NOT_TAKEN, "the letter is there no more, or its event")
            for entry in gone
        ]

    def _write(self, page: TransactionPage) -> Step:
        self._at = page.at
        self._doubtful = {_name(each.entry): each for each in page.done}
        done, refused = page.done, list[Refused]()
        try:
            self._fenced.commit(page.records(self._trail))
        except RefusedRecordsError as error:
            # Nothing of it is written: what is left of it is chosen again.
            done, refused = [], page.drop(error)
        self._doubtful.clear()
        self._went(done)
        self._told.update(_name(each.entry) for each in refused)
        return Step(self._partition, done, refused)

    def _is_ours(self, at: datetime | None, actor: str | None) -> bool:
        """Say whether a state is one of the last page's."""
        return (at, actor) == (self._at, self._job.actor)

    def _went(self, done: list[Done]) -> None:
        ids = [_name(each.entry) for each in done]
        self._told.update(ids)
        self._written.update(ids)
        if done:
            self._pace.went(done)


def _choose(
    fold: PartitionFold, job: Job, *, without: set[Name]
) -> tuple[list[Chosen], list[Refused]]:
    chosen: list[Chosen] = []
    refused: list[Refused] = []
    for entry in fold:
        if _name(entry) in without or not job.selection.means(entry):
            continue
        decision = _decide(job, entry)
        if isinstance(decision, Refuse):
            refused.append(Refused.of(entry, decision))
        else:
            chosen.append((entry, decision))
    return chosen, refused


def _name(entry: Entry) -> Name:
    return entry.dlq_id, entry.event_id


def _decide(job: Job, entry: Entry) -> Decision:
    if entry.shares_id and job.selection.named(entry) == entry.dlq_id:
        text = f"letters of several events have this id: name its event, {entry.event_id}"
        return Refuse(Refusal.ID_OF_SEVERAL, text)
    return job.decide(entry)


def _by_worker(state: LetterState) -> bool:
    return state.actor.startswith("worker ")
