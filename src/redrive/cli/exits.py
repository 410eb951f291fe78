"""How a command ends: the exit codes, and one clear line instead of a traceback.

The codes are documented in docs/exit-codes.md; a test holds the page against this file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from redrive.cli.output import note
from redrive.errors import (
    FencedError,
    KafkaLostError,
    KafkaUnavailableError,
    MissingExtraError,
    NotStoredError,
    RedriveError,
    SettingsError,
    StandstillError,
    StuckNodeError,
)
from redrive.telemetry.terminal import trace_of

__all__ = [
    "CommandError",
    "ExitCode",
    "after_first_contact",
    "exit_code",
    "needs_extra",
    "note_trace",
    "report",
]


class ExitCode(IntEnum):
    """What the shell gets."""

    OK = 0
    ENDED_BADLY = 1
    SETTINGS = 2
    KAFKA = 3
    FENCED = 4
    STUCK = 75
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """Say in one line when a command ends so."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "success",
    ExitCode.ENDED_BADLY: "a run or a check failed, or something was not found",
    ExitCode.SETTINGS: "wrong settings or usage, or no broker within kafka.startup_timeout",
    ExitCode.KAFKA: "Kafka was lost later, or a record was not stored",
    ExitCode.FENCED: "fenced: another worker with this identity, or another redrive, took over",
    ExitCode.STUCK: "a node does not stop, or nothing progresses: replace this process",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C)",
}


class CommandError(RedriveError):
    """A command ends with `code` and this line."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def after_first_contact() -> Iterator[None]:
    """Mark the steps of a command that come when the broker has answered once already."""
    try:
        yield
    except KafkaUnavailableError as error:
        raise CommandError(ExitCode.KAFKA, str(error)) from error


@contextmanager
def needs_extra(module: str, *, extra: str) -> Iterator[None]:
    """Turn a failed import of `module` into the line that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module:
            raise
        raise MissingExtraError(module=module, extra=extra) from error


def exit_code(error: RedriveError) -> ExitCode:
    """Choose the exit code for an error that reached the command line."""
    match error:
        case CommandError():
            return error.code
        case SettingsError() | KafkaUnavailableError():
            return ExitCode.SETTINGS
        case NotStoredError() | KafkaLostError():
            return ExitCode.KAFKA
        case FencedError():
            return ExitCode.FENCED
        case StuckNodeError() | StandstillError():
            return ExitCode.STUCK
        case _:
            return ExitCode.ENDED_BADLY


def report(error: RedriveError) -> None:
    """Print the error to stderr, one `redrive: …` for each of its lines."""
    if os.environ.get("REDRIVE_DEBUG") == "1":
        note_trace(error)
        return
    for line in (str(error) or type(error).__name__).split("\n"):
        note(f"redrive: {line}")


def note_trace(error: BaseException) -> None:
    """Print the traceback of an error to stderr, masked."""
    for line in trace_of(error).rstrip("\n").split("\n"):
        note(f"  {line}")
