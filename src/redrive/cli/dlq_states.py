"""`redrive dlq discard` and `park`: say where letters stand."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.flag_groups import grouped
from redrive.cli.letter_flags import Acting, All, CauseFilter, Ids, Yes, selected
from redrive.cli.output import agreed, print_json
from redrive.cli.redrive_page import judge, report_json, report_page
from redrive.cli.shared_flags import BrokerFlags, Json
from redrive.dead_letter.states import State
from redrive.redriving.engine import move
from redrive.redriving.selection import Selection

__all__ = ["discard", "park"]


@grouped
def discard(
    causes: CauseFilter,
    acting: Acting,
    broker: BrokerFlags,
    *,
    ids: Ids = None,
    everything: All = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Mark letters as discarded. They stay on the topic."""
    selection = selected(ids, causes, everything=everything)
    if not ids:
        _ask("Discard all letters that match? This cannot be undone.", yes=yes)
    _move("discarded", selection, acting, broker, as_json=as_json)


@grouped
def park(
    causes: CauseFilter,
    acting: Acting,
    broker: BrokerFlags,
    *,
    ids: Ids = None,
    everything: All = False,
    back: Annotated[bool, typer.Option("--back", help="Unpark the letters.")] = False,
    as_json: Json = False,
) -> None:
    """Park letters: no redrive sends them until they are unparked with --back."""
    selection = selected(ids, causes, everything=everything)
    _move("unparked" if back else "parked", selection, acting, broker, as_json=as_json)


def _ask(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(
            ExitCode.SETTINGS, "there is no terminal to ask for confirmation: give --yes"
        )
    agreed(question, abort=True)


def _move(
    verb: str, selection: Selection, acting: Acting, broker: BrokerFlags, *, as_json: bool
) -> None:
    settings = broker.settings()
    trust = settings.security.trust(for_letters=True)

    wanted = {
        "discarded": State.DISCARDED,
        "parked": State.PARKED,
        "unparked": State.OPEN,
    }[verb]
    report = move(
        settings.kafka, selection, wanted, actor=acting.who, reason=acting.why, trust=trust
    )
    if as_json:
        print_json(report_json(report))
    else:
        report_page(report, verb)
    judge(report)
