"""What `redrive doctor audit` prints: what was read, how it ended, what is wrong or unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from redrive.auditing.audit_findings import Finding
from redrive.auditing.topic_part import TopicRead
from redrive.auditing.topics_audit import Audit
from redrive.cli.output import print_table, say
from redrive.clock import moment
from redrive.telemetry.redactor import BUILT_IN

__all__ = ["FinishedAudit", "audit_json", "audit_page", "told_of"]

MAX_LISTED = 100
"""Findings of one promise that are listed; all are counted."""


@dataclass(frozen=True, slots=True)
class FinishedAudit:
    """An audit that has ended.

    Attributes:
        audit: What was read and counted.
        since: From when on events were read.
        counts: Findings by promise.
        listed: The first ones of each promise.
        began_anew: The logs that have begun anew, in words.
        unseen: What was not judged, and how often, in words.
    """

    audit: Audit
    since: datetime | None
    counts: Counter[str]
    listed: tuple[Finding, ...]
    began_anew: tuple[str, ...]
    unseen: tuple[str, ...]


def told_of(audit: Audit, *, since: datetime | None) -> FinishedAudit:
    """End the audit: count its findings, and keep the first ones of each promise."""
    counts = Counter[str]()
    listed = []
    for finding in audit.findings():
        counts[finding.promise] += 1
        if counts[finding.promise] <= MAX_LISTED:
            listed.append(finding)
    anew = tuple(audit.began_anew())
    return FinishedAudit(audit, since, counts, tuple(listed), anew, tuple(_unseen(audit, since)))


def audit_page(told: FinishedAudit) -> None:
    """Print it for people."""
    judge = told.audit.judge
    print_table(["topic", "records", "from", "to", "partitions"], _topics(told.audit))
    say()
    rows = [
        *_rows("events", judge.events),
        *_rows("results", judge.results),
        *_rows("letters by reason", judge.letters),
        *_rows("letters by state", judge.states),
        *_rows("encrypted", judge.encrypted),
    ]
    print_table(["what", "", "count"], rows)
    say()
    if told.began_anew:
        say("started over, so earlier records cannot be audited:")
        for line in told.began_anew:
            say(f"  {line}")
        say()
    for finding in told.listed:
        _print(finding)
    if not told.counts:
        say("no promise was broken, as far as the topics show")
    for promise, count in sorted(told.counts.items()):
        more = f", of which {MAX_LISTED} are listed" if count > MAX_LISTED else ""
        say(f"{promise}: {count:,} finding(s){more}")
    say()
    say("could not check:")
    for line in told.unseen or ("nothing was left out",):
        say(f"  {line}")


def audit_json(told: FinishedAudit) -> dict[str, object]:
    """Return it for programs, masked."""
    judge = told.audit.judge
    whole: dict[str, object] = {
        "since": None if told.since is None else told.since.isoformat(),
        "topics": [
            {
                "topic": read.topic,
                "partitions": len(read.records),
                "records": read.total,
                "oldest": _text(read.oldest_ms),
                "newest": _text(read.newest_ms),
            }
            for read in told.audit.topics
        ],
        "events": dict(judge.events),
        "results": dict(judge.results),
        "letters": dict(judge.letters),
        "letter_states": {name: count for name, count in judge.states.items() if count},
        "encrypted": dict(judge.encrypted),
        "doubled_as_allowed": judge.doubled_as_allowed,
        "counts": dict(told.counts),
        "findings": [_finding(finding) for finding in told.listed],
        "began_anew": list(told.began_anew),
        "could_not_see": list(told.unseen),
    }
    return BUILT_IN.within(whole)


def _topics(audit: Audit) -> list[list[str]]:
    return [
        [read.topic, f"{read.total:,}", *_span(read), _by_partition(read)] for read in audit.topics
    ]


def _span(read: TopicRead) -> tuple[str, str]:
    return _text(read.oldest_ms) or "", _text(read.newest_ms) or ""


def _by_partition(read: TopicRead) -> str:
    counts = sorted(read.records.values())
    if not counts:
        return "0"
    return f"{len(counts)}, of {counts[0]:,} to {counts[-1]:,} records"


def _rows(what: str, counts: Counter[str]) -> Iterator[list[str]]:
    for name, count in counts.most_common():
        if count:
            yield [what, name, f"{count:,}"]


def _print(finding: Finding) -> None:
    say(f"{finding.promise}  {BUILT_IN.mask(finding.text)}")
    if finding.tp is not None:
        topic, partition = finding.tp
        say(f"    {topic}, partition {partition}, offset {finding.offset}")
    if finding.look is not None:
        say(f"    {finding.look}")


def _finding(finding: Finding) -> dict[str, object]:
    topic, partition = finding.tp or (None, None)
    return {
        "promise": finding.promise,
        "what": finding.text,
        "event_id": finding.event_id,
        "dlq_id": finding.dlq_id,
        "topic": topic,
        "partition": partition,
        "offset": finding.offset,
        "look": finding.look,
    }


def _unseen(audit: Audit, since: datetime | None) -> Iterator[str]:
    if since is not None:
        yield f"events before {since.replace(microsecond=0).isoformat()}: not included (--since)"
    yield from audit.notes
    for what, count in audit.judge.unseen.items():
        if count:
            yield f"{count:,} {what.value}"
    if audit.judge.doubled_as_allowed:
        yield (
            f"{audit.judge.doubled_as_allowed:,} events with more results than records: allowed, "
            "as worker.delivery is at_least_once"
        )


def _text(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return moment(at_ms // 1000 * 1000).isoformat()
