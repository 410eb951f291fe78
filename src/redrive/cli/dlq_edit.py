"""`redrive dlq edit`: drive one letter with a changed event; the letter keeps the original."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redrive.cli.dlq_redrive import agreed, sent_and_seen
from redrive.cli.dlq_selection import Actor, Why, Yes, who
from redrive.cli.options import BootstrapServers, Config, Json, start

if TYPE_CHECKING:  # these take their time, and `--help` needs none of them
    from collections.abc import Callable

    from redrive.redriving.facts import Report, Step

__all__ = ["edit"]

_PATIENCE = timedelta(minutes=5)


def edit(  # noqa: PLR0913, PLR0917 - each is a flag
    dlq_id: Annotated[str, typer.Argument(metavar="DLQ_ID", help="The letter.")],
    event: Annotated[
        str, typer.Option(metavar="FILE", help="The whole event, changed, as JSON; - is stdin.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the end.")] = False,
    why: Why = None,
    actor: Actor = None,
    yes: Yes = False,
    as_json: Json = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Drive one letter with a changed event. Its run begins anew."""
    value = _read(event)
    settings = start(config, {"kafka.bootstrap_servers": bootstrap_servers})

    from redrive.redriving import redrive as engine  # noqa: PLC0415 - keeps `--help` fast
    from redrive.redriving.selection import Selection  # noqa: PLC0415 - as above

    selection, replace = Selection.of([dlq_id]), {dlq_id: value}
    most = settings.redrive.max
    planned = engine.plan(settings.kafka, selection, max_redrives=most, replace=replace)
    if not agreed(planned, dry_run=dry_run, yes=yes, as_json=as_json):
        return

    def send(told: Callable[[Step], None]) -> Report:
        return engine.redrive(
            settings.kafka,
            selection,
            actor=who(actor),
            reason=why,
            max_redrives=most,
            replace=replace,
            told=told,
        )

    patience = None if no_wait else _PATIENCE
    sent_and_seen(settings, send, len(planned.done), patience, as_json=as_json)


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"cannot be read: {error}", param_hint="--event") from error
