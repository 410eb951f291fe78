"""Walking from an exception to what stands behind it: causes, contexts, members of groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from redrive.retry.rules.rule_verdict import args_of, cause_of, context_of, look, members_of

__all__ = ["MAX_BEHIND", "CauseLink", "all_behind", "links"]

# Longer chains are no explanation any more; also the end of a chain that bites its own tail.
_MOST_LINKS = 50
MAX_BEHIND = 500
"""So many exceptions are looked at behind one, with the members of groups."""

# Where libraries keep what they gave up on: google-api-core; boto3 and s3transfer; urllib3.
_NAMES_OF_CAUSES = ("cause", "last_exception", "original_error")


@dataclass(frozen=True, slots=True)
class CauseLink:
    """One exception of a chain.

    `implied` says that it, or one before it, was only being handled when the next was raised
    (`__context__`): a hint, where `raise … from` is a statement, and so is `raise Wrapper(error)`.
    """

    exc: BaseException
    implied: bool
    outermost: bool


def links(exc: BaseException) -> Iterator[CauseLink]:
    """Give the exception, its cause, the cause's cause, …; contexts where no cause is named."""
    seen: set[int] = set()
    at: BaseException | None = exc
    implied = False
    while at is not None and id(at) not in seen and len(seen) < _MOST_LINKS:
        seen.add(id(at))
        yield CauseLink(at, implied, at is exc)
        cause = cause_of(at)
        if cause is not None:
            at = cause
        elif (wrapped := _wrapped_in(at)) is not None:
            # httpcore hands the error over and then raises `from None`; requests names no cause.
            at = wrapped
        else:
            implied = True
            at = context_of(at)


def all_behind(exc: BaseException) -> Iterator[BaseException]:
    """Give the exception and all behind it, members of groups too, each once, within a limit."""
    seen: set[int] = set()
    waiting = [exc]
    while waiting:
        for link in links(waiting.pop()):
            if id(link.exc) in seen or len(seen) >= MAX_BEHIND:
                break
            seen.add(id(link.exc))
            yield link.exc
            waiting += reversed(members_of(link.exc))


def _wrapped_in(exc: BaseException) -> BaseException | None:
    args = args_of(exc)
    told = [*(args if len(args) == 1 else ()), *(look(exc, name) for name in _NAMES_OF_CAUSES)]
    # Not `isinstance`: that asks the object, which may answer anything.
    return next((one for one in told if issubclass(type(one), BaseException)), None)
