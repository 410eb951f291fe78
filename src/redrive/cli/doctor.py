"""`redrive doctor`: what a worker with these settings would stumble over; asks no broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from redrive.cli.exits import ExitCode, needs_extra
from redrive.cli.options import Config, Graph, Json, LanggraphJson, start, targets
from redrive.cli.output import print_json
from redrive.errors import SettingsError

if TYPE_CHECKING:  # LangGraph takes its time, and `--help` needs none of it
    from redrive.cli.checks import Finding

__all__ = ["doctor"]


def doctor(
    graph: Graph = None,
    langgraph_json: LanggraphJson = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Look for what a worker would stumble over; needs no broker.

    Ends with 1 when a worker would not start, and with 0 when there are warnings only. Retries of
    clients are found by looking at the code: a hint, in both directions.
    """
    findings = _examined(config, targets(graph) if graph else None, langgraph_json)
    if as_json:
        print_json({check: [asdict(found) for found in all_] for check, all_ in findings.items()})
    else:
        _print(findings)
    errors = sum(found.level == "error" for all_ in findings.values() for found in all_)
    raise typer.Exit(ExitCode.ENDED_BADLY if errors else ExitCode.OK)


def _examined(
    config: Path | None, graphs: dict[str, dict[str, str]] | None, langgraph_json: Path | None
) -> Mapping[str, Sequence[Finding]]:
    with needs_extra("langgraph", extra="worker"):
        from redrive.cli import checks  # noqa: PLC0415 - keeps `--help` fast
    try:
        settings = start(config, {"graphs": graphs})
    except SettingsError as error:
        advice = "mend the settings: nothing else could be looked at"
        found = [
            checks.Finding(checks.Level.ERROR, line, advice) for line in str(error).splitlines()
        ]
        return {"settings": found}
    examined = checks.examine(settings, langgraph_json)
    told = {name: list(check(examined)) for name, check in checks.CHECKS.items()}
    return {"settings": [], **told}


def _print(findings: Mapping[str, Sequence[Finding]]) -> None:
    for check, all_ in findings.items():
        if not all_:
            typer.echo(f"ok       {check}")
        for found in all_:
            typer.echo(f"{found.level:<8} {check}: {found.what}")
            typer.echo(f"{'':<8} {found.advice}")
