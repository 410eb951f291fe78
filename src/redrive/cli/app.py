"""The command `redrive`: its groups put together; here errors become exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from types import MappingProxyType
from typing import Annotated, Any

import typer
import typer.main

from redrive.cli.exits import ExitCode, exit_code, note_trace, report
from redrive.cli.lazy import LazyCommand, LazyGroup
from redrive.cli.output import say
from redrive.errors import RedriveError
from redrive.telemetry.terminal import visible

__all__ = ["app", "main", "whole_command"]

_EPILOG = (
    "Exit codes: " + "; ".join(f"{code.value} {code.meaning}" for code in ExitCode) + ". "
    "No flag takes a secret: set its REDRIVE_… variable, or give its place in the settings, as "
    "file:/run/secrets/kafka or env:NAME."
)


# typer brings its own click, and has no name for this.
_ClickError: Any = typer.BadParameter.__mro__[2]


@contextmanager
def _usage_errors_visible() -> Iterator[None]:
    """Escape what click and rich print as it is."""
    try:
        yield
    except _ClickError as error:
        error.message = visible(error.message)
        raise


class _Commands(LazyGroup):
    """All commands; an error of ours is one clear line and an exit code."""

    def make_context(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - click's
        """Take the arguments apart."""
        with _usage_errors_visible():
            return super().make_context(*args, **options)

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer's own Context
        """Run the chosen command."""
        try:
            with _usage_errors_visible():
                return super().invoke(ctx)
        except RedriveError as error:
            report(error)
            raise typer.Exit(exit_code(error)) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(ExitCode.INTERRUPTED) from error


class _Redrive(_Commands):
    lazy = MappingProxyType(
        {
            "demo": LazyCommand(
                "demo:demo",
                "Watch a real DAG through a success, a transient failure and a dead letter "
                "(30 seconds).",
            ),
            "worker": LazyCommand(
                "worker:worker",
                "Consume events, run their graphs and publish results, until SIGTERM or Ctrl-C.",
            ),
            "send": LazyCommand(
                "send:send",
                "Start a run: publish one event and print its id or, with --wait, its result.",
            ),
            "classify": LazyCommand(
                "classify:classify",
                "Show how an error is classified, by which rule, and how it would be retried.",
            ),
            "doctor": LazyCommand(
                "doctor:app",
                "Check what a worker needs: settings, graphs, files, the broker and its topics.",
            ),
            "config": LazyCommand("config:app", "Show the settings."),
            "topics": LazyCommand("topics:app", "Create or verify the topics."),
            "dlq": LazyCommand("dlq:app", "Inspect, redrive and manage dead letters."),
            "run": LazyCommand("run:app", "Inspect runs."),
            "checkpoints": LazyCommand("checkpoints:app", "List and delete checkpoints."),
            "notify": LazyCommand("notify:app", "Notify people of dead letters."),
        }
    )


# Plain tracebacks for bugs: the pretty ones print local variables, which may hold payloads. [P15]
app = typer.Typer(
    cls=_Redrive,
    name="redrive",
    help="Airflow starts LangGraph runs over Kafka; redrive makes sure that each one ends, once.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"redrive {version('redrive')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def whole_command() -> Any:  # noqa: ANN401 - typer's own copy of click
    """Return the command with all commands below it, every one of them imported."""
    root: Any = typer.main.get_command(app)
    root.load_all()
    return root


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="redrive")
    except Exception as error:  # noqa: BLE001 - a bug of ours: its traceback, and code 1 as ever
        note_trace(error)
        sys.exit(1)
