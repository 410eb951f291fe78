"""`redrive doctor audit-topic`: whether the record of what was done to letters is whole."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Annotated

import typer

from redrive.cli.exits import ExitCode
from redrive.cli.output import note, print_json, print_table, say
from redrive.cli.shared_flags import BootstrapServers, Config, Json, start
from redrive.redriving.audit_check import (
    AuditedPartition,
    AuditReport,
    NotedHead,
    check_audit_topic,
)

__all__ = ["audit_topic"]

MAX_LISTED = 100
"""Findings of one kind that are listed; all are counted."""


def audit_topic(
    noted: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PARTITION:SEQ:HASH",
            help="A head that an earlier run printed; the chain must contain it. Can be repeated.",
        ),
    ] = None,
    as_json: Json = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Check the audit topic for missing, altered or forked records and unrecorded actions.

    Reads kafka.audit_topic and the letters topic; changes nothing. Exits with 0 if the chains are
    intact, with 1 if something was found, with 2 if the check could not run. Prints the head of
    each chain: keep it elsewhere, because nothing else shows that the end of a chain was cut off.
    """
    heads = [_head(text) for text in noted or ()]
    settings = start(config, {"kafka.bootstrap_servers": bootstrap_servers})

    report = check_audit_topic(settings.kafka, noted=heads)
    if as_json:
        print_json(_json(report))
    else:
        _print(report)
    if report.findings:
        note(f"{len(report.findings)} finding(s)")
        raise typer.Exit(ExitCode.ENDED_BADLY)


def _head(text: str) -> NotedHead:
    try:
        return NotedHead.parse(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not PARTITION:SEQ:HASH", param_hint="--noted"
        ) from None


def _parts(report: AuditReport) -> list[AuditedPartition]:
    return [part for _, part in sorted(report.partitions.items()) if part.records]


def _noted_form(part: AuditedPartition) -> str | None:
    head = part.chain.head
    return None if head is None else f"{part.partition}:{head}"


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")


def _json(report: AuditReport) -> dict[str, object]:
    return {
        "ok": not report.findings,
        "topic": report.topic,
        "since": _time(report.since),
        "partitions": [
            {
                "partition": part.partition,
                "records": part.records,
                "begins_at": part.chain.begins_at,
                "older_deleted": part.chain.start > 0,
                "newest": _time(part.newest),
                "head": _noted_form(part),
            }
            for part in _parts(report)
        ],
        "findings": [
            {
                "kind": found.kind,
                "topic": found.topic,
                "partition": found.partition,
                "offset": found.offset,
                "what": found.what,
            }
            for found in report.findings
        ],
    }


def _print(report: AuditReport) -> None:
    rows = []
    for part in _parts(report):
        begins = str(part.chain.begins_at or "")
        deleted = ", older ones are deleted" if part.chain.start else ""
        newest = _time(part.newest) or ""
        rows.append([str(part.partition), f"{part.records:,}", f"{begins}{deleted}", newest])
    print_table(["partition", "records", "the chain begins at", "newest"], rows)
    say()
    for part in _parts(report):
        if (head := _noted_form(part)) is not None:
            say(f"head: {head}")
    counts = Counter[str]()
    for found in report.findings:
        counts[found.kind] += 1
        if counts[found.kind] <= MAX_LISTED:
            say(f"{found.kind}: {found.topic}/{found.partition}@{found.offset}: {found.what}")
    for kind, count in sorted(counts.items()):
        more = f", of which {MAX_LISTED} are listed" if count > MAX_LISTED else ""
        say(f"{kind}: {count:,} finding(s){more}")
    if not report.findings:
        say(f"nothing is missing, altered or forked on {report.topic!r}, as far as this can show")
