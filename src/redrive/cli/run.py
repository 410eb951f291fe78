"""`redrive run`: one run, from its event to its end."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.letter_flags import parse_flag_time
from redrive.cli.output import note, print_json, visible
from redrive.cli.run_page import run_json, run_page
from redrive.cli.shared_flags import BootstrapServers, Config, Json, start
from redrive.clock import SYSTEM
from redrive.redriving.decrypted_stories import open_run
from redrive.redriving.run_stories import RunStory, find_run

__all__ = ["app"]

app = typer.Typer(help="Inspect runs.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Make it a group, also while it has one command."""


@app.command()
def show(
    event_id: Annotated[str, typer.Argument(help="The event's id.")],
    since: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="Read the topics from this time on: 2h, 3d ago, or ISO 8601."
        ),
    ] = "1d",
    as_json: Json = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Show the state of a run: its event, attempts, results and letters."""
    settings = start(config, {"kafka.bootstrap_servers": bootstrap_servers})
    kafka, payloads = settings.kafka, settings.security.payloads()
    verifier = settings.security.trust().verifier

    from_then = parse_flag_time("since", since, SYSTEM.now())
    note(f"reading {kafka.events_topic!r} and {kafka.results_topic!r} from {_text(from_then)} on")
    found = find_run(kafka, event_id, since=from_then, told=_tell, verifier=verifier)
    story, closed = open_run(found, payloads)
    for line in closed:
        note(f"not decoded: {visible(line)}")
    _refuse_nothing(story, since)
    if as_json:
        print_json(run_json(story))
    else:
        run_page(story)


def _tell(topic: str, records: int) -> None:
    note(f"{topic}: {records:,} records so far")


def _text(at: datetime) -> str:
    return at.replace(microsecond=0).isoformat()


def _refuse_nothing(story: RunStory, since: str) -> None:
    if not (story.events or story.results or story.letters):
        raise CommandError(
            ExitCode.ENDED_BADLY,
            f"nothing is known of event {story.event_id!r}: no record since {since}, no letter. "
            "--since 30d looks further back",
        )
