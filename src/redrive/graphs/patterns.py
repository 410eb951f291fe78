"""Which graph serves a `workflow_id`: the one of this id, else the most specific pattern."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

__all__ = ["patterns_of", "serving"]

_WILDCARDS = frozenset("*?[")


def patterns_of(ids: Iterable[str]) -> tuple[str, ...]:
    """Return those of the ids that are patterns, the most specific first."""
    patterns = [name for name in ids if _WILDCARDS.intersection(name)]
    return tuple(sorted(patterns, key=_specific, reverse=True))


def serving(workflow_id: str, ids: Collection[str]) -> str | None:
    """Return the id of the graph that serves this workflow, or None."""
    if workflow_id in ids:
        return workflow_id
    fitting = (pattern for pattern in patterns_of(ids) if fnmatchcase(workflow_id, pattern))
    return next(fitting, None)


def _specific(pattern: str) -> tuple[int, int, str]:
    """Rank a pattern: more plain characters first, then fewer wildcards; the name breaks a tie."""
    wild = sum(character in _WILDCARDS for character in pattern)
    return (len(pattern) - wild, -wild, pattern)
