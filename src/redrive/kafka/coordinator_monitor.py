"""Whether a consumer reaches its group's coordinator, from what librdkafka tells of itself.

Asking the broker would need the Consumer, which belongs to the poll thread; this is told to it in
its polls, once a second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from redrive.clock import Clock

__all__ = ["CoordinatorMonitor"]

_EVERY_MS = 1000
_COORDINATOR = "GroupCoordinator"
_UNKNOWN = "the group's coordinator is not known yet"


class CoordinatorMonitor:
    """What was told last; written by the poll thread, read by any.

    Args:
        silent_s: A coordinator that has said nothing for longer is away, in seconds; more than
            the time between two heartbeats.
        clock: For how long it is away.
    """

    def __init__(self, *, silent_s: float, clock: Clock) -> None:
        self._silent_s = silent_s
        self._clock = clock
        self._since = clock.monotonic()
        self.problem: str | None = _UNKNOWN
        """Why the group cannot be reached; None when it can."""

    @property
    def away_s(self) -> float:
        """For how many seconds the group cannot be reached; 0 when it can."""
        return 0.0 if self.problem is None else self._clock.monotonic() - self._since

    def options(self) -> Mapping[str, object]:
        """Return the options by which a consumer tells; with each consumer all begins anew."""
        self.problem, self._since = _UNKNOWN, self._clock.monotonic()
        return {"statistics.interval.ms": _EVERY_MS, "stats_cb": self.take}

    def take(self, statistics: str) -> None:
        """Read librdkafka's statistics, a JSON object."""
        told = _read(statistics)
        was = self.problem
        group, brokers = told.get("cgrp", {}), told.get("brokers", {})
        silent_s = brokers.get(_COORDINATOR, {}).get("rxidle", 0) / 1e6
        if group.get("state") != "up":
            self.problem = "the group's coordinator cannot be reached"
        elif silent_s > self._silent_s:
            self.problem = f"the group's coordinator has said nothing for {silent_s:.0f} s"
        else:
            self.problem = None
        if was is None:
            self._since = self._clock.monotonic()


def _read(statistics: str) -> dict[str, Any]:
    """Read what is of brokers and the group; partitions lie between, up to 1.3 MB for 1,000."""
    before, _, rest = statistics.partition('"topics":')
    _, found, after = rest.rpartition('"cgrp":')
    if not found:
        return dict(json.loads(statistics))
    return {**json.loads(before.rstrip().rstrip(",") + "}"), **json.loads('{"cgrp":' + after)}
