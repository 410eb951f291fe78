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
from redrive.dead_letter.vouching import Vouched
from redrive.events import EventHeaders, RawHeaders

__all__ = ["NO_DESCENT", "Descent", "FoldedLetter", "LetterFold", "LetterStatus"]

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
    def signed_by(self) -> str | None:
        """The key that signed it; None: the actor is what its writer calls itself."""
        ...

    @property
    def vouched(self) -> Vouched:
        """Whether it may speak for its event."""
        ...

    @property
    def redrive_count(self) -> int:
        """The highest that any record of it names."""
        ...

    @property
    def superseded_by(self) -> str | None:
        """The newer letter of the same event."""
        ...

    def changed(self, **changes: Any) -> Self:
        """Return it with other values."""
        ...


class LetterStatus(NamedTuple):
    """Where a letter stands, and no more of it."""

    dlq_id: str
    event_id: str | None
    at: datetime
    state: State = State.OPEN
    state_at: datetime | None = None
    actor: str | None = None
    redrive_count: int = 0
    superseded_by: str | None = None
    signed_by: str | None = None
    vouched: Vouched = Vouched.YES

    @classmethod
    def of(cls, letter: DeadLetter, vouched: Vouched = Vouched.YES) -> Self:
        """Return how a letter stands that was just written."""
        return cls(
            letter.dlq_id,
            letter.event_id,
            letter.timestamp,
            redrive_count=letter.redrive_count,
            vouched=vouched,
        )

    def changed(self, **changes: Any) -> Self:
        """Return it with other values."""
        return self._replace(**changes)


L = TypeVar("L", bound=FoldedLetter)


class Descent(NamedTuple):
    """What a letter comes from.

    `redrive_of` is the letter that was driven, and ended in this one; `asked` the digest of its
    event and what that asks for, None in letters of versions before.
    """

    redrive_of: str | None = None
    asked: str | None = None

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """Return that of a letter."""
        if letter.generation is not None or not letter.redrive_count:
            return cls(letter.redrive_of, letter.input_digest)
        return cls.of_former(letter.source.headers, letter.event_id)

    @classmethod
    def of_former(cls, headers: RawHeaders, event_id: str | None) -> Self:
        """Return that of a letter by a version before, whose event was driven."""
        return cls(EventHeaders.claimed_by(headers, event_id).of)


NO_DESCENT = Descent()


class LetterFold(Generic[L]):
    """The letters of one partition, each where its last state says that it stands.

    * A state counts only if its event is the letter's: an event may bear the headers of another.
    * Letters of two events are two letters, also where an earlier version gave them one id.
    * The same letter written twice stands where it stood. But a run that was given up again, later,
      when its event was over (resolved or discarded) is a new failure: the letter is open again.
    * A newer letter takes the place of the one whose redrive it ends, and of those of the same
      event that ask for the same. One that asks for something else under its id stands beside
      them: whoever knows an id can send that, and it must not hide what is to be driven. [P13]
    * A letter that nobody vouches for takes the place of no other but the one whose redrive it
      ends: the ids that it names may be anybody's.
    * A state that needs a signature and has none moves nothing, nor does a signed one again.
    """

    def __init__(self) -> None:
        self._letters: dict[str, L] = {}
        # By what their events ask for; of versions before, by the events.
        self._newest: dict[str, str] = {}
        self._beside: dict[str, set[str]] = {}
        self._heard: set[bytes] = set()
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

    def letter(
        self, found: L, told_once: bytes | None = None, descent: Descent = NO_DESCENT
    ) -> L | None:
        """Take a letter; return the earlier record of it whose place it takes, if there is one.

        Returns the letter itself where it takes no place at all: a record that is `told_once` takes
        none again.
        """
        if found.vouched is Vouched.LETTER_NOT:
            return self._letter_of_nobody(found, Descent(asked=descent.asked))
        if told_once in self._heard:
            return found
        if told_once is not None:
            self._heard.add(told_once)
        key = self._key_of(found)
        known = self._letters.get(key)
        if known is None:
            forged = self._letters.pop(_key_of_nobody(found.dlq_id), None)
            self._add(key, found, descent)
            return forged
        newest = self._newest_after(known)
        del self._letters[key]
        count = max(known.redrive_count, found.redrive_count)
        if found.at > known.at and newest.state in _OVER:
            self._add(key, found.changed(redrive_count=count), descent)
        else:
            self._letters[key] = found.changed(
                state=known.state,
                state_at=known.state_at,
                actor=known.actor,
                signed_by=known.signed_by,
                redrive_count=count,
                superseded_by=known.superseded_by,
            )
        return known

    def state(self, told: LetterState) -> L | None:
        """Take a state; return its letter as it stood, or None where it moves no letter here."""
        if not told.counts or told.signature in self._heard:
            return None
        if told.signature is not None:
            self._heard.add(told.signature)
        key = self._key(told.dlq_id, told.event_id)
        if key is None:
            return None
        letter = self._letters[key]
        self._letters[key] = letter.changed(
            state=told.state,
            state_at=told.timestamp,
            actor=told.actor,
            signed_by=told.signed_by,
            redrive_count=max(letter.redrive_count, told.redrive_count),
        )
        return letter

    def _letter_of_nobody(self, found: L, descent: Descent) -> L | None:
        """Keep it apart: the first of its id, while no letter of a worker has that id."""
        key = _key_of_nobody(found.dlq_id)
        if found.dlq_id in self._letters or key in self._letters:
            return found
        self._add(key, found, descent)
        return None

    def _add(self, key: str, letter: L, descent: Descent) -> None:
        self._letters[key] = letter
        asked, older = descent.asked or _event(letter), set[str]()
        if descent.redrive_of is not None:
            older.add(self._key(descent.redrive_of, letter.event_id) or key)
        if letter.vouched is Vouched.YES:
            older |= self._beside.pop(asked, set())
            older.add(self._newest.get(asked, key))
            self._newest[asked] = key
        else:
            self._beside.setdefault(asked, set()).add(key)
        for each in older.intersection(self._letters) - {key}:
            self._letters[each] = self._letters[each].changed(superseded_by=letter.dlq_id)

    def _newest_after(self, letter: L) -> L:
        """Return the letter that has taken the place of this one by now, or itself."""
        seen = {letter.dlq_id}
        while letter.superseded_by is not None and letter.superseded_by not in seen:
            seen.add(letter.superseded_by)
            after = self.find(letter.superseded_by, letter.event_id)
            if after is None:
                break
            letter = after
        return letter

    def _key_of(self, letter: L) -> str:
        """Return what a letter is kept by: its id, and its event where the id is another's too."""
        first = self._letters.get(letter.dlq_id)
        if first is None or first.event_id == letter.event_id:
            return letter.dlq_id
        self._shared.add(letter.dlq_id)
        return _shared_key(letter.dlq_id, letter.event_id)

    def _key(self, dlq_id: str, event_id: str | None) -> str | None:
        first = self._letters.get(dlq_id)
        if first is None:
            key = _key_of_nobody(dlq_id)
            alone = self._letters.get(key)
            return None if alone is None or not _is_of(alone, event_id) else key
        if event_id is None or event_id == first.event_id:
            return dlq_id
        key = _shared_key(dlq_id, event_id)
        if key in self._letters:
            return key
        # Of an event that could not be read, an edit has made one that can be.
        return dlq_id if first.event_id is None else None


def _is_of(letter: FoldedLetter, event_id: str | None) -> bool:
    # Of an event that could not be read, an edit has made one that can be.
    return None in (letter.event_id, event_id) or letter.event_id == event_id


def _event(letter: FoldedLetter) -> str:
    return letter.event_id or letter.dlq_id


def _key_of_nobody(dlq_id: str) -> str:
    return f"? {dlq_id}"


def _shared_key(dlq_id: str, event_id: str | None) -> str:
    return f"{dlq_id} {event_id or ''}"
