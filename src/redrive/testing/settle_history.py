"""What workers told of themselves: at level debug, the log of each is a journal of all it did.

A second witness beside the topics, from another place: who believes that an event is settled, and
when. Lines that a kill cut off are missing, so what is not told proves nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from redrive.kafka.log import TopicPartition

__all__ = ["Settled", "last_told", "read_settled", "settled_twice"]


class Settled(NamedTuple):
    """One line `event.settled`.

    Args:
        at: When, as the log has it: ISO 8601, UTC.
        life: The name of the log file: which worker, and which life of it.
        tp: The event's partition.
        offset: Its offset there.
        ending: How it ended.
    """

    at: str
    life: str
    tp: TopicPartition
    offset: int
    ending: str


def read_settled(logs: Iterable[Path]) -> list[Settled]:
    """Read what the workers of these logs (JSON lines, `--log-level debug`) have settled."""
    return sorted(told for log in logs for told in _read(log))


def settled_twice(
    history: Sequence[Settled], *, but: Collection[tuple[TopicPartition, int]] = ()
) -> list[str]:
    """Say which event records were told as settled more than once: each ends once. [P2].

    Args:
        history: What was told.
        but: Offsets that more than one record has had, or that were to run again.
    """
    by_record: defaultdict[tuple[TopicPartition, int], list[str]] = defaultdict(list)
    for told in history:
        by_record[told.tp, told.offset].append(f"{told.life} ({told.ending}, {told.at})")
    return [
        f"told twice: {tp.topic} {tp.partition}@{offset} was settled by {' and by '.join(by)}"
        for (tp, offset), by in by_record.items()
        if len(by) > 1 and (tp, offset) not in but
    ]


def last_told(logs: Iterable[Path]) -> list[str]:
    """Say what the last life of each worker told last, and when: where to look when all stands."""
    newest: dict[str, Path] = {}
    for log in sorted(logs, key=lambda log: (log.stem.rpartition(".")[0], _life(log))):
        newest[log.stem.rpartition(".")[0]] = log
    told = []
    for log in newest.values():
        lines = [line for line in log.read_bytes().splitlines() if line[:1] + line[-1:] == b"{}"]
        if lines:
            last = json.loads(lines[-1])
            told.append(f"{log.stem} told {last.get('event')} at {last.get('timestamp')}")
    return told


def _life(log: Path) -> int:
    return int(log.stem.rpartition(".")[2])


def _read(log: Path) -> Iterable[Settled]:
    for line in log.read_bytes().splitlines():
        if b'"event.settled"' not in line or not line.endswith(b"}"):
            continue
        told = json.loads(line)
        tp = TopicPartition(told["topic"], told["partition"])
        yield Settled(told["timestamp"], log.stem, tp, told["offset"], told["ending"])
