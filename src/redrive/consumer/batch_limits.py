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
_GROWTH = 1.1
_SHRINK = 4.0
_LEAST_SHRINK = 2.0


class BatchLimits:
    """The limits of one worker's batches, as they are now."""

    def __init__(self) -> None:
        self.max_bytes = MAX_BATCH_BYTES
        """How much one batch may hold; one outcome may always go. May be read from any thread."""
        self._rate: float | None = None

    def allowed_s(self, size_bytes: int) -> float:
        """Return how long a batch may take on a link as slow as this one, in seconds.

        Nothing longer than usual is asked for without need: while a worker's transaction is open,
        whoever takes over from it waits. (R18)
        """
        if self._rate is None or size_bytes <= SMALL_BYTES:
            return 0.0
        return min(_MARGIN * size_bytes / self._rate, LONGEST_S)

    def trial_s(self, size_bytes: int) -> float:
        """Return how long a trial of one outcome may take, which nobody waits for."""
        return min(max(_LEAST_S, size_bytes / SLOWEST_BYTES_S), LONGEST_S)

    def fits(self, size_bytes: int) -> bool:
        """Say whether the link is known to carry so much well within its time.

        What it carried before it failed for the first time says little: a quota lets bursts pass.
        """
        if size_bytes <= SMALL_BYTES:
            return True
        rate = self._rate if self._is_limited else None
        return rate is not None and _MARGIN * size_bytes <= rate * _LEAST_S

    def confirmed(self, size_bytes: int, took_s: float) -> None:
        """Learn from records that were confirmed."""
        if not size_bytes or took_s <= 0:
            return
        rate, known = size_bytes / took_s, self._rate or 0.0
        if self._is_limited:
            # A quota lets bursts through: what a link has failed at is believed for a while.
            rate = min(rate, known * _GROWTH)
        # A small batch shows how quickly the broker answers, not what the link can carry.
        is_measure = size_bytes >= self.max_bytes * _MEASURED_SHARE
        if is_measure or known:
            self._rate = rate if is_measure else max(rate, known)
        if is_measure or self._is_limited:
            self._limit(size_bytes, took_s)

    def tried(self, size_bytes: int, took_s: float) -> None:
        """Learn from a trial that passed: by itself it may have been quicker than others are."""
        if size_bytes and took_s > 0 and (self._rate is None or size_bytes / took_s < self._rate):
            self._rate = max(size_bytes / took_s, SLOWEST_BYTES_S)

    def late(self, size_bytes: int, *, delivered_bytes: int, took_s: float) -> None:
        """Learn from a batch that was not confirmed in its time."""
        if not size_bytes or took_s <= 0:
            return
        rate = (delivered_bytes or size_bytes / _SHRINK) / took_s
        # The next batch is smaller in any case.
        rate = min(rate, size_bytes / _TARGET_S / _LEAST_SHRINK)
        if self._is_limited and self._rate is not None:
            rate = min(rate, self._rate)
        self._rate = max(rate, SLOWEST_BYTES_S)
        self._limit(size_bytes, took_s)

    @property
    def _is_limited(self) -> bool:
        return self.max_bytes < MAX_BATCH_BYTES

    def _limit(self, size_bytes: int, took_s: float) -> None:
        was, rate = self.max_bytes, self._rate or MAX_BATCH_BYTES / _TARGET_S
        self.max_bytes = max_bytes = int(min(rate * _TARGET_S, MAX_BATCH_BYTES))
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
