"""Telling people of dead letters: grouped, counted, bounded, and never in the way of the work."""

from __future__ import annotations

from redrive.notify.notice import LetterNotice

__all__ = ["LetterNotice"]
