"""`redrive dlq export`: whole letters as JSON lines, in the format that a spool has."""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING

from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.flag_groups import grouped
from redrive.cli.letter_flags import Causes, Ids, Standing, query_of
from redrive.cli.options import Broker
from redrive.cli.output import note

if TYPE_CHECKING:  # these take their time, and `--help` needs none of them
    from redrive.kafka.log import Record
    from redrive.redriving.letters import StoredLetter

__all__ = ["export"]


@grouped
def export(causes: Causes, standing: Standing, broker: Broker, *, ids: Ids = None) -> None:
    """Write whole letters to stdout, a JSON line each, with nothing masked: into a file."""
    if sys.stdout.isatty():
        raise CommandError(
            ExitCode.SETTINGS,
            "this writes whole letters with nothing masked: send them into a file, as in "
            "`redrive dlq export > letters.jsonl`",
        )
    kafka = broker.settings().kafka

    from redrive.clock import SYSTEM  # noqa: PLC0415 - keeps `--help` fast
    from redrive.redriving.letters import StoredLetter, records_at, stored  # noqa: PLC0415 - as above
    from redrive.redriving.query import choose  # noqa: PLC0415 - as above
    from redrive.redriving.views import read_letters  # noqa: PLC0415 - as above

    query = query_of(causes, standing, ids, SYSTEM.now())
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
