"""`redrive doctor`: what a worker with these settings would stumble over; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redrive.cli.audit import audit
from redrive.cli.audit_topic import audit_topic
from redrive.cli.exits import ExitCode, needs_extra
from redrive.cli.output import print_json, say
from redrive.cli.shared_flags import (
    BootstrapServers,
    Config,
    Graph,
    Json,
    LanggraphJson,
    RecursionLimit,
    graph_settings,
    start,
)
from redrive.errors import SettingsError

if TYPE_CHECKING:  # it needs LangGraph
    from redrive.cli.findings import DoctorFinding

__all__ = ["app"]

app = typer.Typer(invoke_without_command=True)
app.command("audit")(audit)
app.command("audit-topic")(audit_topic)


@app.callback()
def doctor(
    context: typer.Context,
    graph: Graph = None,
    langgraph_json: LanggraphJson = None,
    recursion_limit: RecursionLimit = None,
    as_json: Json = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Check everything except the broker.")
    ] = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Check what a worker needs: settings, graphs, files, the broker and its topics.

    Changes nothing. Exits with 1 if there is an error, with 0 if there are only warnings. Waits up
    to 5 seconds for a broker. Retries inside clients are found by reading the code, so some are
    missed and some reported in error. Lifespans and async factories are opened and closed again,
    unless --offline is given.
    """
    if context.invoked_subcommand is not None:
        return
    flags = {
        "graphs": graph_settings(graph, recursion_limit),
        "kafka.bootstrap_servers": bootstrap_servers,
    }
    findings = _examined(config, flags, langgraph_json, offline=offline)
    if as_json:
        print_json({check: [asdict(found) for found in all_] for check, all_ in findings.items()})
    else:
        _print(findings)
    errors = sum(found.level == "error" for all_ in findings.values() for found in all_)
    raise typer.Exit(ExitCode.ENDED_BADLY if errors else ExitCode.OK)


def _examined(
    config: Path | None,
    flags: Mapping[str, object | None],
    langgraph_json: Path | None,
    *,
    offline: bool,
) -> Mapping[str, Sequence[DoctorFinding]]:
    with needs_extra("langgraph", extra="worker"):
        # Here, since `doctor audit` works without LangGraph.
        from redrive.cli import checks  # noqa: PLC0415 - as said
        from redrive.cli.findings import DoctorFinding, FindingLevel  # noqa: PLC0415 - as said

    try:
        settings = start(config, flags)
    except SettingsError as error:
        advice = "fix the settings: nothing else could be checked"
        return {
            "settings": [
                DoctorFinding(FindingLevel.ERROR, line, advice) for line in str(error).splitlines()
            ]
        }
    examined = checks.examine(settings, langgraph_json, offline=offline)
    told = {name: list(check(examined)) for name, check in checks.CHECKS.items()}
    return {"settings": [], **told}


def _print(findings: Mapping[str, Sequence[DoctorFinding]]) -> None:
    for check, all_ in findings.items():
        if not all_:
            say(f"ok       {check}")
        for found in all_:
            say(f"{found.level:<8} {check}: {found.what}")
            if found.advice:
                say(f"{'':<8} {found.advice}")
