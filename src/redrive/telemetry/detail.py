"""Whether what each single run does is to be logged: a question that costs nothing to ask."""

from __future__ import annotations

import logging

__all__ = ["is_detailed"]

_REDRIVE = logging.getLogger("redrive")


def is_detailed() -> bool:
    """Say whether redrive logs at level debug; a call that logs nothing takes ten times as long."""
    return _REDRIVE.isEnabledFor(logging.DEBUG)
