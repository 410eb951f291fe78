"""Where letters stand: the one fold of letters and of what was said of them since.

Lists, redrives, audits and the sweeping of checkpoints all ask it, so that they never differ. Pure.
One partition at a time, in the order of its offsets: a state lies beside its letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import LetterState, State

__all__ = ["FoldedLetter", "LetterFold", "Standing"]

_OVER = frozenset({State.RESOLVED, State.DISCARDED})


class FoldedLetter(Protocol):
    """What the fold must know of a letter; whoever folds keeps more with it, or less."""

    @property
    def dlq_id(self) -> str:
        """Its id; that of an earlier version may be another letter's too."""
        ...

    @property
    def event_id(self) -> str | None:
        """That of its event, None where it cannot be read."""
        ...

    @property
    def at(self) -> datetime:
        """When the run was given up."""
        ...

    @property
    def state(self) -> State:
        """Where it stands."""
        ...

    @property
    def state_at(self) -> datetime | None:
        """When its last state record was written; None while there is none."""
        ...

    @property
    def actor(self) -> str | None:
        """Who wrote it."""
        ...

    @property
    def redrive_count(self) -> int:
        """The highest that any record of it names."""
        ...

    @property
    def superseded_by(self) -> str | None:
        """The newer letter of the same event."""
        ...

    def changed(self, **changes: Any) -> Self:  # noqa: ANN401 - values of what is above
        """Return it with other values."""
        ...


class Standing(NamedTuple):
    """Where a letter stands, and no more of it."""

    dlq_id: str
    event_id: str | None
    at: datetime
    state: State = State.OPEN
    state_at: datetime | None = None
    actor: str | None = None
    redrive_count: int = 0
    superseded_by: str | None = None

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """Return how a letter stands that was just written."""
        count = letter.redrive_count
        return cls(letter.dlq_id, letter.event_id, letter.timestamp, redrive_count=count)

    def changed(self, **changes: Any) -> Self:  # noqa: ANN401 - values of these fields
        """Return it with other values."""
        return self._replace(**changes)


L = TypeVar("L", bound=FoldedLetter)


class LetterFold(Generic[L]):
    """The letters of one partition, each where its last state says that it stands.

    * A state counts only if its event is the letter's: an event may bear the headers of another.
    * Letters of two events are two letters, also where an earlier version gave them one id.
    * The same letter written twice stands where it stood. But a run that was given up again, later,
      when its event was over (resolved or discarded) is a new failure: the letter is open again.
    * A newer letter of an event takes the place of the older ones.
    """

    def __init__(self) -> None:
        self._letters: dict[str, L] = {}
        self._newest: dict[str, str] = {}
        self._shared: set[str] = set()

    def __iter__(self) -> Iterator[L]:
        """Return the letters in the order in which they lie there."""
        return iter(self._letters.values())

    def __len__(self) -> int:
        return len(self._letters)

    def find(self, dlq_id: str, event_id: str | None) -> L | None:
        """Return the letter of this id and event; without an event, the first of this id."""
        key = self._key(dlq_id, event_id)
        return None if key is None else self._letters[key]

    def is_shared(self, dlq_id: str) -> bool:
        """Say whether letters of several events have this id."""
        return dlq_id in self._shared

    def letter(self, found: L) -> L | None:
        """Take a letter; return the earlier record of it whose place it takes, if there is one."""
        key = self._key_of(found)
        known = self._letters.get(key)
        if known is None:
            self._add(key, found)
            return None
        newest = self._letters[self._newest.get(_event(found), key)]
        del self._letters[key]
        count = max(known.redrive_count, found.redrive_count)
        if found.at > known.at and newest.state in _OVER:
            self._add(key, found.changed(redrive_count=count))
        else:
            self._letters[key] = found.changed(
                state=known.state,
                state_at=known.state_at,
                actor=known.actor,
                redrive_count=count,
                superseded_by=known.superseded_by,
            )
        return known

    def state(self, told: LetterState) -> L | None:
        """Take a state; return its letter as it stood, or None where it is no letter's here."""
        key = self._key(told.dlq_id, told.event_id)
        if key is None:
            return None
        letter = self._letters[key]
        self._letters[key] = letter.changed(
            state=told.state,
            state_at=told.timestamp,
            actor=told.actor,
            redrive_count=max(letter.redrive_count, told.redrive_count),
        )
        return letter

    def _add(self, key: str, letter: L) -> None:
        self._letters[key] = letter
        older = self._newest.get(_event(letter))
        self._newest[_event(letter)] = key
        if older is not None and older != key:
            self._letters[older] = self._letters[older].changed(superseded_by=letter.dlq_id)

    def _key_of(self, letter: L) -> str:
        """Return what a letter is kept by: its id, and its event where the id is another's too."""
        first = self._letters.get(letter.dlq_id)
        if first is None or first.event_id == letter.event_id:
            return letter.dlq_id
        self._shared.add(letter.dlq_id)
        return _shared_key(letter.dlq_id, letter.event_id)

    def _key(self, dlq_id: str, event_id: str | None) -> str | None:
        first = self._letters.get(dlq_id)
        if first is None or event_id is None or event_id == first.event_id:
            return None if first is None else dlq_id
        key = _shared_key(dlq_id, event_id)
        if key in self._letters:
            return key
        # Of an event that could not be read, an edit has made one that can be.
        return dlq_id if first.event_id is None else None


def _event(letter: FoldedLetter) -> str:
    return letter.event_id or letter.dlq_id


def _shared_key(dlq_id: str, event_id: str | None) -> str:
    return f"{dlq_id} {event_id or ''}"
