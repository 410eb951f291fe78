"""The settler's two sides: who runs events, and who makes batches durable."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from redrive.consumer.outcome import Outcome, PolledRecord
from redrive.kafka.batches import Batch
from redrive.kafka.log import TopicPartition
from redrive.state.commit_metadata import CommitMetadata

__all__ = ["Downstream", "SettleQueue"]


class Downstream(Protocol):
    """The event loop's side; each call comes on the poll thread and must not block."""

    def deliver(self, polled_records: Sequence[PolledRecord]) -> None:
        """Events to run."""
        ...

    def recall(self, all_metadata: Sequence[CommitMetadata]) -> None:
        """What other workers, or this one's earlier life, noted of rests; before the events."""
        ...

    def suspend(self, tps: Mapping[TopicPartition, int]) -> None:
        """Partitions (and the epochs) that are between two assignments: nothing may be written."""
        ...

    def resume(self, tps: Collection[TopicPartition]) -> None:
        """Partitions that came back as we left them: their runs go on."""
        ...

    def revoke(self, tps: Mapping[TopicPartition, int]) -> None:
        """Partitions (and the epochs) that are ours no longer: their runs must end."""
        ...

    def settled(self, outcomes: Sequence[Outcome]) -> None:
        """Outcomes that are durable."""
        ...


class SettleQueue(Protocol):
    """The settle thread, as the poll thread sees it."""

    def submit(self, batch: Batch) -> None:
        """Make a batch durable."""
        ...

    def try_out(self, batch: Batch) -> None:
        """Find out whether records could be stored by now, aside; one trial at a time."""
        ...

    def watch(self) -> None:
        """Abandon a call that has outlived its limit."""
        ...

    def renew(self) -> None:
        """Open a new producer; what came of the batch under way is not told."""
        ...
