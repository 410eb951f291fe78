"""Walking from an exception to what stands behind it: causes, contexts, members of groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from redrive.retry.rules.verdict import look

__all__ = ["Link", "links"]

# Longer chains are no explanation any more; also the end of a chain that bites its own tail.
_MOST_LINKS = 50

# Where libraries keep what they gave up on: google-api-core; boto3 and s3transfer; urllib3.
_NAMES_OF_CAUSES = ("cause", "last_exception", "original_error")


@dataclass(frozen=True, slots=True)
class Link:
    """One exception of a chain.

    `implied` says that it, or one before it, was only being handled when the next was raised
    (`__context__`): a hint, where `raise … from` is a statement, and so is `raise Wrapper(error)`.
    """

    exc: BaseException
    implied: bool
    outermost: bool


def links(exc: BaseException) -> Iterator[Link]:
    """Give the exception, its cause, the cause's cause, …; contexts where no cause is named."""
    seen: set[int] = set()
    at: BaseException | None = exc
    implied = False
    while at is not None and id(at) not in seen and len(seen) < _MOST_LINKS:
        seen.add(id(at))
        yield Link(at, implied, at is exc)
        if at.__cause__ is not None:
            at = at.__cause__
        elif (wrapped := _wrapped_in(at)) is not None:
            # httpcore hands the error over and then raises `from None`; requests names no cause.
            at = wrapped
        elif at.__suppress_context__:
            at = None
        else:
            implied = True
            at = at.__context__


def _wrapped_in(exc: BaseException) -> BaseException | None:
    args = look(exc, "args")
    wrapped = args[0] if isinstance(args, tuple) and len(args) == 1 else None
    if isinstance(wrapped, BaseException):
        return wrapped
    named = (look(exc, name) for name in _NAMES_OF_CAUSES)
    return next((told for told in named if isinstance(told, BaseException)), None)
