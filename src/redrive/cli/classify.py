"""`redrive classify`: how an error would be judged, and what would follow; or all the rules."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from redrive.classification_reference import rules_of
from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.judged_page import Judged, judged_json, judged_page
from redrive.cli.named_error import Appearance, named_error
from redrive.cli.output import note, print_json, print_lines
from redrive.cli.shared_flags import Config, Json, start
from redrive.graphs.import_paths import import_target, importable
from redrive.graphs.patterns import serving
from redrive.retry import reason_of
from redrive.retry.outlook import outlook
from redrive.retry.rules.rule_verdict import short_name
from redrive.retry_settings import RetrySettings
from redrive.settings import Settings
from redrive.units import parse_duration

__all__ = ["classify"]


def classify(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET",
            help="An error: module:Class, module:instance, or module:function that raises or "
            "returns it. With --list: a text to search for.",
        ),
    ] = None,
    as_list: Annotated[
        bool, typer.Option("--list", help="List all rules, or those that contain the text.")
    ] = False,
    message: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The error's message.")
    ] = None,
    status: Annotated[
        int | None, typer.Option(min=300, max=599, help="The error's HTTP status.")
    ] = None,
    retry_after: Annotated[
        str | None, typer.Option(metavar="DURATION", help="The error's Retry-After.")
    ] = None,
    workflow: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Use this workflow's retry settings instead of the general ones."
        ),
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Show how an error is classified, by which rule, and how it would be retried."""
    wait_s = None if retry_after is None else _seconds(retry_after)
    if as_list and (message, status, wait_s, workflow) != (None, None, None, None):
        raise typer.BadParameter("goes with the text alone", param_hint="--list")
    if target is None and not as_list:
        raise typer.BadParameter("is missing; give it, or --list", param_hint="TARGET")
    settings = start(config, {})
    if as_list or target is None:
        _print_rules(settings.retry, target or "", as_json=as_json)
        return

    importable(Path.cwd())
    found = import_target(target, what="TARGET")
    appearance = Appearance(message, status=status, retry_after=wait_s)
    _print_judged(
        _judged(settings, named_error(target, found, appearance), workflow), as_json=as_json
    )


def _print_judged(judged: Judged, *, as_json: bool) -> None:
    if as_json:
        print_json(judged_json(judged))
    else:
        judged_page(judged)


def _judged(settings: Settings, error: BaseException, workflow: str | None) -> Judged:
    graph = None if workflow is None else serving(workflow, settings.graphs)
    if workflow is not None and graph is None:
        note(f"no graph of the settings serves {workflow!r}: its retries are those of [retry]")
    failure = settings.retry.classifier().classify(error)
    follows = outlook(failure, policy=settings.policy(graph), reason=reason_of(error))
    return Judged(short_name(error), failure, graph=graph, outlook=follows)


def _print_rules(retry: RetrySettings, text: str, *, as_json: bool) -> None:
    sought = text.casefold()
    rows = [
        row
        for row in rules_of(retry)
        if any(sought in cell.casefold() for cell in (row.family, row.what, row.kind, row.meaning))
    ]
    if not rows:
        raise CommandError(ExitCode.ENDED_BADLY, f"no rule has {text!r} in it")
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        print_lines([[row.kind, row.what, row.family, row.meaning] for row in rows])


def _seconds(text: str) -> float:
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--retry-after") from error
