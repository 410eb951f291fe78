"""`redrive dlq discard`, `park` and `unpark`: say where letters stand."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from redrive.cli.dlq_selection import (
    Actor,
    All,
    Fingerprint,
    Ids,
    KindFlag,
    Node,
    ReasonFlag,
    Why,
    Workflow,
    Yes,
    selected,
    who,
)
from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.options import BootstrapServers, Config, Json, start
from redrive.cli.output import print_json

if TYPE_CHECKING:  # these take their time, and `--help` needs none of them
    from redrive.redriving.selection import Selection

__all__ = ["discard", "park"]


def discard(  # noqa: PLR0913, PLR0917 - each is a flag
    ids: Ids = None,
    fingerprint: Fingerprint = None,
    workflow: Workflow = None,
    kind: KindFlag = None,
    reason: ReasonFlag = None,
    node: Node = None,
    everything: All = False,
    why: Why = None,
    actor: Actor = None,
    yes: Yes = False,
    as_json: Json = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Say of letters that nobody will work on them any more. They stay on the topic."""
    selection = selected(
        ids,
        everything=everything,
        fingerprint=fingerprint,
        workflow=workflow,
        kind=kind,
        reason=reason,
        node=node,
    )
    if not ids:
        _ask("Discard all that fit? It cannot be taken back.", yes=yes)
    _move("discard", selection, why, actor, bootstrap_servers, config, as_json=as_json)


def park(  # noqa: PLR0913, PLR0917 - as above
    ids: Ids = None,
    fingerprint: Fingerprint = None,
    workflow: Workflow = None,
    kind: KindFlag = None,
    reason: ReasonFlag = None,
    node: Node = None,
    everything: All = False,
    back: Annotated[bool, typer.Option("--back", help="Take them back.")] = False,
    why: Why = None,
    actor: Actor = None,
    as_json: Json = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Set letters aside: no redrive takes them until they are taken back."""
    selection = selected(
        ids,
        everything=everything,
        fingerprint=fingerprint,
        workflow=workflow,
        kind=kind,
        reason=reason,
        node=node,
    )
    how = "unpark" if back else "park"
    _move(how, selection, why, actor, bootstrap_servers, config, as_json=as_json)


def _ask(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(ExitCode.SETTINGS, "say --yes where nobody can be asked")
    typer.confirm(question, abort=True)


def _move(
    how: str,
    selection: Selection,
    why: str | None,
    actor: str | None,
    bootstrap_servers: str | None,
    config: Config,
    *,
    as_json: bool,
) -> None:
    kafka = start(config, {"kafka.bootstrap_servers": bootstrap_servers}).kafka

    from redrive.cli.redrive_page import judge, report_json, report_page  # noqa: PLC0415 - as above
    from redrive.redriving import redrive as engine  # noqa: PLC0415 - keeps `--help` fast

    move, verb = {
        "discard": (engine.discard, "discarded"),
        "park": (engine.park, "set aside"),
        "unpark": (engine.unpark, "taken back"),
    }[how]
    report = move(kafka, selection, actor=who(actor), reason=why)
    if as_json:
        print_json(report_json(report))
    else:
        report_page(report, verb)
    judge(report)
