"""Whether a consumer reaches its group's coordinator, from what librdkafka tells of itself.

Asking the broker would need the Consumer, which belongs to the poll thread; this is told to it in
its polls, once a second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

__all__ = ["Link"]

_EVERY_MS = 1000
_COORDINATOR = "GroupCoordinator"


class Link:
    """What was told last; written by the poll thread, read by any.

    Args:
        silent_s: A coordinator that has said nothing for longer is away, in seconds; more than
            the time between two heartbeats.
    """

    def __init__(self, *, silent_s: float) -> None:
        self._silent_s = silent_s
        self.problem: str | None = "the group's coordinator is not known yet"
        """Why the group cannot be reached; None when it can."""

    def options(self) -> Mapping[str, object]:
        """Return the consumer's options by which it tells."""
        return {"statistics.interval.ms": _EVERY_MS, "stats_cb": self.take}

    def take(self, statistics: str) -> None:
        """Read librdkafka's statistics, a JSON object."""
        told = json.loads(statistics)
        group, brokers = told.get("cgrp", {}), told.get("brokers", {})
        silent_s = brokers.get(_COORDINATOR, {}).get("rxidle", 0) / 1e6
        if group.get("state") != "up":
            self.problem = "the group's coordinator cannot be reached"
        elif silent_s > self._silent_s:
            self.problem = f"the group's coordinator has said nothing for {silent_s:.0f} s"
        else:
            self.problem = None
