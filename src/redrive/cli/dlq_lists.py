"""`redrive dlq list` and `redrive dlq groups`: which letters there are, one by one or by cause."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import Annotated

import typer

from redrive.cli.flag_groups import grouped
from redrive.cli.letter_flags import CauseFilter, Ids, StateFilter, query_of
from redrive.cli.letters_table import group_json, print_groups, print_letters, summary_json, totals
from redrive.cli.output import note, print_json
from redrive.cli.shared_flags import BrokerFlags, Json
from redrive.clock import SYSTEM
from redrive.redriving.groups import LetterGroup, Window, group
from redrive.redriving.query import Page, choose, page_of
from redrive.redriving.views import LettersView, read_letters

__all__ = ["list_groups", "list_letters"]


@grouped
def list_letters(
    causes: CauseFilter,
    status: StateFilter,
    broker: BrokerFlags,
    *,
    ids: Ids = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 20,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Continue after the previous page.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List letters, newest first."""
    settings = broker.settings()
    kafka, payloads = settings.kafka, settings.security.payloads()
    verifier = settings.security.trust().verifier

    now = SYSTEM.now()
    query = query_of(causes, status, ids, now)
    view = read_letters(kafka, payloads=payloads, verifier=verifier)
    try:
        page = page_of(view.letters, query, limit=limit, after=after)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--after") from error
    in_state = totals(choose(view.letters, query))
    if as_json:
        letters = [summary_json(letter) for letter in page.letters]
        beside = {"total": page.total, "states": in_state, "after": page.after}
        print_json({"letters": letters, **beside, **_beside(view)})
        return
    if page.letters:
        print_letters(page.letters, now)
    note(_counted(page, in_state))
    _mention_others(view, kafka.dlq_topic)


@grouped
def list_groups(
    causes: CauseFilter, status: StateFilter, broker: BrokerFlags, *, as_json: Json = False
) -> None:
    """List letters grouped by cause, the causes with most open letters first.

    Causes that are new or rising since --since are marked; default: the last 6 hours.
    """
    settings = broker.settings()
    kafka, payloads = settings.kafka, settings.security.payloads()
    verifier = settings.security.trust().verifier

    now = SYSTEM.now()
    query = query_of(causes, status, None, now)
    view = read_letters(kafka, payloads=payloads, verifier=verifier)
    letters = choose(view.letters, query)
    window = Window.of(now, since=query.since, until=query.until)
    # What is new shows only beside all letters, also those that are not asked for.
    groups = group(letters, now, window=window, among=view.letters)
    if as_json:
        told = {"since": window.since.isoformat(), "until": window.until.isoformat()}
        beside = {"window": told, "total": len(letters), **_beside(view)}
        print_json({"groups": [group_json(one) for one in groups], **beside})
        return
    if groups:
        print_groups(groups, now)
    note(f"{len(groups)} cause(s), {len(letters)} letter(s){_developing(groups)}")
    _mention_others(view, kafka.dlq_topic)


def _developing(groups: list[LetterGroup]) -> str:
    counts = Counter(one.trend.value for one in groups)
    told = [f"{counts[name]} {name}" for name in ("new", "rising") if counts[name]]
    return f": {', '.join(told)}" if told else ""


def _beside(view: LettersView) -> dict[str, int]:
    return {"repeated": view.repeated, "unknown": view.unknown}


def _counted(page: Page, in_state: dict[str, int]) -> str:
    if not page.total:
        return "no letters"
    states = ", ".join(f"{count} {name}" for name, count in in_state.items())
    line = f"{len(page.letters)} of {page.total} letter(s): {states}"
    return f"{line}\nnext: --after {shlex.quote(page.after)}" if page.after else line


def _mention_others(view: LettersView, topic: str) -> None:
    if view.repeated:
        note(
            f"{view.repeated} letter(s) were stored again with the same dlq_id; the last one counts"
        )
    if view.unknown:
        note(f"{view.unknown} record(s) of {topic!r} are not letters of redrive, and are not shown")
