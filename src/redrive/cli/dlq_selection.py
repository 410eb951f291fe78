"""The flags that say which letters are meant, who works on them, and why."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # pydantic takes its time, and `--help` needs none of it
    from redrive.redriving.selection import Selection

__all__ = [
    "Actor",
    "All",
    "Fingerprint",
    "Ids",
    "KindFlag",
    "Node",
    "ReasonFlag",
    "Why",
    "Workflow",
    "Yes",
    "selected",
    "who",
]

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="dlq_ids or event_ids.", show_default=False),
]
Fingerprint = Annotated[str | None, typer.Option(help="Letters of this fingerprint.")]
Workflow = Annotated[str | None, typer.Option(metavar="ID", help="Letters of this workflow_id.")]
KindFlag = Annotated[str | None, typer.Option("--kind", help="Letters of this kind of failure.")]
ReasonFlag = Annotated[str | None, typer.Option("--reason", help="Letters of this reason code.")]
Node = Annotated[str | None, typer.Option(help="Letters of runs that failed in this node.")]
All = Annotated[bool, typer.Option("--all", help="All letters, where nothing else chooses.")]
Why = Annotated[str | None, typer.Option("--why", metavar="TEXT", help="Kept with the letters.")]
Actor = Annotated[str | None, typer.Option(help="Who does it, for the record; default: user@host.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def selected(
    ids: list[str] | None,
    *,
    everything: bool,
    fingerprint: str | None,
    workflow: str | None,
    kind: str | None,
    reason: str | None,
    node: str | None,
) -> Selection:
    """Return which letters the flags mean; that all are, has to be said."""
    from redrive.redriving.selection import Selection  # noqa: PLC0415 - keeps `--help` fast
    from redrive.retry.kinds import Kind, Reason  # noqa: PLC0415 - as above

    filters = (fingerprint, workflow, kind, reason, node)
    if not ids and not everything and all(given is None for given in filters):
        raise typer.BadParameter("name letters by id or by a filter, or say --all", param_hint="ID")
    _known(kind, [k.value for k in Kind], "--kind")
    _known(reason, [r.value for r in Reason], "--reason")
    return Selection(
        ids=frozenset(ids) if ids else None,
        fingerprint=fingerprint,
        workflow=workflow,
        kind=kind,
        reason=reason,
        node=node,
    )


def who(given: str | None) -> str:
    """Return who works on the letters, for the record."""
    if given:
        return given
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def _known(given: str | None, known: list[str], flag: str) -> None:
    if given is not None and given not in known:
        raise typer.BadParameter(f"{given!r} is none of: {', '.join(known)}", param_hint=flag)
