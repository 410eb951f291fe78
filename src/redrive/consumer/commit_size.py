"""How much one commit may hold: a broker writes it as one batch, of bounded size.

Most brokers take 1 MB (`max.message.bytes` of their topic of offsets), and what a note holds is up
to 3 kB for each partition. Partitions that do not fit take turns. [P11]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest

import structlog
from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as KafkaTopicPartition

from redrive.kafka.log import TopicPartition

__all__ = ["MAX_COMMIT_BYTES", "TOO_LARGE", "CommitSize", "commit_bytes", "in_turns"]

log = structlog.get_logger("redrive.consumer")

MAX_COMMIT_BYTES = 256 * 1024
"""About as many bytes of offsets and notes go into one commit."""
_OFFSET_BYTES = 200
"""What one partition takes beside its note: its name and the group's, its offset, times."""
_GROWTH = 1.02

TOO_LARGE = frozenset(
    {
        # What brokers since 4.0 call it, among other things.
        KafkaError.UNKNOWN,
        KafkaError.INVALID_COMMIT_OFFSET_SIZE,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
    }
)
"""How a broker may refuse a commit that is too large."""


class CommitSize:
    """The limit of one commit, in bytes: halved when a broker refuses, grown while it does not."""

    def __init__(self) -> None:
        self.limit_bytes = MAX_COMMIT_BYTES

    def refused(self, offsets: Iterable[KafkaTopicPartition]) -> bool:
        """Have smaller commits from now on; False when the one refused had one partition only."""
        sent = list(offsets)
        if len(sent) <= 1:
            return False
        self.limit_bytes = max(min(commit_bytes(sent), self.limit_bytes) // 2, 1)
        log.warning("settle.commit_too_large", partitions=len(sent), next_bytes=self.limit_bytes)
        return True

    def stored(self) -> None:
        """Have larger ones again, little by little: it may have been refused for other reasons."""
        self.limit_bytes = min(round(self.limit_bytes * _GROWTH) + 1, MAX_COMMIT_BYTES)


def commit_bytes(offsets: Iterable[KafkaTopicPartition]) -> int:
    """Return the bytes that a commit of these takes, about."""
    return sum(len(one.metadata or "") + _OFFSET_BYTES for one in offsets)


def in_turns(
    first: Iterable[TopicPartition], second: Iterable[TopicPartition]
) -> Iterator[TopicPartition]:
    """Return each partition once, of either in turn, so that neither waits for all of the other."""
    both = chain.from_iterable(zip_longest(first, second))
    return iter(dict.fromkeys(tp for tp in both if tp is not None))
