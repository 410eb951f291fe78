"""`redrive dlq export`: whole letters as JSON lines, in the format that a spool has."""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING

from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.letter_filters import (
    Fingerprint,
    Ids,
    KindName,
    Node,
    ReasonName,
    Since,
    StateName,
    Until,
    Workflow,
    query_of,
)
from redrive.cli.options import BootstrapServers, Config, start
from redrive.cli.output import note

if TYPE_CHECKING:  # these take their time, and `--help` needs none of them
    from redrive.kafka.log import Record
    from redrive.redriving.letters import StoredLetter

__all__ = ["export"]


def export(  # noqa: PLR0913, PLR0917 - a flag is an argument
    ids: Ids = None,
    workflow: Workflow = None,
    kind: KindName = None,
    reason: ReasonName = None,
    node: Node = None,
    fingerprint: Fingerprint = None,
    since: Since = None,
    until: Until = None,
    state: StateName = None,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Write whole letters to stdout, a JSON line each, with nothing masked: into a file."""
    if sys.stdout.isatty():
        raise CommandError(
            ExitCode.SETTINGS,
            "this writes whole letters with nothing masked: send them into a file, as in "
            "`redrive dlq export > letters.jsonl`",
        )
    kafka = start(config, {"kafka.bootstrap_servers": bootstrap_servers}).kafka

    from redrive.clock import SYSTEM  # noqa: PLC0415 - keeps `--help` fast
    from redrive.redriving.letters import StoredLetter, records_at, stored  # noqa: PLC0415 - as above
    from redrive.redriving.query import choose  # noqa: PLC0415 - as above
    from redrive.redriving.views import read_letters  # noqa: PLC0415 - as above

    flags = {
        "workflow": workflow,
        "kind": kind,
        "reason": reason,
        "node": node,
        "fingerprint": fingerprint,
        "since": since,
        "until": until,
        "state": state,
    }
    query = query_of(flags, ids, SYSTEM.now())
    wanted = choose(read_letters(kafka).letters, query)
    written = 0
    for record in records_at(kafka, [(letter.partition, letter.offset) for letter in wanted]):
        found = stored(record)
        if isinstance(found, StoredLetter):
            sys.stdout.write(_line(record, found) + "\n")
            written += 1
    note(f"{written} letter(s)")
    if written < len(wanted):
        raise CommandError(
            ExitCode.ENDED_BADLY,
            f"{len(wanted) - written} letter(s) were deleted from the topic meanwhile",
        )


def _line(record: Record, found: StoredLetter) -> str:
    source = found.letter.source
    return json.dumps(
        {
            "dlq_id": found.letter.dlq_id,
            "topic": record.place.topic,
            "partition": record.place.partition,
            "key": _base64(record.key),
            "headers": [[name, _base64(value)] for name, value in record.headers],
            "value": _base64(record.value),
            "source": {
                "topic": source.topic,
                "partition": source.partition,
                "offset": source.offset,
            },
        }
    )


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode("ascii")
