"""Remembers what was seen, apart for each group, so that none can push out what others have seen.

A group is a workflow; all that no graph serves are one. Of too many in a group, and of too many
groups, those that were seen least recently go first.
"""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["UNKNOWN", "Recent", "has_room"]

UNKNOWN = "unknown"
"""The group, and the name in figures, of all workflows that no graph serves."""

V = TypeVar("V")


def has_room(own: int, held: int, *, most: int) -> bool:
    """Say whether a group that has `own` places may take one more, of `most`, `held` taken by all.

    It may while it has less than are free: one alone takes half, and a newcomer finds room.
    """
    return own < most - held


class Recent(Generic[V]):
    """Values by group and key.

    Args:
        most_groups: So many groups are remembered.
        most_each: And so many keys of each.
    """

    def __init__(self, *, most_groups: int, most_each: int) -> None:
        self._most_groups = most_groups
        self._most_each = most_each
        # Of both dicts the first is the one not seen for longest.
        self._groups: dict[str, dict[str, V]] = {}
        self._full: set[str] = set()
        self._forgot_a_group = False

    def get(self, group: str, key: str) -> V | None:
        """Return what is remembered, or None."""
        return self._groups.get(group, {}).get(key)

    def see(self, group: str, key: str, value: V) -> None:
        """Remember a value as the one seen last."""
        seen = self._groups.pop(group, {})
        self._groups[group] = seen
        seen.pop(key, None)
        seen[key] = value
        if len(seen) > self._most_each:
            del seen[next(iter(seen))]
            self._full.add(group)
        if len(self._groups) > self._most_groups:
            gone = next(iter(self._groups))
            del self._groups[gone]
            self._full.discard(gone)
            self._forgot_a_group = True

    def knows_all(self, group: str) -> bool:
        """Say whether nothing of this group was forgotten: else what looks new may be old."""
        return group not in self._full and not self._forgot_a_group
