"""The audit records of what a command does with one partition of letters.

Each goes with the action, in its transaction. Where the chain stands is read after each claim of
the partition: from then on nobody else goes on with it. [P13]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from redrive.dead_letter.audit_chain import AuditChain, Plan
from redrive.kafka.batches import ProducerRecord
from redrive.kafka.log import ConsumerRecord

__all__ = ["AuditTrail"]


class _Log(Protocol):
    """One partition of the audit topic; see `PartitionLog`."""

    def end(self) -> int:
        """Return where it ends."""
        ...

    def read(self, start: int, stop: int) -> Iterator[ConsumerRecord]:
        """Return what is committed from `start` on and before `stop`."""
        ...


class AuditTrail:
    """One partition's.

    Args:
        topic: The audit topic.
        log: Its partition.
        job: What the records of this command have in common.
    """

    def __init__(self, topic: str, log: _Log, *, job: str) -> None:
        self._topic = topic
        self._log = log
        self._job = job
        self._end = 0
        self._plan: Plan | None = None
        self._read = AuditChain()
        self._chain = AuditChain()

    def claim(self) -> None:
        """Read where the chain stands; what was added since and may not be stored is forgotten.

        Raises:
            KafkaUnavailableError: The broker does not give it.
        """
        end = self._log.end()
        for record in self._log.read(self._end, end):
            self._read.take(record)
        self._end = end
        self._chain = self._read.copy()

    def intend(self, dlq_ids: Iterable[str]) -> None:
        """Take in which letters were chosen; those chosen again after a claim are left of these."""
        if self._plan is None:
            self._plan = Plan.of(dlq_ids)

    def follow(self, state: ProducerRecord) -> ProducerRecord:
        """Return the audit record of a state record."""
        return self._chain.add(
            state, topic=self._topic, until=self._end, job=self._job, plan=self._plan
        )
