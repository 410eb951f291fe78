"""The command line: one file per command group, imported when a command of it is chosen."""

from __future__ import annotations

from redrive.cli.app import main

__all__ = ["main"]
