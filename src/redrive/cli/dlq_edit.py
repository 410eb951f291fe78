"""`redrive dlq edit`: drive one letter with a changed event; the letter keeps the original."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from redrive.cli.dlq_redrive import Asking, NoWait, drive
from redrive.cli.flag_groups import grouped
from redrive.cli.letter_flags import Acting
from redrive.cli.options import Broker

__all__ = ["edit"]


@grouped
def edit(
    acting: Acting,
    asking: Asking,
    broker: Broker,
    *,
    dlq_id: Annotated[str, typer.Argument(metavar="DLQ_ID", help="The letter.")],
    event: Annotated[
        str, typer.Option(metavar="FILE", help="The whole event, changed, as JSON; - is stdin.")
    ],
    no_wait: NoWait = False,
) -> None:
    """Drive one letter with a changed event. Its run begins anew."""
    value = _read(event)
    settings = broker.settings()

    from redrive.redriving.jobs import Order  # noqa: PLC0415 - keeps `--help` fast
    from redrive.redriving.pace import Pacing  # noqa: PLC0415 - as above
    from redrive.redriving.selection import Selection  # noqa: PLC0415 - as above

    order = Order(reason=acting.why, max_redrives=settings.redrive.max, replace={dlq_id: value})
    selection = Selection.of([dlq_id])
    drive(settings.kafka, selection, order, Pacing(), acting, asking, wait=not no_wait)


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"cannot be read: {error}", param_hint="--event") from error
