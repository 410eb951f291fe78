"""`redrive dlq import`: store the letters of a spool, or of an export, that the topic lacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.output import note, print_json, print_table
from redrive.cli.shared_flags import BootstrapServers, Config, Json, start
from redrive.dead_letter.spool import MAX_LINE_BYTES
from redrive.redriving.spooled import publish_spool

__all__ = ["import_letters"]


def import_letters(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A worker's spool file, or one that `dlq export` wrote."
        ),
    ],
    as_json: Json = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Store the letters of FILE that are missing from the letters topic. Safe to repeat."""
    settings = start(config, {"kafka.bootstrap_servers": bootstrap_servers})
    kafka, verifier = settings.kafka, settings.security.trust().verifier

    counts = publish_spool(file, kafka, verifier=verifier)
    told = {
        "published": counts.published,
        "already_there": counts.already_there,
        "torn": counts.torn,
        "too_large": counts.too_large,
    }
    if as_json:
        print_json(told)
    else:
        print_table(["letters", "lines"], [[name, str(count)] for name, count in told.items()])
    if counts.torn:
        note(
            f"{counts.torn} line(s) of {file} are no letter, or longer than "
            f"{MAX_LINE_BYTES // 2**20} MiB, and were passed by{_where(counts.first_torn)}"
        )
    if counts.too_large:
        raise CommandError(
            ExitCode.ENDED_BADLY,
            f"{counts.too_large} letter(s) are too large for {kafka.dlq_topic!r}: raise its "
            "max.message.bytes, then run this again",
        )


def _where(lines: Sequence[int]) -> str:
    return f": among them line {', '.join(map(str, lines))}" if lines else ""
