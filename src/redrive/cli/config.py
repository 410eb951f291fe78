"""`redrive config`: what holds of the settings, and where it came from."""

from __future__ import annotations

from typing import Annotated

import typer

from redrive.cli.output import print_json, print_lines, say
from redrive.cli.shared_flags import Config, Json, tell_of_file
from redrive.settings import load_with_origins
from redrive.settings_report import DEFAULT, holding

__all__ = ["app"]

app = typer.Typer(help="Show the settings.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Make it a group, also while it has one command."""


@app.command()
def show(
    prefix: Annotated[
        str | None, typer.Argument(metavar="KEY", help="Show only this key or table.")
    ] = None,
    given: Annotated[
        bool, typer.Option("--given", help="Show only values that were set, no defaults.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Show the value of each setting and where it was set. Secrets are masked."""
    loaded = load_with_origins(config)
    if loaded.found_file is not None:
        tell_of_file(loaded.found_file)
    found = [
        one
        for one in holding(loaded)
        if not (given and one.origin == DEFAULT)
        and (prefix is None or one.key == prefix or one.key.startswith(f"{prefix}."))
    ]
    if as_json:
        print_json({one.key: {"value": one.value, "from": one.origin} for one in found})
    elif found:
        print_lines([[one.key, one.value or "-", one.origin] for one in found])
    else:
        say("nothing of that is set")
