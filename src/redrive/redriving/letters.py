"""Reading the letters topic: its records as letters and states, and one letter with its story.

With no group and no commits. Small summaries of all letters are `redrive.redriving.views`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from redrive.clock import SYSTEM, Clock
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import LetterState, State, read_letter
from redrive.events import readable_event_id
from redrive.kafka.log import Record
from redrive.kafka.options import KafkaSettings
from redrive.kafka.scan import scan

__all__ = [
    "LetterStory",
    "StoredLetter",
    "StoredState",
    "event_id_of",
    "find_letters",
    "find_stories",
    "letter_records",
    "records_at",
    "stored",
]


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
    """A letter, and its state records in their order."""

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
    letters: list[StoredLetter] = []
    states: list[StoredState] = []
    ids = {wanted}
    for record in letter_records(settings, clock=clock):
        found = stored(record)
        if isinstance(found, StoredLetter) and _is(found.letter, wanted):
            letters.append(found)
            ids.add(found.letter.dlq_id)
        # A letter comes before its states, as both lie on one partition.
        elif isinstance(found, StoredState) and found.state.dlq_id in ids:
            states.append(found)
    letters.sort(key=lambda found: (found.letter.timestamp, found.offset))
    return [LetterStory(found, _states_of(found, states)) for found in letters]


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


def event_id_of(letter: DeadLetter) -> str | None:
    """Return the id of the event that ended in this letter, if it can be read."""
    return readable_event_id(letter.source.value)


def _is(letter: DeadLetter, wanted: str) -> bool:
    return wanted in (letter.dlq_id, event_id_of(letter))


def _states_of(found: StoredLetter, states: Iterable[StoredState]) -> tuple[LetterState, ...]:
    """Return the letter's states in their order: by offset, and between partitions by time."""
    by_partition: dict[int, list[LetterState]] = {}
    for one in states:
        if one.state.dlq_id == found.letter.dlq_id:
            by_partition.setdefault(one.partition, []).append(one.state)
    in_order = sorted(by_partition.items(), key=lambda item: (item[1][-1].timestamp, item[0]))
    return tuple(state for _, its_states in in_order for state in its_states)
