"""`redrive topics`: create the topics, or verify those that are there."""

from __future__ import annotations

from typing import Annotated

import typer

from redrive.cli.exits import ExitCode
from redrive.cli.output import print_json, print_table, say
from redrive.cli.shared_flags import BootstrapServers, Config, Json, start
from redrive.kafka.topic_admin import TopicReport, create_topics, verify_topics
from redrive.kafka.topic_rules import TopicFinding

__all__ = ["app"]

app = typer.Typer(help="Create or verify the topics.", no_args_is_help=True)


@app.command()
def create(
    partitions: Annotated[
        int,
        typer.Option(
            min=1, help="Partitions of each topic; at most this many workers can share the work."
        ),
    ] = 8,
    replication_factor: Annotated[
        int | None, typer.Option(min=1, help="Copies of each record. Default: the broker's.")
    ] = None,
    as_json: Json = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Create the topics that are missing. Existing topics are not changed."""
    settings = start(config, {"kafka.bootstrap_servers": bootstrap_servers})

    made = create_topics(
        settings.kafka,
        partitions=partitions,
        replication_factor=replication_factor,
        needs=settings.letters.topic_needs(),
    )
    if as_json:
        print_json([{"topic": topic.name, "created": topic.created} for topic in made])
    else:
        rows = [[topic.name, "created" if topic.created else "was there"] for topic in made]
        print_table(["topic", "now"], rows)


@app.command()
def verify(
    as_json: Json = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Compare the topics with what redrive needs; show each difference and how to fix it."""
    settings = start(config, {"kafka.bootstrap_servers": bootstrap_servers})

    report = verify_topics(settings.kafka, needs=settings.letters.topic_needs())
    if as_json:
        print_json(_json(report))
    else:
        _print(report)
    if report.errors:
        raise typer.Exit(ExitCode.ENDED_BADLY)


def _json(report: TopicReport) -> dict[str, object]:
    return {
        "ok": not report.errors,
        "findings": [_finding(finding) for finding in report.findings],
        "partitions": dict(report.partitions),
        "max_bytes": dict(report.max_bytes),
    }


def _finding(finding: TopicFinding) -> dict[str, str]:
    return {
        "severity": finding.severity.value,
        "topic": finding.topic,
        "what": finding.what,
        "found": finding.found,
        "wanted": finding.wanted,
        "mend": finding.fix,
    }


def _print(report: TopicReport) -> None:
    print_table(
        ["topic", "partitions", "largest record"],
        [
            [topic, str(report.partitions.get(topic, "missing")), f"{limit} bytes"]
            for topic, limit in report.max_bytes.items()
        ],
    )
    if not report.findings:
        say()
        say("all topics are as they should be")
        return
    say()
    for finding in report.findings:
        say(f"{finding.severity.value}: {finding}")
