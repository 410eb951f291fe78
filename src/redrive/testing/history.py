"""What workers told of themselves: at level debug, the log of each is a journal of all it did.

A second witness beside the topics, from another place: who believes that an event is settled, and
when. Lines that a kill cut off are missing, so what is not told proves nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from redrive.kafka.log import Place

__all__ = ["Settled", "read_settled", "settled_twice"]


class Settled(NamedTuple):
    """One line `event.settled`.

    Args:
        at: When, as the log has it: ISO 8601, UTC.
        life: The name of the log file: which worker, and which life of it.
        place: The event's partition.
        offset: Its offset there.
        ending: How it ended.
    """

    at: str
    life: str
    place: Place
    offset: int
    ending: str


def read_settled(logs: Iterable[Path]) -> list[Settled]:
    """Read what the workers of these logs (JSON lines, `--log-level debug`) have settled."""
    return sorted(told for log in logs for told in _read(log))


def settled_twice(history: Sequence[Settled]) -> list[str]:
    """Say which event records were told as settled more than once: each ends once. [P2]."""
    by_record: defaultdict[tuple[Place, int], list[str]] = defaultdict(list)
    for told in history:
        by_record[told.place, told.offset].append(f"{told.life} ({told.ending}, {told.at})")
    return [
        f"told twice: {place.topic} {place.partition}@{offset} was settled by {' and by '.join(by)}"
        for (place, offset), by in by_record.items()
        if len(by) > 1
    ]


def _read(log: Path) -> Iterable[Settled]:
    for line in log.read_bytes().splitlines():
        if b'"event.settled"' not in line or not line.endswith(b"}"):
            continue
        told = json.loads(line)
        place = Place(told["topic"], told["partition"])
        yield Settled(told["timestamp"], log.stem, place, told["offset"], told["ending"])
