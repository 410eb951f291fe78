"""Which payloads an audit met encrypted, with which keys, and whether they could be decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.sealing import opened_letter
from redrive.errors import RecordError
from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.payloads import MARK, Payloads, Sealed
from redrive.sealed_records import opened_event, opened_result, seal_of_event, seal_of_result

__all__ = ["MAX_LABELS", "EncryptedCounts"]

MAX_LABELS = 50
"""So many are counted apart: whoever writes records chooses what they say. [P11]"""
_OTHER = "other"
_MARK = MARK.encode()


class EncryptedCounts:
    """Counts them by how they are encrypted.

    What is told of a record by its id, its place and its count is judged without the key; only that
    a payload is whole takes it.

    Args:
        payloads: Decodes them.
    """

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads
        self.labels = Counter[str]()
        self.closed = 0
        """How many could not be decoded."""

    def event(self, value: bytes | None) -> None:
        """Look at an event record."""
        # Parsing it costs more than all else here, and most are in clear.
        if value is None or _MARK not in value:
            return
        try:
            event = WorkflowEvent.from_bytes(value)
        except RecordError:
            return
        self._look(seal_of_event(event), lambda: opened_event(event, self._payloads))

    def result(self, result: WorkflowResultEvent) -> None:
        """Look at a result."""
        self._look(seal_of_result(result), lambda: opened_result(result, self._payloads))

    def letter(self, letter: DeadLetter) -> None:
        """Look at the texts of a letter; its event is looked at where it lies."""
        self._look(Sealed.of(letter.sealed), lambda: opened_letter(letter, self._payloads))

    def _look(self, sealed: Sealed | None, opened: Callable[[], object]) -> None:
        if sealed is None:
            return
        is_known = sealed.label in self.labels or len(self.labels) < MAX_LABELS
        self.labels[sealed.label if is_known else _OTHER] += 1
        try:
            opened()
        except Exception:  # noqa: BLE001 - a codec of the user's may raise anything
            self.closed += 1
