"""The events topic of a run under faults: what is done to it, and what was accepted on it.

Some of it legitimately takes events away, or has them run again. Sending stops meanwhile, and the
topic is read before: so the judge knows of each event whether it may have no answer, or a second
one. Nothing else is allowed:

* an event that went with its log (topic made anew, log cut back, retention, compaction) before the
  group had finished it may have been answered once, or not at all;
* an event that the group had finished, and whose offset was then set back, may be answered once
  more for each time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import assert_never

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    PartitionMetadata,
    ResourceType,
)
from confluent_kafka.cimpl import NewPartitions, NewTopic

from redrive.auditing.committed_offsets import FinishedOffsets
from redrive.clock import SYSTEM
from redrive.events import WorkflowEvent
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.kafka.topic_ids import topic_ids
from redrive.state.commit_metadata import decode
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import delete_topics
from redrive.testing.faults import (
    AddPartitions,
    CompactLog,
    LogFault,
    RemakeTopic,
    TrimLog,
)
from redrive.testing.judging import Evidence, Gone
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.log_file import cut_log
from redrive.testing.reading import committed_offsets, end_offsets, read_topic
from redrive.testing.worker_process import wait_until

__all__ = ["EventLog", "is_filler"]

MOST_PARTITIONS = 8
_FILLER = "filler"
"""The source of events that ask for nothing, and are there to be compacted."""
_CALL_S = 30.0
_GROUP_ENDS_WITHIN_S = 60.0
_FIRST_BROKER = 1
_FILLERS = 3
_FILLER_GAP_S = 0.3
_COMPACTED_WITHIN_S = 60.0
_COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "100",
    "min.cleanable.dirty.ratio": "0",
}


def is_filler(record: ConsumerRecord) -> bool:
    """Say whether a record asks for nothing, and was only there to be compacted."""
    return f'"source":"{_FILLER}"'.encode() in (record.value or b"").replace(b" ", b"")


class EventLog:
    """The events topic; events may be sent from another thread.

    Args:
        env: Where it is. The broker is asked directly, past all proxies.
    """

    def __init__(self, env: KafkaEnv) -> None:
        self._env = env
        self._topic = env.topics.events
        self._admin = AdminClient({"bootstrap.servers": env.bootstrap_servers})
        self._turn = threading.Condition()
        self._paused = False
        self._seen: dict[ConsumerRecord, bool] = {}
        self._again: list[ConsumerRecord] = []

    def send(
        self, values: Iterable[WorkflowEvent | bytes], *, partition: int | None = None
    ) -> None:
        """Publish events, once nothing is done to the topic."""
        with self._turn:
            self._turn.wait_for(lambda: not self._paused)
            self._env.send(values, partition=partition)

    def partitions(self) -> range:
        """Return the numbers of its partitions."""
        return range(self._count(self._topic))

    def begin(self, fault: LogFault) -> None:
        """Let something go wrong."""
        match fault:
            case RemakeTopic():
                self._remake()
            case TrimLog(beyond):
                self._trim(beyond)
            case CompactLog():
                self._pause()
                self._alter(AlterConfigOpType.SET)
                self._fill()
            case AddPartitions(count, results=results):
                self._grow(count, results=results)
            case _:
                assert_never(fault)

    def end(self, fault: LogFault) -> None:
        """Let it be over."""
        if isinstance(fault, CompactLog):
            self._alter(AlterConfigOpType.DELETE)
            self._resume()

    def cut(self, broker: LocalBroker, records: int) -> None:
        """Stop the broker, and cut the last records off each partition; it is not started again."""
        self._pause()
        ends = end_offsets(self._env.bootstrap_servers, self._topic)
        broker.stop()
        for tp, end in ends.items():
            cut_log(broker.data, tp, from_offset=max(0, end - records))
        self._resume()

    def move_back(self, count: int) -> None:
        """Commit earlier offsets with the metadata that is there, as soon as the group is empty."""
        servers, group = self._env.bootstrap_servers, self._env.topics.group
        committed = committed_offsets(servers, self._topic, group)
        moved = {
            tp: replace(found, offset=max(0, found.offset - count))
            for tp, found in committed.items()
            if found.offset
        }
        parts = [KafkaTopicPartition(*tp, to.offset or 0, to.metadata) for tp, to in moved.items()]
        asked = [ConsumerGroupTopicPartitions(group, parts)]

        def is_moved() -> bool:
            try:
                for future in self._admin.alter_consumer_group_offsets(asked).values():
                    future.result(_CALL_S)
            except KafkaException:
                return False  # members that were killed are in the group until their session ends
            return True

        if parts:
            wait_until(is_moved, timeout_s=_GROUP_ENDS_WITHIN_S, what="offsets moved", every_s=0.5)
        self._again += [
            record
            for record in read_topic(servers, self._topic)
            if record.tp in moved
            and record.offset >= (moved[record.tp].offset or 0)
            and FinishedOffsets.of(committed[record.tp]).has(record.offset)
        ]

    def told(self, evidence: Evidence) -> Evidence:
        """Return the evidence, and with it what was accepted and is not there any more."""
        there = set(evidence.events)
        gone = [Gone(record, ended) for record, ended in self._seen.items() if record not in there]
        return replace(evidence, gone=gone, again=list(self._again))

    def _pause(self) -> None:
        """Let nobody send, and look at what was accepted: some of it may go now."""
        self._paused = True
        with self._turn:
            self._remember()

    def _resume(self) -> None:
        with self._turn:
            self._paused = False
            self._turn.notify_all()

    def _remember(self) -> None:
        servers = self._env.bootstrap_servers
        records = read_topic(servers, self._topic, whole=True)
        committed = committed_offsets(servers, self._topic, self._env.topics.group)
        finished = {tp: FinishedOffsets.of(found) for tp, found in committed.items()}
        self._seen |= {record: finished[record.tp].has(record.offset) for record in records}

    def _remake(self) -> None:
        self._pause()
        count, before = self._count(self._topic), self._id()
        delete_topics(self._env.bootstrap_servers, [self._topic])
        wanted = NewTopic(self._topic, count, replica_assignment=[[_FIRST_BROKER]] * count)

        def is_made() -> bool:
            # It is not quite gone yet, or was made by a call whose answer was late. And the
            # controller answers before the broker has heard of it.
            with suppress(KafkaException):
                self._admin.create_topics([wanted])[self._topic].result(_CALL_S)
            return self._id() not in (None, before)

        wait_until(is_made, timeout_s=_CALL_S, what="the topic made anew", every_s=0.2)
        self._resume()

    def _trim(self, beyond: int) -> None:
        self._pause()
        servers, group = self._env.bootstrap_servers, self._env.topics.group
        ends = end_offsets(servers, self._topic)
        committed = committed_offsets(servers, self._topic, group)
        topic_id = topic_ids(self._admin, [self._topic], timeout_s=_CALL_S)[self._topic]

        def finished(tp: TopicPartition) -> int:
            # What is committed may speak of a topic before this one.
            metadata = decode(committed[tp].metadata)
            is_of_this = metadata is not None and metadata.log.topic_id == topic_id
            return (committed[tp].offset or 0) if is_of_this else 0

        parts = [
            KafkaTopicPartition(*tp, min(end, finished(tp) + beyond)) for tp, end in ends.items()
        ]
        for future in self._admin.delete_records(parts).values():
            future.result(_CALL_S)
        self._resume()

    def _alter(self, how: AlterConfigOpType) -> None:
        entries = [
            ConfigEntry(name, value, incremental_operation=how)
            for name, value in _COMPACTED.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, self._topic, incremental_configs=entries)
        for future in self._admin.incremental_alter_configs([resource]).values():
            future.result(_CALL_S)

    def _fill(self) -> None:
        """Store records of one key: all but the last will go, once a new segment has begun."""
        update = {"event_type": "workflow.completed", "source": _FILLER}
        filler = event({}).model_copy(update=update)
        before = self._fillers()
        for _ in range(_FILLERS):
            for partition in self.partitions():
                self._env.send([filler], partition=partition)
            self._fillers()
            SYSTEM.block(_FILLER_GAP_S)
        wait_until(
            lambda: self._fillers() < before + _FILLERS * len(self.partitions()),
            timeout_s=_COMPACTED_WITHIN_S,
            what="the events compacted",
            every_s=0.3,
        )

    def _fillers(self) -> int:
        """Count those that are there, and keep in mind where: others may come to lie there."""
        there = read_topic(self._env.bootstrap_servers, self._topic, whole=True)
        fillers = [record for record in there if is_filler(record)]
        for record in fillers:
            self._seen.setdefault(record, False)
        return len(fillers)

    def _grow(self, count: int, *, results: bool) -> None:
        topics = self._env.topics
        # The worker wants as many for retries as for events, and letters lie beside them.
        grown = (topics.results,) if results else (topics.retry, topics.dlq, topics.events)
        for topic in grown:
            there = self._partitions(topic)
            after = min(len(there) + count, MOST_PARTITIONS)
            if after > len(there):
                # All partitions of a topic have equally many replicas; the results may have two.
                like = [_FIRST_BROKER, *(r for r in there[0].replicas if r != _FIRST_BROKER)]
                new = NewPartitions(topic, after, [like] * (after - len(there)))
                self._admin.create_partitions([new])[topic].result(_CALL_S)

    def _id(self) -> bytes | None:
        try:
            return topic_ids(self._admin, [self._topic], timeout_s=_CALL_S)[self._topic]
        except KafkaException:
            return None

    def _count(self, topic: str) -> int:
        return len(self._partitions(topic))

    def _partitions(self, topic: str) -> Mapping[int, PartitionMetadata]:
        return self._admin.list_topics(timeout=_CALL_S).topics[topic].partitions
