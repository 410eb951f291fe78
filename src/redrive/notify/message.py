"""One message, ready to be sent: plain text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

__all__ = ["Lost", "Message", "MessageLevel"]


class MessageLevel(StrEnum):
    """How loud a service may show it."""

    INFO = "info"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Lost:
    """What a channel did not get: messages, and the failures that those were about."""

    messages: int = 0
    failures: int = 0

    def __add__(self, other: Lost) -> Lost:
        """Add them up."""
        return Lost(self.messages + other.messages, self.failures + other.failures)

    def __sub__(self, told: Lost) -> Lost:
        """Take away what was told."""
        return Lost(self.messages - told.messages, self.failures - told.failures)

    def __bool__(self) -> bool:
        """Return whether anything was lost."""
        return self.messages > 0


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `failures`: of how many letters it tells that no earlier one told of."""

    title: str
    body: str
    level: MessageLevel
    failures: int = 0

    def after(self, lost: Lost) -> Message:
        """Return it with a line that says what the channel did not get before."""
        if not lost:
            return self
        what = "1 message" if lost.messages == 1 else f"{lost.messages} messages"
        line = f"Not delivered before this: {what} about {lost.failures} failed runs."
        return replace(self, body=f"{self.body}\n\n{line}")
