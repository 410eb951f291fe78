"""`redrive dlq redrive`: drive letters again, and see how their runs end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
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
from redrive.cli.exits import CommandError, ExitCode, after_first_contact
from redrive.cli.options import BootstrapServers, Config, Json, start
from redrive.cli.output import note, print_json

if TYPE_CHECKING:  # these take their time, and `--help` needs none of them
    from collections.abc import Callable

    from redrive.redriving.facts import Report, Step
    from redrive.redriving.following import RunEnding
    from redrive.settings import Settings

__all__ = ["agreed", "redrive", "sent_and_seen"]


def redrive(  # noqa: PLR0913, PLR0917 - each is a flag
    ids: Ids = None,
    fingerprint: Fingerprint = None,
    workflow: Workflow = None,
    kind: KindFlag = None,
    reason: ReasonFlag = None,
    node: Node = None,
    everything: All = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, in place of going on.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    canary: Annotated[
        int, typer.Option(metavar="N", min=0, help="Send N first; the others if these succeed.")
    ] = 0,
    stop_on_same: Annotated[
        bool, typer.Option("--stop-on-same", help="Stop when a run comes back as its letter did.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option(metavar="N", min=0.001, help="At most N a second.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--max", metavar="N", min=1, help="At most N letters.")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="DURATION", help="After it nobody wants the results.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the ends.")] = False,
    timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="How long to wait for the next end.")
    ] = "300s",
    why: Why = None,
    actor: Actor = None,
    yes: Yes = False,
    as_json: Json = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Send the events of dead letters back to the workers, each once."""
    selection = selected(
        ids,
        everything=everything,
        fingerprint=fingerprint,
        workflow=workflow,
        kind=kind,
        reason=reason,
        node=node,
    )
    patience = _duration(timeout, "--timeout")
    ends = None if deadline is None else _duration(deadline, "--deadline")
    settings = start(config, {"kafka.bootstrap_servers": bootstrap_servers})

    from redrive.redriving import redrive as engine  # noqa: PLC0415 - keeps `--help` fast

    most = settings.redrive.max
    planned = engine.plan(
        settings.kafka,
        selection,
        mode="restart" if restart else "resume",
        max_redrives=most,
        limit=limit,
    )
    if not agreed(planned, dry_run=dry_run, yes=yes, as_json=as_json):
        return

    def send(told: Callable[[Step], None]) -> Report:
        return engine.redrive(
            settings.kafka,
            selection,
            actor=who(actor),
            mode="restart" if restart else "resume",
            reason=why,
            max_redrives=most,
            deadline=ends,
            limit=limit,
            rate=rate,
            canary=canary,
            stop_on_same_fingerprint=stop_on_same,
            patience=patience,
            told=told,
        )

    expected = len(planned.done)
    sent_and_seen(settings, send, expected, None if no_wait else patience, as_json=as_json)


def agreed(planned: Report, *, dry_run: bool, yes: bool, as_json: bool) -> bool:
    """Show what would be done, and return whether it shall be."""
    from redrive.cli.redrive_page import judge, plan_page, report_json  # noqa: PLC0415 - as above

    if dry_run and as_json:
        print_json(report_json(planned))
    elif dry_run or not (yes or as_json):
        plan_page(planned)
    if dry_run:
        judge(planned)
        return False
    if yes or not planned.done:
        return True
    if as_json or not sys.stdin.isatty():
        raise CommandError(ExitCode.SETTINGS, "say --yes where nobody can be asked, or --dry-run")
    return typer.confirm("Drive them?")


def sent_and_seen(
    settings: Settings,
    send: Callable[[Callable[[Step], None]], Report],
    expected: int,
    patience: timedelta | None,
    *,
    as_json: bool,
) -> None:
    """Send letters, wait for the ends of their runs unless `patience` is None, and tell of both."""
    from redrive.cli.redrive_page import (  # noqa: PLC0415 - keeps `--help` fast
        ending_line,
        judge,
        report_json,
        report_page,
    )
    from redrive.redriving.following import follow  # noqa: PLC0415 - as above

    with after_first_contact():
        with _progress("sent", expected) as sent:
            report = send(lambda step: sent(len(step.done)))
        if not as_json:
            report_page(report, "sent")
        endings: list[RunEnding] | None = None
        if patience is not None:
            endings = []
            with _progress("ended", len(report.done)) as ended:
                for ending in follow(settings.kafka, report, timeout=patience):
                    endings.append(ending)
                    ended(1)
                    if not as_json:
                        note(ending_line(ending))
    if as_json:
        print_json(report_json(report, endings))
    judge(report, endings)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, and nothing elsewhere."""
    from rich.console import Console  # noqa: PLC0415 - keeps `--help` fast
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def _duration(text: str, flag: str) -> timedelta:
    from redrive.units import parse_duration  # noqa: PLC0415 - keeps `--help` fast

    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=flag) from error
