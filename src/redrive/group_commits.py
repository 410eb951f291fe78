"""What a group has committed of the topic that is there now. [P3].

A topic that was deleted and made anew under its name leaves the group's commits as they were, and
they say nothing of the new log. Their notes name the topic that they are of (decision 0030), so
whoever reads commits from outside reads them here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from redrive.clock import SYSTEM, Clock
from redrive.kafka.broker_wait import reach
from redrive.kafka.committed import committed_by_group
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import Committed
from redrive.kafka.retrying import told
from redrive.kafka.topic_ids import topic_ids
from redrive.state.commit_metadata import CommitMetadata, LogIdentity, decode

__all__ = ["GroupCommits", "group_commits"]

_CALL_S = 3.0
_NOTHING = Committed(None, None)


@dataclass(frozen=True, slots=True)
class GroupCommits:
    """What a group has committed of a topic, by partition.

    Attributes:
        now: Of the topic that is there now; no offset where that is nothing.
        before: The offsets that are of a topic before it, of the same name.
    """

    now: Mapping[int, Committed]
    before: Mapping[int, int]


def group_commits(
    settings: KafkaSettings, topic: str, partitions: Iterable[int], *, clock: Clock = SYSTEM
) -> GroupCommits:
    """Return what `kafka.group_id` has committed of these partitions.

    Raises:
        KafkaUnavailableError: The broker did not say within `kafka.startup_timeout`.
        SettingsError: The client's options cannot work, or the broker refuses who we say we are.
    """
    committed = committed_by_group(settings, topic, partitions, clock=clock)
    all_metadata = {number: decode(one.metadata) for number, one in committed.items()}
    if not any(
        metadata is not None and metadata.log.topic_id for metadata in all_metadata.values()
    ):
        # Nothing to compare: some brokers do not tell the ids of topics.
        return GroupCommits(committed, {})
    log = _log_of(settings, topic, clock)
    before = {
        number: one.offset
        for number, one in committed.items()
        if one.offset is not None and _is_before(all_metadata[number], one.offset, log)
    }
    now = {number: _NOTHING if number in before else one for number, one in committed.items()}
    return GroupCommits(now, before)


def _is_before(metadata: CommitMetadata | None, offset: int, log: LogIdentity) -> bool:
    return metadata is not None and metadata.is_of_a_log_before(offset, log)


def _log_of(settings: KafkaSettings, topic: str, clock: Clock) -> LogIdentity:
    admin, there = reach(settings, clock=clock)
    ids = told(
        settings,
        lambda: topic_ids(admin, [topic], timeout_s=_CALL_S),
        what=f"the id of topic {topic!r}",
        clock=clock,
    )
    return LogIdentity.of(there.cluster_id, ids[topic])
