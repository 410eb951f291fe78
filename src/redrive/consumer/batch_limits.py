"""How large a batch may be, and how long it may take: what the link to the brokers has shown.

A batch that was not confirmed in its time is not tried again as it is: the next is as large as the
link has carried in a second, down to one outcome, which gets the time that it needs. Batches grow
again as the link shows more. Belongs to the poll thread. [P1]
"""

from __future__ import annotations

import structlog

__all__ = ["MAX_BATCH_BYTES", "BatchLimits"]

log = structlog.get_logger("redrive.consumer")

MAX_BATCH_BYTES = 4 * 2**20
SMALL_BYTES = 64 * 2**10
"""So much fits through any link on which a worker can work, in a batch's usual time."""
SLOWEST_BYTES_S = 16 * 2**10
"""The slowest link on which the largest of records is still waited for, in bytes a second."""
LONGEST_S = 90.0
"""Within `worker.standstill`: a batch that is under way is nothing that stands still."""
_TARGET_S = 1.0
_LEAST_S = 10.0
_MARGIN = 4.0
_MEASURED_SHARE = 0.5
_GROWTH = 2.0
_SHRINK = 4.0


class BatchLimits:
    """The limits of one worker's batches, as they are now."""

    def __init__(self) -> None:
        self.max_bytes = MAX_BATCH_BYTES
        """How much one batch may hold; one outcome may always go. May be read from any thread."""
        self._rate: float | None = None

    def allowed_s(self, size_bytes: int) -> float:
        """Return how long a batch may take on a link as slow as this one, in seconds."""
        if self._rate is None:
            return 0.0
        return min(_MARGIN * size_bytes / self._rate, LONGEST_S)

    def trial_s(self, size_bytes: int) -> float:
        """Return how long a trial of one outcome may take, which nobody waits for."""
        return min(max(_LEAST_S, size_bytes / SLOWEST_BYTES_S), LONGEST_S)

    def fits(self, size_bytes: int) -> bool:
        """Say whether the link has shown that it carries so much well within its time."""
        if size_bytes <= SMALL_BYTES:
            return True
        return self._rate is not None and _MARGIN * size_bytes <= self._rate * _LEAST_S

    def confirmed(self, size_bytes: int, took_s: float) -> None:
        """Learn from records that were confirmed."""
        if not size_bytes or took_s <= 0:
            return
        rate = size_bytes / took_s
        # A small batch shows how quickly the broker answers, not what the link can carry.
        if size_bytes < min(self.max_bytes * _MEASURED_SHARE, MAX_BATCH_BYTES / _GROWTH):
            self._rate = max(rate, self._rate or 0.0)
            return
        self._rate = rate
        fits = min(rate * _TARGET_S, self.max_bytes * _GROWTH, MAX_BATCH_BYTES)
        self._limit(max(int(fits), 1), size_bytes, took_s)

    def late(self, size_bytes: int, *, delivered_bytes: int, took_s: float) -> None:
        """Learn from a batch that was not confirmed in its time."""
        fits = size_bytes / _SHRINK
        if delivered_bytes and took_s > 0:
            self._rate = delivered_bytes / took_s
            fits = min(fits, self._rate * _TARGET_S)
        elif self._rate is not None and took_s > 0:
            self._rate = min(self._rate, size_bytes / took_s)
        self._limit(max(int(fits), 1), size_bytes, took_s)

    def _limit(self, max_bytes: int, size_bytes: int, took_s: float) -> None:
        was, self.max_bytes = self.max_bytes, max_bytes
        # Told once: until batches are whole again, their size follows the link up and down.
        if max_bytes < was == MAX_BATCH_BYTES:
            log.warning(
                "settle.batches_smaller",
                max_bytes=max_bytes,
                batch_bytes=size_bytes,
                took_s=round(took_s, 1),
            )
        elif was < max_bytes == MAX_BATCH_BYTES:
            log.info("settle.batches_full_size", max_bytes=max_bytes)
