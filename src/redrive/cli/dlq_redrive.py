"""`redrive dlq redrive`: drive letters again, and see how their runs end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from redrive.cli.exits import CommandError, ExitCode, after_first_contact
from redrive.cli.flag_groups import grouped
from redrive.cli.letter_flags import Acting, All, CauseFilter, Ids, Yes, selected
from redrive.cli.output import agreed, console, note, print_json
from redrive.cli.redrive_page import ending_line, judge, plan_page, report_json, report_page
from redrive.cli.shared_flags import BrokerFlags, Json
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.redriving import engine
from redrive.redriving.batch_pacing import Pacing
from redrive.redriving.following import RunEnding, follow
from redrive.redriving.jobs import Order
from redrive.redriving.redrive_report import Report, Step
from redrive.redriving.selection import Selection
from redrive.signatures import Trust
from redrive.units import parse_duration

__all__ = ["AskFlags", "NoWait", "drive", "redrive"]

NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the runs to end.")]


@dataclass(frozen=True, slots=True)
class AskFlags:
    """What is shown, and asked before letters go."""

    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = (
        False
    )
    yes: Yes = False
    as_json: Json = False


@dataclass(frozen=True, slots=True)
class SendFlags:
    """How letters go."""

    restart: Annotated[
        bool,
        typer.Option(
            "--restart",
            help="Start runs from the beginning instead of resuming at the failed node.",
        ),
    ] = False
    deadline: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long the results are wanted; runs that cannot make it are given up.",
        ),
    ] = None
    canary: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Send N letters first, and the others only if these succeed."
        ),
    ] = 0
    stop_on_same: Annotated[
        bool,
        typer.Option(
            "--stop-on-same", help="Stop when a run fails again with the cause of its letter."
        ),
    ] = False
    rate: Annotated[
        float | None, typer.Option(metavar="N", min=0.001, help="Send at most N letters a second.")
    ] = None
    limit: Annotated[
        int | None, typer.Option("--max", metavar="N", min=1, help="Send at most N letters.")
    ] = None

    def order(self, *, reason: str | None, max_redrives: int) -> Order:
        """Return how the letters are driven."""
        return Order(
            mode="restart" if self.restart else "resume",
            reason=reason,
            max_redrives=max_redrives,
            deadline=None if self.deadline is None else _duration(self.deadline, "--deadline"),
        )

    def pacing(self, *, patience: timedelta) -> Pacing:
        """Return how fast they go."""
        return Pacing(self.limit, self.rate, self.canary, self.stop_on_same, patience)


@dataclass(frozen=True, slots=True)
class WaitFlags:
    """How long the ends of the runs are waited for."""

    no_wait: NoWait = False
    timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="How long to wait for the next run to end.")
    ] = "300s"


@grouped
def redrive(
    causes: CauseFilter,
    sending: SendFlags,
    acting: Acting,
    asking: AskFlags,
    waiting: WaitFlags,
    broker: BrokerFlags,
    *,
    ids: Ids = None,
    everything: All = False,
) -> None:
    """Send dead letters back to the workers, each once."""
    selection = selected(ids, causes, everything=everything)
    pacing = sending.pacing(patience=_duration(waiting.timeout, "--timeout"))
    settings = broker.settings()
    order = sending.order(reason=acting.why, max_redrives=settings.redrive.max)
    trust = settings.security.trust(for_letters=True)
    drive(settings.kafka, trust, selection, order, pacing, acting, asking, wait=not waiting.no_wait)


def drive(
    kafka: KafkaSettings,
    trust: Trust,
    selection: Selection,
    order: Order,
    pacing: Pacing,
    acting: Acting,
    asking: AskFlags,
    *,
    wait: bool,
) -> bool:
    """Plan, ask, send, wait for the ends of the runs, and tell of it all.

    Returns False when it was only planned, or the answer was no.
    """
    planned = engine.plan(kafka, selection, order, limit=pacing.limit, trust=trust)
    if not _agreed(planned, asking):
        return False

    def send(told: Callable[[Step], None]) -> Report:
        return engine.redrive(
            kafka, selection, order, actor=acting.who, pacing=pacing, told=told, trust=trust
        )

    patience = pacing.patience if wait else None
    _sent_and_seen(kafka, send, len(planned.done), patience, as_json=asking.as_json)
    return True


def _agreed(planned: Report, asking: AskFlags) -> bool:
    """Show what would be done, and return whether it shall be."""
    if asking.dry_run and asking.as_json:
        print_json(report_json(planned))
    elif asking.dry_run or not (asking.yes or asking.as_json):
        plan_page(planned)
    if asking.dry_run:
        judge(planned)
        return False
    if asking.yes or not planned.done:
        return True
    if asking.as_json or not sys.stdin.isatty():
        raise CommandError(
            ExitCode.SETTINGS,
            "there is no terminal to ask for confirmation: give --yes or --dry-run",
        )
    return agreed("Drive them?")


def _sent_and_seen(
    kafka: KafkaSettings,
    send: Callable[[Callable[[Step], None]], Report],
    expected: int,
    patience: timedelta | None,
    *,
    as_json: bool,
) -> None:
    """Send letters, wait for the ends of their runs unless `patience` is None, and tell of both."""
    with after_first_contact():
        with _progress("sent", expected) as sent:
            report = send(lambda step: sent(len(step.done)))
        if not as_json:
            report_page(report, "sent")
        endings: list[RunEnding] | None = None
        if patience is not None:
            endings = []
            with _progress("ended", len(report.done)) as ended:
                for ending in follow(kafka, report, timeout=patience):
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
    screen = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def _duration(text: str, flag: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=flag) from error
