"""What the audit topic must be like, and that nothing is asked where there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError
from tests.rows import rows
from typer.testing import CliRunner

from redrive.cli.app import app
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.topic_rules import Severity, TopicFacts, TopicNeeds, judge_topics

KAFKA = KafkaSettings(audit_topic="audit")
YEAR = str(365 * 24 * 3600 * 1000)
LETTERS = {"max.message.bytes": "4000000", "retention.ms": "-1"}
GOOD = {
    name: TopicFacts(4, {"retention.ms": "-1"})
    for name in ("workflow-events", "workflow-results", "workflow-events-retry")
} | {"workflow-events-dlq": TopicFacts(4, LETTERS), "audit": TopicFacts(4, {"retention.ms": YEAR})}

ROWS = [
    (TopicFacts(4, {"retention.ms": YEAR}), None),
    (TopicFacts(8, {"retention.ms": "-1"}), None),
    (TopicFacts(4, {"cleanup.policy": "compact", "retention.ms": "1"}), None),
    (TopicFacts(4, None), None),
    (TopicFacts(3, {}), ("the number of partitions", Severity.ERROR)),
    (TopicFacts(4, {"retention.ms": "86400000"}), ("retention.ms", Severity.WARNING)),
    (
        TopicFacts(4, {"cleanup.policy": "compact,delete", "retention.ms": "1"}),
        ("retention.ms", Severity.WARNING),
    ),
    (TopicFacts(4, {"retention.bytes": "1000"}), ("retention.bytes", Severity.WARNING)),
    (TopicFacts(4, {"max.message.bytes": "900"}), ("max.message.bytes", Severity.ERROR)),
]


@rows("row", ROWS)
def test_the_audit_topic_is_as_long_lived_and_as_wide_as_it_must_be(
    row: tuple[TopicFacts, tuple[str, Severity] | None],
) -> None:
    facts, expected = row

    found = judge_topics(KAFKA, GOOD | {"audit": facts}, TopicNeeds())

    wanted = [] if expected is None else [("audit", *expected)]
    assert [(each.topic, each.what, each.severity) for each in found] == wanted


def test_where_it_is_set_it_must_be_there_and_elsewhere_nobody_asks() -> None:
    there = {name: facts for name, facts in GOOD.items() if name != "audit"}

    (missing,) = judge_topics(KAFKA, there, TopicNeeds())

    assert (missing.topic, missing.found, missing.severity) == ("audit", "missing", Severity.ERROR)
    assert judge_topics(KafkaSettings(), there, TopicNeeds()) == ()
    wide = {name: replace(facts, partitions=8) for name, facts in there.items()}
    assert judge_topics(KafkaSettings(), wide, TopicNeeds()) == ()


def test_it_is_a_topic_of_its_own() -> None:
    with pytest.raises(ValidationError, match="letters and audit each need a topic of their own"):
        KafkaSettings(audit_topic="workflow-events-dlq")


@rows(
    "arguments, words",
    [
        ([], "kafka.audit_topic is not set"),
        (["--noted", "0:1"], "is not PARTITION:SEQ:HASH"),
        (["--noted", "x:1:" + "0" * 64], "is not PARTITION:SEQ:HASH"),
        (["--noted", "0:" + "9" * 5_000 + ":" + "0" * 64], "is not PARTITION:SEQ:HASH"),
    ],
)
def test_what_cannot_be_verified_is_exit_code_2(arguments: list[str], words: str) -> None:
    ran = CliRunner().invoke(app, ["doctor", "audit-topic", *arguments], env={"COLUMNS": "9000"})

    assert ran.exit_code == 2
    assert words in ran.output
