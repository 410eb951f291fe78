"""`redrive dlq show`: one letter."""

from __future__ import annotations

from typing import Annotated

import typer

from redrive.cli.letter_page import letter_json, letter_page
from redrive.cli.one_letter import newest_story
from redrive.cli.output import print_json
from redrive.cli.shared_flags import BootstrapServers, Config, Json, start

__all__ = ["show"]


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

    newest = newest_story(settings.kafka, wanted, verifier)
    if as_json:
        print_json(letter_json(newest, topic=topic, reveal=reveal, payloads=payloads))
    else:
        letter_page(newest, topic=topic, reveal=reveal, payloads=payloads)
