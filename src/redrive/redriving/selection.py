"""Which letters are meant: some by their ids, or all that fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from redrive.dead_letter.states import State
from redrive.redriving.partition import Entry

__all__ = ["Selection"]

_WAITING = frozenset({State.OPEN, State.REDRIVEN, State.PARKED})


@dataclass(frozen=True, slots=True)
class Selection:
    """Letters; what is given must all fit, what is None is not looked at.

    `ids` are dlq_ids or event_ids. Without them, only the newest letter of an event is meant, and
    only while it is neither resolved nor discarded.
    """

    ids: frozenset[str] | None = None
    fingerprint: str | None = None
    workflow: str | None = None
    kind: str | None = None
    reason: str | None = None
    node: str | None = None

    @classmethod
    def of(cls, ids: Iterable[str]) -> Selection:
        """Return the letters with these ids."""
        return cls(ids=frozenset(ids))

    def means(self, entry: Entry) -> bool:
        """Say whether a letter is meant."""
        return (
            self.fingerprint in (None, entry.fingerprint)
            and self.workflow in (None, entry.workflow_id)
            and self.kind in (None, entry.kind)
            and self.reason in (None, entry.reason)
            and self.node in (None, entry.node)
            and self._chooses(entry)
        )

    def _chooses(self, entry: Entry) -> bool:
        if self.ids is not None:
            return self.named(entry) is not None
        return entry.superseded_by is None and entry.state in _WAITING

    def named(self, entry: Entry) -> str | None:
        """Return the id by which a letter was asked for; an event's is that of its newest one."""
        ids = self.ids or frozenset()
        if entry.dlq_id in ids:
            return entry.dlq_id
        newest = entry.superseded_by is None
        return entry.event_id if newest and entry.event_id in ids else None
