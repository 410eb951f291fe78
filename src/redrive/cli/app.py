"""The command `redrive`: its groups put together; here errors become exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from redrive.cli import (
    checkpoints,
    classify,
    config,
    demo,
    dlq,
    doctor,
    notify,
    run,
    send,
    topics,
    worker,
)
from redrive.cli.exits import ExitCode, exit_code, note_trace, report
from redrive.cli.output import say
from redrive.errors import RedriveError
from redrive.telemetry.terminal import visible

__all__ = ["app", "main"]

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


class _Commands(TyperGroup):
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


# Plain tracebacks for bugs: the pretty ones print local variables, which may hold payloads. [P15]
app = typer.Typer(
    cls=_Commands,
    name="redrive",
    help="Airflow starts LangGraph runs over Kafka; redrive makes sure that each one ends, once.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("worker")(worker.worker)
app.command("send")(send.send)
app.command("classify")(classify.classify)
app.add_typer(doctor.app, name="doctor")
app.add_typer(config.app, name="config")
app.add_typer(topics.app, name="topics")
app.add_typer(dlq.app, name="dlq")
app.add_typer(run.app, name="run")
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(notify.app, name="notify")


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


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="redrive")
    except Exception as error:  # noqa: BLE001 - a bug of ours: its traceback, and code 1 as ever
        note_trace(error)
        sys.exit(1)
