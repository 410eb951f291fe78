"""The command line: one file per command group. Heavy imports happen inside the commands."""

from __future__ import annotations

from redrive.cli.app import main

__all__ = ["main"]
