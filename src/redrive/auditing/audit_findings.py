"""What an audit tells: findings, each with the promise that was broken, and what it did not see."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from redrive.kafka.log import TopicPartition

__all__ = ["Finding", "Unseen"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise that was not kept.

    Attributes:
        promise: Its id, such as `P1`.
        text: What is wrong, for people; begins with `lost:` or `doubled:` where it is one.
        event_id: The event, where it can be told.
        dlq_id: The letter, where it is about one.
        tp: The partition where the record lies that it is about.
        offset: The record's offset there.
    """

    promise: str
    text: str
    event_id: str | None = None
    dlq_id: str | None = None
    tp: TopicPartition | None = None
    offset: int | None = None

    @property
    def look(self) -> str | None:
        """The command that shows more, if there is one."""
        if self.event_id is not None:
            return f"redrive run show {self.event_id} --since 30d"
        return None if self.dlq_id is None else f"redrive dlq show {self.dlq_id}"


class Unseen(StrEnum):
    """Why something was not judged."""

    RESULT_MAY_BE_DELETED = "events whose results may be older than what the results topic holds"
    EVENT_MAY_BE_DELETED = "results whose events may be older than what was read"
    EARLIER_EVENT_MAY_BE_DELETED = (
        "events with more results than records, of which earlier ones may be older than was read"
    )
    LETTER_MAY_BE_DELETED = "results whose letters may be older than what the letters topic holds"
    SOURCE_MAY_BE_DELETED = "letters whose events are older than what was read"
    DRIVEN_MAY_BE_DELETED = "redrives whose events may be older than what was read"
    RESULT_OF_FORMER = "results of events that lay in a log before the one that is there now"
    LETTER_OF_FORMER = "letters of events that lay in a log before the one that is there now"
    DRIVEN_IN_FORMER = "redrives whose events may lie in a log before the one that is there now"
    NO_RESULT = "records on the results topic that are not results"
    NO_LETTER = "records on the letters topic that are neither letters nor states"
    ENCRYPTED = "records whose payload is encrypted, and could not be decoded"
    STATE_NOT_SIGNED = "states of letters that do not count, as no key that counts has signed them"
    FOREIGN_LETTER = "letters that no worker of these topics wrote: not compared with their events"
