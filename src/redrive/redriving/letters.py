"""Reading the letters topic: its records as letters and states, and one letter with its story.

With no group and no commits. Small summaries of all letters are `redrive.redriving.views`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from redrive.clock import SYSTEM, Clock
from redrive.dead_letter.fold import LetterFold, Standing
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import LetterState, State, read_letter
from redrive.kafka.log import Record
from redrive.kafka.options import KafkaSettings
from redrive.kafka.scan import scan

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
    """A letter, and where it lies."""

    partition: int
    offset: int
    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class StoredState:
    """A state record, and where it lies."""

    partition: int
    offset: int
    state: LetterState


@dataclass(frozen=True, slots=True)
class LetterStory:
    """A letter, and its state records since it was given up, in their order."""

    stored: StoredLetter
    states: tuple[LetterState, ...] = ()

    @property
    def state(self) -> State:
        """Where the letter stands."""
        return self.states[-1].state if self.states else State.OPEN


def find_letters(
    settings: KafkaSettings, wanted: str, *, clock: Clock = SYSTEM
) -> list[StoredLetter]:
    """Return the letters whose `dlq_id` or `event_id` is `wanted`, oldest first.

    Reads the whole topic, to where it ends now. A record that is no letter is passed by.

    Raises:
        KafkaUnavailableError: Nothing more came for `kafka.startup_timeout`.
        SettingsError: The topic does not exist, or the client's options cannot work.
    """
    return [story.stored for story in find_stories(settings, wanted, clock=clock)]


def find_stories(
    settings: KafkaSettings, wanted: str, *, clock: Clock = SYSTEM
) -> list[LetterStory]:
    """Return the letters whose `dlq_id` or `event_id` is `wanted`, oldest first, with their states.

    Raises what `find_letters` raises.
    """
    stories: list[tuple[StoredLetter, list[LetterState]]] = []
    partitions: dict[int, LetterFold[Standing]] = {}
    since: dict[tuple[int, Name], list[LetterState]] = {}
    for record in letter_records(settings, clock=clock):
        found, number = stored(record), record.place.partition
        folded = partitions.setdefault(number, LetterFold())
        if isinstance(found, StoredLetter):
            folded.letter(Standing.of(found.letter))
            if _is(found.letter, wanted):
                name = name_of(found.letter)
                standing = folded.find(*name)
                if standing is None or standing.state_at is None:
                    since[number, name] = []  # a failure of its own
                stories.append((found, since[number, name]))
        elif isinstance(found, StoredState) and (moved := folded.state(found.state)) is not None:
            since.get((number, (moved.dlq_id, moved.event_id)), []).append(found.state)
    stories.sort(key=lambda story: (story[0].letter.timestamp, story[0].offset))
    return [LetterStory(found, tuple(states)) for found, states in stories]


def letter_records(
    settings: KafkaSettings, *, clock: Clock = SYSTEM
) -> Generator[Record, None, None]:
    """Yield every record of the letters topic, each partition in its order, to where it ends now.

    Raises what `find_letters` raises.
    """
    return scan(settings, settings.dlq_topic, clock=clock)


def records_at(
    settings: KafkaSettings, places: Iterable[tuple[int, int]], *, clock: Clock = SYSTEM
) -> Iterator[Record]:
    """Yield the records of the letters topic at these partitions and offsets, as far as they lie.

    What was deleted since is left out. Raises what `find_letters` raises.
    """
    wanted: dict[int, set[int]] = {}
    for partition, offset in places:
        wanted.setdefault(partition, set()).add(offset)
    if not wanted:
        return
    spans = {number: (min(offsets), max(offsets) + 1) for number, offsets in wanted.items()}
    with closing(scan(settings, settings.dlq_topic, spans=spans, clock=clock)) as records:
        for record in records:
            if record.offset in wanted[record.place.partition]:
                yield record


def stored(record: Record) -> StoredLetter | StoredState | None:
    """Read a record of the letters topic; None when it is neither a letter nor a state."""
    place = (record.place.partition, record.offset)
    match read_letter(record):
        case DeadLetter() as letter:
            return StoredLetter(*place, letter)
        case LetterState() as state:
            return StoredState(*place, state)
        case None:
            return None


def name_of(letter: DeadLetter) -> Name:
    """Return what tells a letter from all others."""
    return letter.dlq_id, event_id_of(letter)


def event_id_of(letter: DeadLetter) -> str | None:
    """Return the id of the event that ended in this letter, if it can be read."""
    return letter.event_id


def _is(letter: DeadLetter, wanted: str) -> bool:
    return wanted in (letter.dlq_id, event_id_of(letter))
