"""A text in the person's own editor. What was typed is kept whatever comes after, until dropped."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from redrive.cli.exits import CommandError, ExitCode
from redrive.private_files import open_private

__all__ = ["Draft"]

_USUAL = ("sensible-editor", "nano", "vim")


class Draft:
    """A file that only this person can read, with a text in it, to be changed in an editor."""

    def __init__(self, text: str) -> None:
        # In a folder of its own: editors put copies beside the file, with modes of their own.
        self._folder = Path(tempfile.mkdtemp(prefix="redrive-event-"))
        self.path = self._folder / "event.json"
        self._first = text.encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(open_private(self.path, flags), "wb") as file:
            file.write(self._first)

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
                ExitCode.SETTINGS, f"the editor {editor!r} does not work: {error}: set $EDITOR"
            ) from error
        if code != 0:
            raise CommandError(ExitCode.ENDED_BADLY, f"the editor {editor!r} ended with {code}")
        return typed

    def drop(self) -> None:
        """Remove the file, and what the editor left beside it."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _found() -> str:
    return next((name for name in _USUAL if shutil.which(name)), "vi")
