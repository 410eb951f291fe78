"""`redrive dlq`: look at dead letters. The group, and `show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from redrive.cli import dlq_edit, dlq_redrive, dlq_states
from redrive.cli.dlq_export import export
from redrive.cli.dlq_figures import figures
from redrive.cli.dlq_import import import_letters
from redrive.cli.dlq_lists import list_groups, list_letters
from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.options import BootstrapServers, Config, Json, start
from redrive.cli.output import note, print_json

if TYPE_CHECKING:  # these take their time, and `--help` needs none of them
    from redrive.redriving.letters import LetterStory

__all__ = ["app"]

app = typer.Typer(help="Look at dead letters.", no_args_is_help=True)
app.command("list")(list_letters)
app.command("groups")(list_groups)
app.command("redrive")(dlq_redrive.redrive)
app.command("edit")(dlq_edit.edit)
app.command("discard")(dlq_states.discard)
app.command("park")(dlq_states.park)


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
    from redrive.redriving.letters import find_stories  # noqa: PLC0415 - as above

    found = find_stories(kafka, wanted)
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


app.command("export")(export)
app.command("import")(import_letters)
app.command("figures")(figures)


def _mention_others(found: list[LetterStory]) -> None:
    newest = found[-1].stored.letter.dlq_id
    others = dict.fromkeys(story.stored.letter.dlq_id for story in found)
    others.pop(newest)
    if others:
        note(f"the newest of {len(others) + 1} letters; the others: {', '.join(others)}")
