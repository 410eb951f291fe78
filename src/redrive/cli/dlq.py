"""`redrive dlq`: look at dead letters. The group, and `show`."""

from __future__ import annotations

from typing import Annotated

import typer

from redrive.cli import dlq_edit, dlq_redrive, dlq_states
from redrive.cli.dlq_export import export
from redrive.cli.dlq_figures import figures
from redrive.cli.dlq_import import import_letters
from redrive.cli.dlq_lists import list_groups, list_letters
from redrive.cli.options import BootstrapServers, Config, Json, start
from redrive.cli.output import print_json

__all__ = ["app"]

app = typer.Typer(help="Inspect, redrive and manage dead letters.", no_args_is_help=True)
app.command("list")(list_letters)
app.command("groups")(list_groups)
app.command("redrive")(dlq_redrive.redrive)
app.command("edit")(dlq_edit.edit)
app.command("discard")(dlq_states.discard)
app.command("park")(dlq_states.park)


@app.command()
def show(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="A dlq_id or an event_id.")],
    as_json: Json = False,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show the letter unmasked, with the event's payload.")
    ] = False,
    bootstrap_servers: BootstrapServers = None,
    config: Config = None,
) -> None:
    """Show why a run was given up, in which node, and what to do next. Payloads are masked."""
    settings = start(config, {"kafka.bootstrap_servers": bootstrap_servers})
    topic, payloads = settings.kafka.dlq_topic, settings.security.payloads()
    verifier = settings.security.trust().verifier

    from redrive.cli.letter_page import letter_json, letter_page  # noqa: PLC0415 - keeps `--help` fast
    from redrive.cli.one_letter import newest_story  # noqa: PLC0415 - as above

    newest = newest_story(settings.kafka, wanted, verifier)
    if as_json:
        print_json(letter_json(newest, topic=topic, reveal=reveal, payloads=payloads))
    else:
        letter_page(newest, topic=topic, reveal=reveal, payloads=payloads)


app.command("export")(export)
app.command("import")(import_letters)
app.command("figures")(figures)
