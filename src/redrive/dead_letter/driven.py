"""Which letters are being driven, and whether an event is the one that drives its letter.

Headers are anyone's to write: an event that bears those of a redrive claims to be one. It is
believed only while the letters say so, and the letters alone: the last state of its letter is
`redriven`, with this count, by this very event. One partition at a time, in the order of its
offsets; pure. [P13]
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Self

from redrive.dead_letter.source import source_digest
from redrive.dead_letter.states import LetterState, State
from redrive.events import EventHeaders, EventPlace, RawHeaders
from redrive.kafka.log import ConsumerRecord
from redrive.signatures import SIGNATURE_HEADER

__all__ = ["ClaimedRedrive", "DrivenLetters", "sent_digest"]

MAX_ENDED = 10_000
"""So many redrives that have ended are remembered, to know the very event that ended them: one that
is read again, since the commit after its ending was lost. More than a ledger's window holds."""
_OURS = "redrive-"

_Name = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class ClaimedRedrive:
    """What an event says of itself: that it drives a letter.

    Attributes:
        of: The letter.
        event_id: The event's own id, where that can be read.
        count: How often the letter's event was driven, with this.
        mode: How.
        sent: The digest of the event, see `sent_digest`.
        tp: Where it lies.
        letters: From which offset on the letters are said to tell of it; 0 where it does not say.
        at_ms: The event's timestamp.
    """

    of: str
    event_id: str | None
    count: int
    mode: str | None
    sent: str
    tp: EventPlace
    letters: int = 0
    at_ms: int | None = None

    @classmethod
    def of_record(
        cls, record: ConsumerRecord, headers: EventHeaders, event_id: str | None
    ) -> Self | None:
        """Return what an event with these headers claims; None where that is nothing."""
        if headers.of is None:
            return None
        topic, partition = record.tp
        return cls(
            headers.of,
            event_id,
            headers.count,
            headers.mode,
            sent_digest(record.key, record.value, record.headers),
            EventPlace(topic=topic, partition=partition, offset=record.offset),
            headers.letters,
            record.timestamp_ms,
        )


@dataclass(frozen=True, slots=True)
class _Driven:
    """A letter's last redrive; `ended` is where the event lies that ended it, once it has ended."""

    count: int
    mode: str | None
    sent: str | None
    ended: EventPlace | None = None


def sent_digest(key: bytes | None, value: bytes | None, headers: RawHeaders) -> str:
    """Return the digest of an event that drives a letter: of its bytes, and what we say of it.

    Headers of others may be added on the way, such as a proxy's.
    """
    ours = [h for h in headers if h[0].startswith(_OURS) and h[0] != SIGNATURE_HEADER]
    return source_digest(key, value, ours)


class DrivenLetters:
    """The letters of one partition that are being driven, by their state records.

    It may be told of the records from anywhere on: what was driven before is not known then. A
    letter itself needs not be seen, only the state by which somebody who may write there drove it.
    """

    def __init__(self) -> None:
        self._driven: dict[_Name, _Driven] = {}
        self._ended: OrderedDict[_Name, _Driven] = OrderedDict()
        self._heard: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        """Return how many are being driven."""
        return len(self._driven)

    def believes(self, claim: ClaimedRedrive) -> bool:
        """Say whether an event is the one that drives its letter now, or has just ended that."""
        driven = self._find(claim.of, claim.event_id)
        if driven is None or driven.count != claim.count:
            return False
        if driven.ended not in (None, claim.tp):
            return False
        if driven.sent is None:  # by a version before
            return driven.mode in (None, claim.mode)
        return driven.sent == claim.sent

    def state(self, told: LetterState) -> None:
        """Take a state record, unless it needs a signature and has none, or was taken before."""
        if not told.counts or told.signature in self._heard:
            return
        if told.signature is not None:
            self._heard[told.signature] = None
            if len(self._heard) > MAX_ENDED:
                self._heard.popitem(last=False)
        if told.state is State.REDRIVEN:
            name = (told.dlq_id, told.event_id)
            self._ended.pop(name, None)
            self._driven[name] = _Driven(told.redrive_count, told.mode, told.sent)
        else:
            self._end(told.dlq_id, told.event_id, told.ended)

    def letter(self, redrive_of: str | None, event_id: str | None, source: EventPlace) -> None:
        """Take a letter by which a redrive ended, if it did: it names the letter before it."""
        if redrive_of is not None:
            self._end(redrive_of, event_id, source)

    def _end(self, dlq_id: str, event_id: str | None, ended: EventPlace | None) -> None:
        name = self._name(dlq_id, event_id)
        driven = self._driven.pop(name, None)
        if driven is None:
            # Whatever is said of it after that ends it for good, unless the same event says it.
            known = self._ended.get(name)
            if known is not None and known.ended != ended:
                del self._ended[name]
        elif ended is not None:
            self._ended[name] = replace(driven, ended=ended)
            if len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)

    def _find(self, dlq_id: str, event_id: str | None) -> _Driven | None:
        name = self._name(dlq_id, event_id)
        return self._driven.get(name) or self._ended.get(name)

    def _name(self, dlq_id: str, event_id: str | None) -> _Name:
        """Return what the letter is kept by: one whose event could not be read has no event's id.

        An edit has made one that can be: the state by which it was driven knows its digest.
        """
        name = (dlq_id, event_id)
        return name if name in self._driven or name in self._ended else (dlq_id, None)
