"""Which channels are told of a failure: rules, and the routing that they make. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from redrive.notify.notice import NoticeCause

__all__ = ["NotifyRule", "Routing"]


@dataclass(frozen=True, slots=True)
class NotifyRule:
    """Failures that fit all patterns go to these channels; to none at all if it names none.

    `count`: only once so many equal failures came within a window.
    """

    to: tuple[str, ...]
    workflow: str = "*"
    kind: str = "*"
    reason: str = "*"
    fingerprint: str = "*"
    count: int = 1

    def fits(self, cause: NoticeCause) -> bool:
        """Say whether all its patterns fit; its count is another matter."""
        return (
            fnmatchcase(cause.workflow, self.workflow)
            and fnmatchcase(cause.kind, self.kind)
            and fnmatchcase(cause.reason, self.reason)
            and fnmatchcase(cause.fingerprint, self.fingerprint)
        )


class Routing:
    """Channels and rules, put together.

    A channel that no rule names is told everything; one that rules name, what they fit. A rule
    that names no channel silences what it fits, and the rules after it are not read for that.
    """

    def __init__(self, channels: Sequence[str], rules: Sequence[NotifyRule] = ()) -> None:
        self.channels = tuple(channels)
        self._rules = tuple(rules)
        named = {name for rule in rules for name in rule.to}
        self._told_all = tuple(name for name in channels if name not in named)

    def of(self, cause: NoticeCause) -> Mapping[str, int] | None:
        """Return the channels to tell, each from how many equal failures on; None: silenced."""
        told: dict[str, int] = {}
        for rule in self._rules:
            if not rule.fits(cause):
                continue
            if not rule.to:
                # What rules before it have asked for stays.
                return told or None
            for name in rule.to:
                told[name] = min(told.get(name, rule.count), rule.count)
        return told | dict.fromkeys(self._told_all, 1)
