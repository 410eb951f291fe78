"""Flags that commands share: each command has them all, with their defaults, and no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from redrive.cli.flag_groups import grouped


@dataclass(frozen=True)
class Place:
    town: Annotated[str | None, typer.Option(help="Which town.")] = None
    house: Annotated[int, typer.Option("--number", help="Which house.")] = 1


@dataclass(frozen=True)
class Towns:
    town: str = ""


def app_of(*commands: object) -> typer.Typer:
    app = typer.Typer()
    for command in commands:
        app.command()(command)  # type: ignore[type-var]  # each is a command
    return app


@grouped
def visit(place: Place, *, names: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Go there."""
    typer.echo(f"{place.town} {place.house} {names}")


def test_a_command_gets_its_group_with_what_was_given() -> None:
    result = CliRunner().invoke(app_of(visit), ["--town", "Ulm", "--number", "7", "a", "b"])

    assert result.output == "Ulm 7 ['a', 'b']\n"


def test_what_was_not_given_has_the_default_of_its_group() -> None:
    assert CliRunner().invoke(app_of(visit), []).output == "None 1 None\n"


def test_the_help_is_that_of_the_group() -> None:
    page = CliRunner().invoke(app_of(visit), ["--help"]).output

    assert "Which town." in page
    assert "--number" in page
    assert "Go there." in page


def test_two_flags_of_one_name_are_refused() -> None:
    def command(place: Place, towns: Towns) -> None:
        del place, towns

    with pytest.raises(ValueError, match="duplicate parameter name: 'town'"):
        grouped(command)
