"""JSON text from outside: whatever it holds ends in a value, or in one kind of error."""

from __future__ import annotations

import json

__all__ = ["parsed_json"]


def parsed_json(text: str | bytes) -> object:
    """Return what a JSON text holds.

    Raises:
        ValueError: It is no JSON, has a number of thousands of digits, or is nested too deeply,
            for which Python's reader has an error of its own.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
