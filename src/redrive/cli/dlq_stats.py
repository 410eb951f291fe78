"""`redrive dlq stats`: how letters stand in numbers, and whether a limit is reached."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import typer

from redrive.cli.exits import ExitCode
from redrive.cli.output import print_json, print_table, say
from redrive.cli.shared_flags import BootstrapServers, Config, Json, start
from redrive.clock import SYSTEM
from redrive.dead_letter.letter_settings import LetterSettings
from redrive.redriving.letter_stats import LetterStats, letter_alarms, letter_stats
from redrive.redriving.views import read_letters
from redrive.telemetry import metrics
from redrive.telemetry.exposition import exposition
from redrive.telemetry.instruments import Sample

__all__ = ["stats"]


def stats(
    as_json: Json = False,
    prometheus: Annotated[
        bool,
        typer.Option(
            "--prometheus",
            help="Print metrics as Prometheus text; limits are left to your alert rules.",
        ),
    ] = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Count the letters, for a monitor: exits with 1 if a limit of `letters.*` is reached."""
    if as_json and prometheus:
        raise typer.BadParameter("choose one of --json and --prometheus")
    settings = start(config, {"kafka.bootstrap_servers": bootstrap_servers})

    view = read_letters(settings.kafka, verifier=settings.security.trust().verifier)
    limits = settings.letters
    now = SYSTEM.now()
    told = letter_stats(view.letters, now=now, retention=limits.retention)
    if prometheus:
        _expose(told, limits, read_at=now)
        return
    alarms = letter_alarms(told, limits)
    if as_json:
        print_json(_json(told, alarms))
    else:
        _print(told, alarms)
    if alarms:
        raise typer.Exit(ExitCode.ENDED_BADLY)


def _expose(told: LetterStats, limits: LetterSettings, *, read_at: datetime) -> None:
    oldest_s = 0.0 if told.oldest_open is None else told.oldest_open.total_seconds()
    readings = [
        Sample(metrics.OPEN, {(): told.open}),
        Sample(metrics.OLDEST_OPEN, {(): oldest_s}),
        Sample(metrics.RETENTION, {(): limits.retention.total_seconds()}),
        Sample(metrics.PER_MINUTE, {(): told.per_minute}),
        Sample(metrics.LETTERS_READ, {(): read_at.timestamp()}),
    ]
    text, _ = exposition(lambda: readings)
    sys.stdout.write(text.decode())


def _json(told: LetterStats, alarms: list[str]) -> dict[str, object]:
    oldest = told.oldest_open
    return {
        "open": told.open,
        "per_minute": told.per_minute,
        "oldest_open_s": None if oldest is None else round(oldest.total_seconds()),
        "retention_used": round(told.retention_used, 4),
        "alarms": alarms,
    }


def _print(told: LetterStats, alarms: list[str]) -> None:
    oldest = "none" if told.oldest_open is None else str(told.oldest_open).partition(".")[0]
    rows = [
        ["open letters", str(told.open)],
        ["letters per minute", f"{told.per_minute:g}"],
        ["oldest open letter", oldest],
        ["retention used", f"{told.retention_used:.0%}"],
    ]
    print_table(["figure", "now"], rows)
    for alarm in alarms:
        say(f"alarm: {alarm}")
