"""Reading the letters topic: its records as letters and states, and one letter with its story.

With no group and no commits. Small summaries of all letters are `redrive.redriving.views`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from redrive.clock import SYSTEM, Clock
from redrive.dead_letter.fold import Descent, LetterFold, LetterStatus
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import LetterState, State, read_letter
from redrive.dead_letter.vouching import Vouched, letter_signer, told_once, vouched
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import ConsumerRecord
from redrive.kafka.scan import scan
from redrive.signatures import NO_TRUST, Verifier

__all__ = [
    "LetterStory",
    "Name",
    "StoredLetter",
    "StoredState",
    "event_id_of",
    "find_letters",
    "find_stories",
    "letter_records",
    "name_of",
    "records_at",
    "stored",
]


Name = tuple[str, str | None]
"""A letter's id, and its event's: positions, and with them ids of earlier versions, repeat."""


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A letter, where it lies, and who vouches for it."""

    partition: int
    offset: int
    letter: DeadLetter
    signed_by: str | None = None
    vouched: Vouched = Vouched.YES


@dataclass(frozen=True, slots=True)
class StoredState:
    """A state record, and where it lies."""

    partition: int
    offset: int
    state: LetterState


@dataclass(frozen=True, slots=True)
class LetterStory:
    """A letter, and its state records since it was given up, in their order.

    Those that do not count, for want of a signature, are among them.
    """

    stored: StoredLetter
    states: tuple[LetterState, ...] = ()

    @property
    def state(self) -> State:
        """Where the letter stands."""
        counting = [state.state for state in self.states if state.counts]
        return counting[-1] if counting else State.OPEN


def find_letters(
    settings: KafkaSettings,
    wanted: str,
    verifier: Verifier = NO_TRUST.verifier,
    *,
    clock: Clock = SYSTEM,
) -> list[StoredLetter]:
    """Return the letters whose `dlq_id` or `event_id` is `wanted`, oldest first.

    Those that nobody vouches for come before all others.

    Reads the whole topic, to where it ends now. A record that is no letter is passed by.

    Raises:
        KafkaUnavailableError: Nothing more came for `kafka.startup_timeout`.
        SettingsError: The topic does not exist, or the client's options cannot work.
    """
    return [story.stored for story in find_stories(settings, wanted, verifier, clock=clock)]


def find_stories(
    settings: KafkaSettings,
    wanted: str,
    verifier: Verifier = NO_TRUST.verifier,
    *,
    clock: Clock = SYSTEM,
) -> list[LetterStory]:
    """Return the letters whose `dlq_id` or `event_id` is `wanted`, oldest first, with their states.

    Raises what `find_letters` raises.
    """
    stories: list[tuple[StoredLetter, list[LetterState]]] = []
    partitions: dict[int, LetterFold[LetterStatus]] = {}
    since: dict[tuple[int, Name], list[LetterState]] = {}
    for record in letter_records(settings, clock=clock):
        found, number = stored(record, verifier), record.tp.partition
        folded = partitions.setdefault(number, LetterFold())
        if isinstance(found, StoredLetter):
            now = LetterStatus.of(found.letter, found.vouched)
            folded.letter(now, told_once(record, verifier), Descent.of(found.letter))
            if _is(found.letter, wanted):
                name = name_of(found.letter)
                status = folded.find(*name)
                if status is None or status.state_at is None:
                    since[number, name] = []  # a failure of its own
                stories.append((found, since[number, name]))
        elif isinstance(found, StoredState):
            told = found.state
            # One that does not count is told of all the same.
            of = folded.state(told) if told.counts else folded.find(told.dlq_id, told.event_id)
            if of is not None:
                since.get((number, (of.dlq_id, of.event_id)), []).append(told)
    stories.sort(key=_rank)
    return [LetterStory(found, tuple(states)) for found, states in stories]


def letter_records(
    settings: KafkaSettings, *, clock: Clock = SYSTEM
) -> Generator[ConsumerRecord, None, None]:
    """Yield every record of the letters topic, each partition in its order, to where it ends now.

    Raises what `find_letters` raises.
    """
    return scan(settings, settings.dlq_topic, clock=clock)


def records_at(
    settings: KafkaSettings, tps: Iterable[tuple[int, int]], *, clock: Clock = SYSTEM
) -> Iterator[ConsumerRecord]:
    """Yield the records of the letters topic at these partitions and offsets, as far as they lie.

    What was deleted since is left out. Raises what `find_letters` raises.
    """
    wanted: dict[int, set[int]] = {}
    for partition, offset in tps:
        wanted.setdefault(partition, set()).add(offset)
    if not wanted:
        return
    spans = {number: (min(offsets), max(offsets) + 1) for number, offsets in wanted.items()}
    with closing(scan(settings, settings.dlq_topic, spans=spans, clock=clock)) as records:
        for record in records:
            if record.offset in wanted[record.tp.partition]:
                yield record


def stored(
    record: ConsumerRecord, verifier: Verifier = NO_TRUST.verifier
) -> StoredLetter | StoredState | None:
    """Read a record of the letters topic; None when it is neither a letter nor a state."""
    tp = (record.tp.partition, record.offset)
    match read_letter(record, verifier):
        case DeadLetter() as letter:
            by = letter_signer(record, verifier)
            return StoredLetter(*tp, letter, by, vouched(record, letter.reason, verifier))
        case LetterState() as state:
            return StoredState(*tp, state)
        case None:
            return None


def name_of(letter: DeadLetter) -> Name:
    """Return what tells a letter from all others."""
    return letter.dlq_id, event_id_of(letter)


def event_id_of(letter: DeadLetter) -> str | None:
    """Return the id of the event that ended in this letter, if it can be read."""
    return letter.event_id


def _rank(story: tuple[StoredLetter, list[LetterState]]) -> tuple[bool, datetime, int]:
    found = story[0]
    return found.vouched is Vouched.YES, found.letter.timestamp, found.offset


def _is(letter: DeadLetter, wanted: str) -> bool:
    return wanted in (letter.dlq_id, event_id_of(letter))
