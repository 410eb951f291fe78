"""Rules of your own: which exceptions are of which kind, before the tables are asked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from redrive.retry.backoff import check_number
from redrive.retry.chain import links
from redrive.retry.kinds import Kind
from redrive.retry.rules.http import status_of
from redrive.retry.rules.rule_verdict import class_names, text_of

__all__ = ["Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Exceptions that fit all the given conditions are of this kind.

    Args:
        kind: The kind they get.
        error: A class, or its name as `package.Class` or `package.module.Class`; subclasses fit.
        status: The HTTP status that the exception carries.
        message: A regular expression, searched in the message.
        cause: As `error`, for any exception behind this one.
        retry_after: Seconds to wait at least, when the exception does not say.
        name: How the rule is called in `Failure.rule`.

    Raises:
        ValueError: It has no condition, or one that cannot work.
    """

    kind: Kind
    error: type[BaseException] | str | None = None
    status: int | None = None
    message: str | None = None
    cause: type[BaseException] | str | None = None
    retry_after: float | None = None
    name: str = ""
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", Kind(self.kind))
        if (self.error, self.status, self.message, self.cause) == (None, None, None, None):
            raise ValueError("a rule needs a condition: error, status, message or cause")
        if self.retry_after is not None:
            check_number("retry_after", self.retry_after)
        if self.message is not None:
            try:
                object.__setattr__(self, "_pattern", re.compile(self.message))
            except re.error as error:
                raise ValueError(
                    f"message is {self.message!r}: not a regular expression: {error}"
                ) from error

    def fits(self, exc: BaseException) -> bool:
        """Say whether all conditions hold for this exception."""
        return (
            (self.error is None or _is_a(exc, self.error))
            and (self.status is None or status_of(exc) == self.status)
            and (self._pattern is None or self._pattern.search(text_of(exc)) is not None)
            and (self.cause is None or _is_behind(exc, self.cause))
        )

    def __str__(self) -> str:
        if self.name:
            return self.name
        conditions = {
            "error": self.error.__qualname__ if isinstance(self.error, type) else self.error,
            "status": self.status,
            "message": self.message,
            "cause": self.cause.__qualname__ if isinstance(self.cause, type) else self.cause,
        }
        return ",".join(f"{key}={value}" for key, value in conditions.items() if value is not None)


def _is_a(exc: BaseException, wanted: type[BaseException] | str) -> bool:
    if isinstance(wanted, type):
        return isinstance(exc, wanted)
    return wanted in class_names(exc) or any(
        f"{base.__module__}.{base.__qualname__}" == wanted for base in type(exc).__mro__
    )


def _is_behind(exc: BaseException, wanted: type[BaseException] | str) -> bool:
    return any(_is_a(link.exc, wanted) for link in links(exc) if not link.outermost)
