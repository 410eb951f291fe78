"""Working through one partition of letters, step by step, so that it may be cut anywhere.

Claim, read to the end, decide; then page by page: read the letters whole, and write what is done
with them in one transaction. Whatever is in doubt is settled by claiming and reading again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from redrive.clock import Clock
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import LetterState
from redrive.errors import KafkaUnavailableError
from redrive.kafka.batches import OutRecord
from redrive.kafka.log import Record
from redrive.redriving.deciding import Move, Refusal, Refuse, Send
from redrive.redriving.door import Door, InDoubtError, RefusedRecordsError, TakenOverError
from redrive.redriving.facts import Done, Refused, Step, TakenOver
from redrive.redriving.jobs import Job
from redrive.redriving.partition import Entry, PartitionFold, letter_of, state_of

__all__ = ["MAX_PAGE", "MAX_PAGE_BYTES", "Pace", "look", "work"]

MAX_PAGE = 500
MAX_PAGE_BYTES = 4 * 2**20
_MOST_CLAIMS = 5
_WHO_WAITS_S = 0.25
_WHO_ASKED = 8

_Chosen = tuple[Entry, Send | Move]
_Whole = tuple[Record, DeadLetter, Entry, Send | Move]
_Page = list[tuple[Done, list[OutRecord]]]


class Pace(Protocol):
    """Says how fast it may go."""

    def most(self) -> int:
        """Return how many letters may follow, once they may; 0 ends the work."""
        ...

    def went(self, done: list[Done]) -> None:
        """Hear what was done."""
        ...


def look(door: Door, partition: int, job: Job) -> Step:
    """Say what would be done with a partition's letters; nothing is claimed or written."""
    fold = PartitionFold()
    for record in door.read(0):
        fold.add(record)
    chosen, refused = _choose(fold, job, without=set())
    return Step(partition, [Done(*each) for each in chosen], refused)


def work(door: Door, partition: int, job: Job, *, pace: Pace, clock: Clock) -> Iterator[Step]:
    """Do the job with a partition's letters; each step comes when it is durable.

    Raises:
        KafkaUnavailableError: The broker went away, or commits stay in doubt.
    """
    worker = _Worker(door, partition, job, pace, clock)
    for _ in range(_MOST_CLAIMS):
        try:
            yield from worker.go()
        except InDoubtError:
            continue
        except TakenOverError:
            yield worker.taken_over()
        return
    raise KafkaUnavailableError(
        f"after {_MOST_CLAIMS} claims it is still not known what was written to partition "
        f"{partition} of the letters: what is, counts; ask again later"
    )


class _Worker:
    def __init__(self, door: Door, partition: int, job: Job, pace: Pace, clock: Clock) -> None:
        self._door = door
        self._partition = partition
        self._job = job
        self._pace = pace
        self._clock = clock
        self._told: set[str] = set()
        self._written: set[str] = set()
        self._doubtful: dict[str, Done] = {}
        self._end = 0

    def go(self) -> Iterator[Step]:
        self._door.claim()
        yield Step(self._partition)
        fold = PartitionFold()
        for record in self._door.read(0):
            fold.add(record)
        self._end = fold.end
        found = self._settle_doubt(fold)
        chosen, refused = _choose(fold, self._job, without=self._told)
        self._told.update(each.entry.dlq_id for each in refused)
        yield Step(self._partition, found, refused)
        letters = self._letters(chosen)
        following = next(letters, None)
        while following is not None and (most := self._pace.most()) > 0:
            page, following = self._page(following, letters, min(most, MAX_PAGE))
            yield Step(self._partition)
            yield self._write(page)
        if following is None:
            yield Step(self._partition, refused=self._gone(chosen))

    def taken_over(self) -> Step:
        """Find out who has taken over, by what they have written since."""
        found: list[Done] = []
        for _ in range(_WHO_ASKED):
            others = []
            for record in self._door.read(self._end):
                state = state_of(record)
                doubtful = None if state is None else self._doubtful.get(state.dlq_id)
                if state is None or state.dlq_id in self._written or _by_worker(state):
                    continue
                # Who took over may have found our last transaction stored, and ended it.
                if doubtful is not None and _same(doubtful, state.timestamp, state.actor):
                    found.append(doubtful)
                    self._went([doubtful])
                else:
                    others.append(state)
            if others:
                by = TakenOver(self._partition, others[-1].actor, others[-1].timestamp)
                return Step(self._partition, found, taken_over=by)
            self._clock.block(_WHO_WAITS_S)
        return Step(self._partition, found, taken_over=TakenOver(self._partition, None, None))

    def _settle_doubt(self, fold: PartitionFold) -> list[Done]:
        """Return what a commit in doubt turns out to have done."""
        found = []
        for dlq_id, done in self._doubtful.items():
            entry = fold.find(dlq_id)
            if entry is not None and entry.actor and _same(done, entry.at, entry.actor):
                found.append(done)
        self._doubtful.clear()
        self._went(found)
        return found

    def _letters(self, chosen: list[_Chosen]) -> Iterator[_Whole]:
        """Return the letters whole, one by one, in the order in which they lie there."""
        if not chosen:
            return
        wanted = {entry.offset: (entry, what) for entry, what in chosen}
        for record in self._door.read(min(wanted), max(wanted) + 1):
            letter = letter_of(record) if record.offset in wanted else None
            if letter is not None:
                yield record, letter, *wanted[record.offset]

    def _page(
        self, first: _Whole, letters: Iterator[_Whole], most: int
    ) -> tuple[_Page, _Whole | None]:
        """Return as many letters as one transaction should hold, and the one after them."""
        at, page, size = self._clock.now(), _Page(), 0
        following: _Whole | None = first
        while following is not None and len(page) < most:
            record, letter, entry, what = following
            records = self._job.records(record, letter, entry, what, at)
            size += sum(each.size_bytes for each in records)
            if page and size > MAX_PAGE_BYTES:
                break
            page.append((Done(replace(entry, at=at, actor=self._job.actor), what), records))
            following = next(letters, None)
        return page, following

    def _gone(self, chosen: list[_Chosen]) -> list[Refused]:
        """Return what the topic's retention has deleted in the meantime."""
        gone = [entry for entry, _ in chosen if entry.dlq_id not in self._told]
        self._told.update(entry.dlq_id for entry in gone)
        return [Refused(entry, Refusal.NOT_TAKEN, "the letter is there no more") for entry in gone]

    def _write(self, page: _Page) -> Step:
        refused: list[Refused] = []
        while page:
            try:
                self._doubtful = {done.entry.dlq_id: done for done, _ in page}
                self._door.commit([record for _, records in page for record in records])
            except RefusedRecordsError as error:
                refused += _drop(page, error)
            else:
                break
        self._doubtful.clear()
        done = [each for each, _ in page]
        self._went(done)
        self._told.update(each.entry.dlq_id for each in refused)
        return Step(self._partition, done, refused)

    def _went(self, done: list[Done]) -> None:
        ids = [each.entry.dlq_id for each in done]
        self._told.update(ids)
        self._written.update(ids)
        if done:
            self._pace.went(done)


def _choose(
    fold: PartitionFold, job: Job, *, without: set[str]
) -> tuple[list[_Chosen], list[Refused]]:
    chosen: list[_Chosen] = []
    refused: list[Refused] = []
    for entry in fold:
        if entry.dlq_id in without or not job.selection.means(entry):
            continue
        decision = job.decide(entry)
        if isinstance(decision, Refuse):
            refused.append(Refused.of(entry, decision))
        else:
            chosen.append((entry, decision))
    return chosen, refused


def _by_worker(state: LetterState) -> bool:
    return state.actor.startswith("worker ")


def _same(done: Done, at: datetime | None, actor: str) -> bool:
    return (done.entry.at, done.entry.actor) == (at, actor)


def _drop(page: _Page, error: RefusedRecordsError) -> list[Refused]:
    """Take the letters out of a page whose records the broker does not take."""
    owners = [index for index, (_, records) in enumerate(page) for _ in records]
    culprits = {owners[index]: why for index, why in error.errors.items()}
    entries = {index: page[index][0].entry for index in culprits}
    for index in sorted(culprits, reverse=True):
        del page[index]
    return [Refused(entries[i], Refusal.NOT_TAKEN, culprits[i]) for i in sorted(culprits)]
