"""`redrive dlq`: the group of the commands that look at dead letters, or work on them."""

from __future__ import annotations

from types import MappingProxyType

import typer

from redrive.cli.lazy import LazyCommand, LazyGroup

__all__ = ["app"]

_STATS = "Count the letters, for a monitor: exits with 1 if a limit of `letters.*` is reached."


class _LetterCommands(LazyGroup):
    lazy = MappingProxyType(
        {
            "list": LazyCommand("dlq_lists:list_letters", "List letters, newest first."),
            "groups": LazyCommand(
                "dlq_lists:list_groups",
                "List letters grouped by cause, the causes with most open letters first.",
            ),
            "redrive": LazyCommand(
                "dlq_redrive:redrive", "Send dead letters back to the workers, each once."
            ),
            "edit": LazyCommand(
                "dlq_edit:edit",
                "Redrive one letter with a changed event. The run starts from the beginning.",
            ),
            "discard": LazyCommand(
                "dlq_states:discard", "Mark letters as discarded. They stay on the topic."
            ),
            "park": LazyCommand(
                "dlq_states:park",
                "Park letters: no redrive sends them until they are unparked with --back.",
            ),
            "show": LazyCommand(
                "dlq_show:show",
                "Show why a run was given up, in which node, and what to do next. "
                "Payloads are masked.",
            ),
            "export": LazyCommand(
                "dlq_export:export", "Export complete letters as JSON lines. Nothing is masked."
            ),
            "import": LazyCommand(
                "dlq_import:import_letters",
                "Store the letters of FILE that are missing from the letters topic. "
                "Safe to repeat.",
            ),
            "stats": LazyCommand("dlq_stats:stats", _STATS),
            "figures": LazyCommand("dlq_stats:stats", _STATS, hidden=True),
        }
    )


app = typer.Typer(
    cls=_LetterCommands, help="Inspect, redrive and manage dead letters.", no_args_is_help=True
)
