"""Commands whose modules are imported when they are chosen, so that `--help` needs none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer.main
from typer.core import TyperCommand, TyperGroup

from redrive.cli.exits import needs_extra

__all__ = ["LazyCommand", "LazyGroup"]


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command, or a group of commands, is found.

    Args:
        target: `module:name` of a function or of a Typer; the module below `redrive.cli`.
        summary: The first line of its help.
        hidden: Whether help does not list it: a name of an earlier version.
    """

    target: str
    summary: str
    hidden: bool = False

    def load(self, name: str) -> Any:  # noqa: ANN401 - typer's own copy of click
        """Import the command.

        Raises:
            MissingExtraError: It needs LangGraph, which is not installed.
        """
        module, _, attribute = self.target.partition(":")
        with needs_extra("langgraph", extra="worker"):
            found = getattr(import_module(f"redrive.cli.{module}"), attribute)
        holder = typer.Typer(add_completion=False)
        holder.callback()(lambda: None)
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=name)
        else:
            holder.command(name, hidden=self.hidden)(found)
        made: Any = typer.main.get_command(holder)
        return made.commands[name]


class LazyGroup(TyperGroup):
    """A group that lists its commands by their summaries, and imports the one that is chosen."""

    lazy: ClassVar[Mapping[str, LazyCommand]] = {}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, command in self.lazy.items():
            self.commands[name] = TyperCommand(name, help=command.summary, hidden=command.hidden)
        self._unloaded = dict(self.lazy)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - click's
        """Find the command that the arguments name."""
        self._load(args[0])
        return super().resolve_command(ctx, args)

    def load_all(self) -> None:
        """Import every command, and those of groups in this one."""
        for name in self.lazy:
            self._load(name)
        for command in self.commands.values():
            if isinstance(command, LazyGroup):
                command.load_all()

    def _load(self, name: str) -> None:
        command = self._unloaded.pop(name, None)
        if command is not None:
            self.commands[name] = command.load(name)
