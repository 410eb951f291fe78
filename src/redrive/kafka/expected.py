"""Which result answers the event that somebody waits for: one judge for all who wait. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from redrive.events import WorkflowResultEvent
from redrive.kafka.publish import Published

__all__ = ["Expected"]

_MAX_SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True)
class Expected:
    """The result that a waiter expects; None stands for what it does not know.

    A result that says nothing of its workflow, its run or its record says nothing against it
    either: an error answer that must be short leaves out the names, and workers of earlier versions
    do not name the record.

    Args:
        event_id: Of the event: the result's `correlation_id`.
        workflow_id: Its workflow.
        workflow_run_id: Its run, as its producer calls it.
        record: Where it is stored. Another try of a task sends the same event, and the answer to
            that record is not this one's.
        redrive_count: How often it was driven again.
        must_name_record: Whether a result that does not name its record is not taken
            (`kafka.require_answers`).
    """

    event_id: str
    workflow_id: str | None = None
    workflow_run_id: str | None = None
    record: Published | None = None
    redrive_count: int | None = None
    must_name_record: bool = False

    def mismatch(self, result: WorkflowResultEvent) -> str | None:
        """Return in words why a result is another's; None where it is the one expected."""
        pairs: list[tuple[str, object, object]] = [
            ("correlation_id", result.correlation_id, self.event_id),
            ("workflow_id", result.workflow_id, self.workflow_id),
            ("workflow_run_id", result.workflow_run_id, self.workflow_run_id),
        ]
        if result.run is not None:
            pairs.append(("redrive_count", result.run.redrive_count, self.redrive_count))
        if result.answers is not None:
            told = result.answers
            place = Published(told.topic, told.partition, told.offset)
            pairs.append(("the record it answers", place, self.record))
        elif self.must_name_record and self.record is not None:
            return "it does not name the record that it answers (kafka.require_answers)"
        for name, said, expected in pairs:
            if None not in (said, expected) and said != expected:
                return f"{name} is {_shown(said)}, not {_shown(expected)}"
        return None


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, Published | int) else repr(value)
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}…"
