"""`redrive dlq export`: whole letters as JSON lines, in the format that a spool has."""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.flag_groups import grouped
from redrive.cli.letter_flags import CauseFilter, Ids, StateFilter, query_of
from redrive.cli.output import note, visible
from redrive.cli.shared_flags import BrokerFlags
from redrive.clock import SYSTEM
from redrive.dead_letter.source import Source
from redrive.kafka.log import ConsumerRecord
from redrive.private_files import open_private
from redrive.redriving.decrypted_stories import sealed_as
from redrive.redriving.extracts import read_slimly
from redrive.redriving.letters_topic import StoredLetter, records_at, stored
from redrive.redriving.query import choose
from redrive.redriving.views import read_letters

__all__ = ["export", "letter_line"]


_OTHERS_READ = 0o044


@grouped
def export(
    causes: CauseFilter,
    status: StateFilter,
    broker: BrokerFlags,
    *,
    ids: Ids = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write to this new file, readable by its owner only. Default: stdout.",
        ),
    ] = None,
) -> None:
    """Export complete letters as JSON lines. Nothing is masked."""
    if output is None and sys.stdout.isatty():
        raise CommandError(
            ExitCode.SETTINGS,
            "this exports complete letters, unmasked: write them to a file, as in "
            "`redrive dlq export --output letters.jsonl`",
        )
    settings = broker.settings()
    kafka, verifier = settings.kafka, settings.security.trust().verifier

    query = query_of(causes, status, ids, SYSTEM.now())
    wanted = choose(read_letters(kafka, verifier=verifier).letters, query)
    written, sealed = 0, set[str]()
    with _opened(output) as out:
        for record in records_at(kafka, [(letter.partition, letter.offset) for letter in wanted]):
            slim, whole = read_slimly(record), stored(record)
            if isinstance(whole, StoredLetter):
                out.write(letter_line(record, whole.letter.dlq_id, whole.letter.source) + "\n")
                written += 1
                sealed |= sealed_as(whole.letter)
            elif isinstance(slim, dict):
                # Lists show it and a redrive drives it, though a part of it cannot be read.
                out.write(letter_line(record, slim["dlq_id"], None) + "\n")
                written += 1
    note(f"{written} letter(s)")
    if sealed:
        names = ", ".join(map(visible, sorted(sealed)))
        note(f"encrypted parts stay so ({names}): `redrive dlq show ID --reveal` decrypts them")
    if written < len(wanted):
        raise CommandError(
            ExitCode.ENDED_BADLY,
            f"{len(wanted) - written} letter(s) were deleted from the topic meanwhile",
        )


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        _warn_of_readers()
        yield sys.stdout
        return

    try:
        file = open_private(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except OSError as error:
        raise typer.BadParameter(f"cannot be made: {error}", param_hint="--output") from error
    with os.fdopen(file, "w", encoding="utf-8") as out:
        yield out


def _warn_of_readers() -> None:
    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
    except (OSError, ValueError):
        return  # no file of the system's: a test's, say
    if stat.S_ISREG(mode) and mode & _OTHERS_READ:
        note("others can read this output file: --output FILE creates one for its owner only")


def letter_line(record: ConsumerRecord, dlq_id: str, source: Source | None) -> str:
    """Return the line of a letter, its record in base64."""
    return json.dumps(
        {
            "dlq_id": dlq_id,
            "topic": record.tp.topic,
            "partition": record.tp.partition,
            "key": _base64(record.key),
            "headers": [[name, _base64(value)] for name, value in record.headers],
            "value": _base64(record.value),
            "source": source
            and {"topic": source.topic, "partition": source.partition, "offset": source.offset},
        }
    )


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode("ascii")
