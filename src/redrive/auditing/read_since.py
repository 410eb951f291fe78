"""How far back a topic was seen: what is older may have been deleted, or was left out."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from redrive.kafka.log import ConsumerRecord

__all__ = ["SKEW_MS", "ReadSince"]

SKEW_MS = 5 * 60 * 1000
"""Two hosts' clocks differ: a record may seem older than what it follows."""


class ReadSince:
    """From when on the partitions of one topic were seen, in epoch milliseconds.

    Args:
        cut: The partitions of which something was not seen, and from when on all was, if that is
            known: else the first record that is read tells it.
        hidden: What lies at the end of these could not be read: nothing may be missed in them.
    """

    def __init__(
        self, cut: Mapping[int, float | None] | None = None, *, hidden: frozenset[int] = frozenset()
    ) -> None:
        self._from_ms = {number: at for number, at in (cut or {}).items() if at is not None}
        self._unknown = {number for number, at in (cut or {}).items() if at is None}
        self._hidden = hidden

    @property
    def whole(self) -> bool:
        """Whether all that was ever written is there and was seen."""
        return not (self._from_ms or self._unknown or self._hidden)

    def note(self, record: ConsumerRecord) -> None:
        """Learn from a record that was read, each partition in its order."""
        number = record.tp.partition
        if number in self._unknown:
            self._unknown.discard(number)
            self._from_ms[number] = inf if record.timestamp_ms is None else record.timestamp_ms

    def covers(self, at_ms: int | None, partition: int | None = None) -> bool:
        """Whether a record that was written after `at_ms` would have been seen.

        Args:
            at_ms: When what it follows was written, by another host's clock perhaps.
            partition: Where it would lie; None where that is not known.
        """
        since = self._since(partition)
        return since == -inf or (at_ms is not None and at_ms >= since + SKEW_MS)

    def _since(self, partition: int | None) -> float:
        if partition is None:
            unsure = self._unknown or self._hidden
            return inf if unsure else max(self._from_ms.values(), default=-inf)
        if partition in self._unknown or partition in self._hidden:
            return inf
        return self._from_ms.get(partition, -inf)
