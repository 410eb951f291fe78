"""A text in the person's own editor. What was typed is kept whatever comes after, until dropped."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from redrive.cli.exits import CommandError, ExitCode
from redrive.private_files import open_private

__all__ = ["Draft"]

_MEMORY = "/dev/shm"  # noqa: S108 - a folder of its own is made there
_USUAL = ("sensible-editor", "nano", "vim")


class Draft:
    """A file that only this person can read, with a text in it, to be changed in an editor.

    Args:
        text: What it holds at first.
        in_memory: Keep it off the disk while it is edited, where the system has a place for that.
    """

    def __init__(self, text: str, *, in_memory: bool = False) -> None:
        self._first = text.encode()
        self._folder = _folder(_MEMORY if in_memory and os.access(_MEMORY, os.W_OK) else None)
        self.path = _written(self._folder, self._first)

    @property
    def holds_more(self) -> bool:
        """Whether it is there, and is not what it was at first."""
        return self.path.exists() and self.path.read_bytes() != self._first

    def edit(self) -> bytes:
        """Open it in `$VISUAL`, `$EDITOR` or an editor that is there; return what it holds then.

        Raises:
            CommandError: The editor did not start, or ended badly.
        """
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or _found()
        try:
            code = subprocess.run([*shlex.split(editor), str(self.path)], check=False).returncode  # noqa: S603 - the person's own choice
            typed = self.path.read_bytes()
        except (OSError, ValueError) as error:
            raise CommandError(
                ExitCode.SETTINGS, f"the editor {editor!r} does not start: {error}: set $EDITOR"
            ) from error
        if code != 0:
            raise CommandError(ExitCode.ENDED_BADLY, f"the editor {editor!r} ended with {code}")
        return typed

    def keep(self, changed: Callable[[bytes], bytes]) -> None:
        """Keep what was typed in the form that `changed` gives it, and nothing else of it.

        Raises:
            Exception: Whatever `changed` raises; then nothing is kept.
        """
        typed = self.path.read_bytes()
        try:
            kept = changed(typed)
            if kept == typed:
                return
            folder = _folder(None)
            path = _written(folder, kept)
        except BaseException:
            self.drop()
            raise
        self.drop()
        self._folder, self.path = folder, path

    def drop(self) -> None:
        """Remove the file, and what the editor left beside it."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _folder(inside: str | None) -> Path:
    # One of its own: editors put copies beside the file, with modes of their own.
    return Path(tempfile.mkdtemp(prefix="redrive-event-", dir=inside))


def _written(folder: Path, text: bytes) -> Path:
    path = folder / "event.json"
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(text)
    return path


def _found() -> str:
    return next((name for name in _USUAL if shutil.which(name)), "vi")
