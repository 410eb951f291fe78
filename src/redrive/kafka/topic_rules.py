"""What the topics must be like, and how a difference is mended. Pure: no broker is asked.

Asking one, and creating topics, is `redrive.kafka.topic_admin`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from redrive.kafka.kafka_settings import KafkaSettings
from redrive.units import format_duration

__all__ = [
    "DEFAULT_MAX_BYTES",
    "LEAST_ANSWER_BYTES",
    "LEAST_LETTER_BYTES",
    "LETTERS_FACTOR",
    "Severity",
    "TopicFacts",
    "TopicFinding",
    "TopicNeeds",
    "judge_topics",
    "longest_kept",
    "topic_names",
]

DEFAULT_MAX_BYTES = 1_048_588
"""A broker's `max.message.bytes` unless it is told otherwise."""

# What the broker takes to look, and to delete; and two clocks may differ.
_CLEANING = timedelta(days=1)
_FOR_EVER = timedelta(days=100 * 365)

LETTERS_FACTOR = 3
LEAST_ANSWER_BYTES = 16 * 2**10
"""So much an error has at most when its texts are left out."""
LEAST_LETTER_BYTES = 64 * 2**10
"""So much a letter has at most that does not hold its event."""
"""A letter holds the event in base64 and parsed, and the story of its attempts (R4)."""


class Severity(Enum):
    """Whether a worker may start in spite of a finding."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class TopicFinding:
    """One difference between the topics that are there and those that redrive needs."""

    topic: str
    what: str
    found: str
    wanted: str
    fix: str
    severity: Severity

    def __str__(self) -> str:
        return (
            f"topic {self.topic!r}: {self.what} is {self.found}, must be {self.wanted}; {self.fix}"
        )


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """One topic as it is; `config` is None where it could not be read."""

    partitions: int
    config: Mapping[str, str] | None = None

    @property
    def max_bytes(self) -> int:
        """The largest batch of records that it takes, in bytes."""
        return int((self.config or {}).get("max.message.bytes", DEFAULT_MAX_BYTES))


def longest_kept(config: Mapping[str, str] | None) -> timedelta | None:
    """Return how long a record may lie on a topic, at the longest; None: for ever, or not known.

    Longer than `retention.ms`: a segment goes as a whole, when its newest record is old enough.
    """
    config = config or {}
    kept_ms, segment_ms = int(config.get("retention.ms", -1)), int(config.get("segment.ms", -1))
    # A topic that is only compacted keeps the last record of each key.
    deletes = "delete" in config.get("cleanup.policy", "delete")
    if not deletes or kept_ms < 0 or segment_ms < 0:
        return None
    try:
        longest = timedelta(milliseconds=kept_ms + segment_ms) + _CLEANING
    except OverflowError:
        return None
    return longest if longest < _FOR_EVER else None


@dataclass(frozen=True, slots=True)
class TopicNeeds:
    """What the topics' retention must cover.

    `letters_retention_bytes` is per partition; None keeps letters whatever their size.
    """

    longest_delay: timedelta = timedelta(days=1)
    letters_retention: timedelta = timedelta(days=30)
    letters_retention_bytes: int | None = None
    audit_retention: timedelta = timedelta(days=365)

    @property
    def retry_retention(self) -> timedelta:
        """Twice the longest delay: a record may be moved to the tail once on its way (R7)."""
        return 2 * self.longest_delay


def topic_names(settings: KafkaSettings) -> tuple[str, ...]:
    """Return the topics: events, results, retries, letters, and the audit topic if there is one."""
    return (
        settings.events_topic,
        settings.results_topic,
        settings.retry_topic,
        settings.dlq_topic,
        *(() if settings.audit_topic is None else (settings.audit_topic,)),
    )


def judge_topics(
    settings: KafkaSettings, found: Mapping[str, TopicFacts], needs: TopicNeeds
) -> tuple[TopicFinding, ...]:
    """Return what must change, the worst first; `found` holds the topics that exist."""
    findings = [
        *_missing(settings, found),
        *_partitions(settings, found),
        *_configs(settings, found, needs),
        *_audit(settings, found, needs),
    ]
    return tuple(sorted(findings, key=lambda finding: finding.severity is Severity.WARNING))


def _missing(settings: KafkaSettings, found: Mapping[str, TopicFacts]) -> Iterator[TopicFinding]:
    for topic in topic_names(settings):
        if topic not in found:
            fix = "run: redrive topics create"
            yield TopicFinding(topic, "the topic", "missing", "there", fix, Severity.ERROR)


def _partitions(settings: KafkaSettings, found: Mapping[str, TopicFacts]) -> Iterator[TopicFinding]:
    equal = (settings.events_topic, settings.retry_topic, settings.dlq_topic)
    counts = {topic: found[topic].partitions for topic in equal if topic in found}
    most = max(counts.values(), default=0)
    for topic, count in counts.items():
        if count < most:
            command = (
                f"run: kafka-topics.sh --bootstrap-server {settings.bootstrap_servers} "
                f"--alter --topic {topic} --partitions {most}"
            )
            wanted = f"{most}, as the others of {', '.join(equal)}"
            yield TopicFinding(
                topic, "the number of partitions", str(count), wanted, command, Severity.ERROR
            )


def _configs(
    settings: KafkaSettings, found: Mapping[str, TopicFacts], needs: TopicNeeds
) -> Iterator[TopicFinding]:
    for topic in (settings.events_topic, settings.retry_topic, settings.dlq_topic):
        config = found[topic].config if topic in found else None
        # By key, compaction would eat all but the last record of a thread, or of a letter (R15).
        if config is not None and config.get("cleanup.policy", "delete") != "delete":
            yield _wrong(settings, topic, "cleanup.policy", config["cleanup.policy"], "delete")
    yield from _retention(settings, settings.retry_topic, found, needs.retry_retention)
    yield from _retention_bytes(settings, settings.retry_topic, found)
    # A letter that goes early is a loss for people, not for the work: the worker starts. (R15)
    yield from _retention(
        settings, settings.dlq_topic, found, needs.letters_retention, severity=Severity.WARNING
    )
    least_bytes = needs.letters_retention_bytes
    yield from _retention_bytes(settings, settings.dlq_topic, found, least=least_bytes)
    yield from _answer_size(settings, found)
    yield from _letter_size(settings, found)


def _audit(
    settings: KafkaSettings, found: Mapping[str, TopicFacts], needs: TopicNeeds
) -> Iterator[TopicFinding]:
    topic, letters = settings.audit_topic, found.get(settings.dlq_topic)
    if topic is None or topic not in found:
        return
    facts = found[topic]
    if letters is not None and facts.partitions < letters.partitions:
        most = letters.partitions
        command = (
            f"run: kafka-topics.sh --bootstrap-server {settings.bootstrap_servers} "
            f"--alter --topic {topic} --partitions {most}"
        )
        wanted = f"{most} or more, as {settings.dlq_topic!r} has"
        yield TopicFinding(
            topic,
            "the number of partitions",
            str(facts.partitions),
            wanted,
            command,
            Severity.ERROR,
        )
    if facts.max_bytes < LEAST_ANSWER_BYTES:
        found_bytes, wanted = str(facts.max_bytes), f"{LEAST_ANSWER_BYTES} or more"
        least = str(LEAST_ANSWER_BYTES)
        yield _wrong(settings, topic, "max.message.bytes", found_bytes, wanted, value=least)
    # Each record has a key of its own, so compaction deletes none.
    if "delete" in (facts.config or {}).get("cleanup.policy", "delete"):
        least_kept, warns = needs.audit_retention, Severity.WARNING
        yield from _retention(settings, topic, found, least_kept, severity=warns)
        yield from _retention_bytes(settings, topic, found)


def _retention(
    settings: KafkaSettings,
    topic: str,
    found: Mapping[str, TopicFacts],
    least: timedelta,
    *,
    severity: Severity = Severity.ERROR,
) -> Iterator[TopicFinding]:
    config = (found[topic].config if topic in found else None) or {}
    kept_ms = int(config.get("retention.ms", -1))
    least_ms = round(least / timedelta(milliseconds=1))
    if 0 <= kept_ms < least_ms:
        found_text = f"{kept_ms} ({format_duration(timedelta(milliseconds=kept_ms))})"
        wanted = f"{least_ms} ({format_duration(least)}) or more"
        yield _wrong(
            settings,
            topic,
            "retention.ms",
            found_text,
            wanted,
            value=str(least_ms),
            severity=severity,
        )


def _retention_bytes(
    settings: KafkaSettings,
    topic: str,
    found: Mapping[str, TopicFacts],
    *,
    least: int | None = None,
) -> Iterator[TopicFinding]:
    config = (found[topic].config if topic in found else None) or {}
    kept = int(config.get("retention.bytes", -1))
    # By size, records may go long before their time: nobody can say when.
    if kept >= 0 and (least is None or kept < least):
        yield _wrong(
            settings,
            topic,
            "retention.bytes",
            str(kept),
            "-1" if least is None else f"{least} or more",
            value="-1" if least is None else str(least),
            severity=Severity.WARNING,
        )


def _answer_size(
    settings: KafkaSettings, found: Mapping[str, TopicFacts]
) -> Iterator[TopicFinding]:
    results = found.get(settings.results_topic)
    if results is not None and results.max_bytes < LEAST_ANSWER_BYTES:
        yield _wrong(
            settings,
            settings.results_topic,
            "max.message.bytes",
            str(results.max_bytes),
            f"{LEAST_ANSWER_BYTES} or more, for an error without its texts",
            value=str(LEAST_ANSWER_BYTES),
        )


def _letter_size(
    settings: KafkaSettings, found: Mapping[str, TopicFacts]
) -> Iterator[TopicFinding]:
    events, letters = found.get(settings.events_topic), found.get(settings.dlq_topic)
    if letters is None or letters.config is None or events is None:
        return
    least = max(LETTERS_FACTOR * events.max_bytes, LEAST_LETTER_BYTES)
    if letters.max_bytes < least:
        wanted = f"{least} or more, {LETTERS_FACTOR} times that of {settings.events_topic!r}"
        if least == LEAST_LETTER_BYTES:
            wanted = f"{least} or more"
        yield _wrong(
            settings,
            settings.dlq_topic,
            "max.message.bytes",
            str(letters.max_bytes),
            wanted,
            value=str(least),
        )


def _wrong(
    settings: KafkaSettings,
    topic: str,
    option: str,
    found: str,
    wanted: str,
    *,
    value: str | None = None,
    severity: Severity = Severity.ERROR,
) -> TopicFinding:
    command = (
        f"run: kafka-configs.sh --bootstrap-server {settings.bootstrap_servers} --alter "
        f"--entity-type topics --entity-name {topic} --add-config {option}={value or wanted}"
    )
    return TopicFinding(topic, option, found, wanted, command, severity)
