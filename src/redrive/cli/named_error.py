"""From what `redrive classify` is given to an exception, made as far as it can be made."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from redrive.cli.exits import CommandError, ExitCode
from redrive.retry.rules.http import status_of
from redrive.retry.rules.rule_verdict import look

__all__ = ["Appearance", "named_error"]


@dataclass(frozen=True, slots=True)
class Appearance:
    """What the exception shall look like; None leaves it as it is. `retry_after` is in seconds."""

    message: str | None = None
    status: int | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    """The part of a service's answer that is looked at."""

    status_code: int
    headers: Mapping[str, str] = field(default_factory=dict)


def named_error(target: str, found: object, appearance: Appearance) -> BaseException:
    """Return the exception that `found` is, makes, raises or returns, given this appearance.

    Raises:
        CommandError: It is none of these, or cannot be made to look so.
    """
    made = found
    if not isinstance(found, type | BaseException) and callable(found):
        made = _outcome(target, found)
    if isinstance(made, type) and issubclass(made, BaseException):
        made = _instance(target, made, appearance.message)
    if not isinstance(made, BaseException):
        raise CommandError(
            ExitCode.SETTINGS,
            f"{target} gives {_describe(made)}, not an exception: name a class, an instance, "
            "or a function that raises one or returns one",
        )
    _dress(target, made, appearance)
    return made


def _outcome(target: str, function: Callable[..., object]) -> object:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError) as error:
        raise CommandError(
            ExitCode.SETTINGS, f"{target} cannot be called without arguments: {error}"
        ) from error
    try:
        answer = function()
        return asyncio.run(_awaited(answer)) if inspect.iscoroutine(answer) else answer
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - what it raises is what is asked about
        return error


async def _awaited(answer: object) -> object:
    return await answer if inspect.isawaitable(answer) else answer


def _instance(target: str, cls: type[BaseException], message: str | None) -> BaseException:
    with contextlib.suppress(Exception):  # it may want arguments that nobody knows here
        return cls() if message is None else cls(message)
    try:
        return cls.__new__(cls)
    except Exception as error:
        raise CommandError(
            ExitCode.SETTINGS,
            f"{target} cannot be created without arguments ({error}): name a function that raises "
            "it",
        ) from error


def _dress(target: str, exc: BaseException, appearance: Appearance) -> None:
    if appearance.message is not None:
        exc.args = (appearance.message,)
        if appearance.message not in _text(exc):
            raise _stubborn(target, "--message")
    if appearance.status is not None:
        if look(exc, "response") is None:
            _set(exc, "response", _Answer(appearance.status))
        # The class may carry a status of its own, which is read first.
        if status_of(exc) != appearance.status:
            _set(exc, "status_code", appearance.status)
        if status_of(exc) != appearance.status:
            raise _stubborn(target, "--status")
    if appearance.retry_after is not None:
        _set(exc, "retry_after", appearance.retry_after)
        if look(exc, "retry_after") != appearance.retry_after:
            raise _stubborn(target, "--retry-after")


def _set(exc: BaseException, name: str, value: object) -> None:
    """Try to set it; whether the error then looks so, the caller asks the readers themselves."""
    with contextlib.suppress(Exception):  # a property of someone else's class
        setattr(exc, name, value)


def _stubborn(target: str, option: str) -> CommandError:
    return CommandError(
        ExitCode.SETTINGS,
        f"{target} sets itself what {option} should set: "
        "leave the option out, or name a function that raises the error unchanged",
    )


def _text(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:  # noqa: BLE001 - made without its arguments, it may not print
        return ""


def _describe(value: object) -> str:
    return "nothing" if value is None else f"an object of type {type(value).__name__}"
