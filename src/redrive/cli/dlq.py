"""`redrive dlq`: look at dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from redrive.cli import dlq_edit, dlq_redrive, dlq_states
from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.options import BootstrapServers, Config, Json, start
from redrive.cli.output import note, print_json

if TYPE_CHECKING:  # these take their time, and `--help` needs none of them
    from redrive.redriving.letters import StoredLetter

__all__ = ["app"]

app = typer.Typer(help="Look at dead letters.", no_args_is_help=True)
app.command("redrive")(dlq_redrive.redrive)
app.command("edit")(dlq_edit.edit)
app.command("discard")(dlq_states.discard)
app.command("park")(dlq_states.park)


@app.callback()
def _group() -> None:
    """Make it a group, also while it has one command."""


@app.command()
def show(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="A dlq_id, or an event_id.")],
    as_json: Json = False,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show the event's payload, key and headers.")
    ] = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Say why a run was given up, where, and how to go on. The payload is masked."""
    kafka = start(config, {"kafka.bootstrap_servers": bootstrap_servers}).kafka

    from redrive.cli.letter_page import letter_json, letter_page  # noqa: PLC0415 - keeps `--help` fast
    from redrive.redriving.letters import find_letters  # noqa: PLC0415 - as above

    found = find_letters(kafka, wanted)
    if not found:
        raise CommandError(
            ExitCode.ENDED_BADLY,
            f"no letter with the dlq_id or event_id {wanted!r} on {kafka.dlq_topic!r} "
            f"at {kafka.bootstrap_servers}",
        )
    newest = found[-1]
    _mention_others(found)
    if as_json:
        print_json(letter_json(newest, topic=kafka.dlq_topic, reveal=reveal))
    else:
        letter_page(newest, topic=kafka.dlq_topic, reveal=reveal)


def _mention_others(found: list[StoredLetter]) -> None:
    newest = found[-1].letter.dlq_id
    others = dict.fromkeys(stored.letter.dlq_id for stored in found)
    others.pop(newest)
    if others:
        note(f"the newest of {len(others) + 1} letters; the others: {', '.join(others)}")
