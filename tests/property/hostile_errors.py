"""Exceptions that a hostile node could raise: some hundreds, each by a name.

Shapes (what its class and its attributes do) in every kind of frame (alone, as a cause, in groups).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

__all__ = ["hostile_errors"]

TEXTS = {
    "quotes": "'" * 60_000,
    "double quotes": '"' * 60_000,
    "escapes": '\\"' * 30_000,
    "names": '{"password": "x", ' * 3_400,
    "open names": "secret: '" * 6_700,
    "keys": "-----BEGIN PRIVATE KEY-----" * 2_300,
    "addresses": "://a:b" * 10_000,
    "tokens": "token key auth " * 4_000,
    "half characters": "\ud800" * 5_000,
    "controls": "\x00\x1b[2J" * 5_000,
    "megabytes": "x" * 5_000_000,
    "percents": "password%253D" * 5_000,
    "brackets": "[" * 60_000 + "{" * 60_000,
    "backslashes": "\\" * 60_000,
    "marks that turn text": "\u202e\u2066" * 20_000,
    "waits": "try again in 1s, " * 4_000,
    "mail addresses": "a@b.c," * 10_000,
    "command lines": "--password x -p y " * 4_000,
    "markup": "<password>x</password>" * 3_000,
}
EXITS = (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, RecursionError)
NAMES = (
    *("__notes__", "__dict__", "__class__", "__cause__", "__context__", "__suppress_context__"),
    *("__traceback__", "args", "message", "body", "response", "request", "code", "errno"),
    *("status_code", "headers", "retry_after", "url", "__redrive_kind__", "__redrive_reason__"),
    *("metadata", "trailing_metadata", "error_code", "status", "orig", "type", "request_id"),
    *("__redrive_dependency__", "exceptions", "is_retryable", "sqlstate", "details", "error"),
)


def _raises(kind: type[BaseException]) -> Callable[..., Any]:
    def method(*_: object, **__: object) -> Any:  # noqa: ANN401 - it returns nothing
        raise kind("hostile")

    return method


class _Text(str):
    """Text whose every method raises."""

    __slots__ = ()
    encode = decode = lower = strip = splitlines = partition = _raises(KeyboardInterrupt)
    __str__ = __len__ = __iter__ = __getitem__ = __eq__ = __contains__ = _raises(SystemExit)
    __hash__ = str.__hash__


def _with(**members: object) -> BaseException:
    made = type("Hostile", (Exception,), members)("a message")
    assert isinstance(made, BaseException)
    return made


def _shapes() -> Iterator[tuple[str, Callable[[], BaseException]]]:
    for name, text in TEXTS.items():
        yield f"text of {name}", partial(ValueError, text)
    for kind in EXITS:
        for method in ("__str__", "__repr__", "__getattribute__", "__eq__", "__bool__", "__hash__"):
            yield (
                f"{method} raises {kind.__name__}",
                partial(_with, **{method: _raises(kind)}),
            )
    for name in NAMES:
        yield f"{name} raises", partial(_with, **{name: property(_raises(SystemExit))})
        yield f"{name} is a number", partial(_with, **{name: 7})
        yield f"{name} is hostile text", partial(_with, **{name: _Text("secret")})
    yield "module is a number", lambda: _with(__module__=7)
    yield "module is none", lambda: _with(__module__=None)
    yield "module is huge", lambda: _with(__module__="m" * 1_000_000)
    yield "str gives a hostile text", lambda: _with(__str__=lambda _: _Text("x"))
    yield "str gives no text", lambda: _with(__str__=lambda _: 7)
    yield "str recurses", lambda: _with(__str__=str)
    for kind in EXITS:
        yield f"{kind.__name__} itself", partial(kind, "itself")
    yield "meta", _of_hostile_class
    yield "notes are many", _of_many_notes
    yield "notes are odd", _of_odd_notes
    yield "its own cause", _its_own_cause
    yield "a circle of causes", _circle
    yield "a chain of ten thousand", _long_chain
    yield "groups that share members", _shared_groups
    yield "a group of 100,000", lambda: ExceptionGroup("g", [ValueError("m")] * 100_000)
    yield (
        "a group of many texts",
        lambda: ExceptionGroup("g", [ValueError(f"{n} {TEXTS['names']}") for n in range(300)]),
    )
    yield "groups 200 deep", _deep_groups
    yield "hostile exceptions of a group", _hostile_group
    yield "deep recursion", _recursion


class _Meta(type):
    def __getattribute__(cls, name: str) -> Any:  # noqa: ANN401 - it raises
        if name in ("__module__", "__qualname__", "__name__", "__mro__"):
            raise SystemExit("hostile")
        return super().__getattribute__(name)

    def __hash__(cls) -> int:
        raise SystemExit("hostile")

    def __instancecheck__(cls, instance: object) -> bool:
        raise SystemExit("hostile")


def _of_hostile_class() -> BaseException:
    made: BaseException = _Meta("Hostile", (Exception,), {})("meta")
    return made


def _of_many_notes() -> BaseException:
    error = ValueError("notes")
    for number in range(20_000):
        error.add_note(f"{number} " + "password='x' " * 100)
    return error


def _of_odd_notes() -> BaseException:
    error = ValueError("notes")
    error.__notes__ = [7, None, _Text("secret"), b"bytes", "good"]  # type: ignore[list-item]
    return error


def _its_own_cause() -> BaseException:
    error = ValueError("own")
    error.__cause__ = error.__context__ = error
    return error


def _circle() -> BaseException:
    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__context__ = other, one
    return one


def _long_chain() -> BaseException:
    error: BaseException = ValueError("root " + TEXTS["names"])
    for number in range(10_000):
        after = RuntimeError(f"{number} " + "password: 'x' " * 50)
        after.__cause__ = error
        error = after
    return error


def _shared_groups() -> BaseException:
    member: Exception = ConnectionError("the one member")
    for depth in range(24):
        member = ExceptionGroup(f"depth {depth}", [member, member])
    return member


def _deep_groups() -> BaseException:
    member: Exception = ConnectionError("deep")
    for depth in range(200):
        member = ExceptionGroup(f"depth {depth}", [member, ValueError(str(depth))])
    return member


def _hostile_group() -> BaseException:
    kind = type("Hostile", (ExceptionGroup,), {"exceptions": property(_raises(SystemExit))})
    made = kind("g", [ValueError("a")])
    assert isinstance(made, BaseException)
    return made


def _recursion() -> BaseException:
    def deeper() -> None:
        deeper()

    try:
        deeper()
    except RecursionError as raised:
        return raised
    raise AssertionError("it ends")


def _alone(error: BaseException) -> BaseException:
    return error


def _raised(error: BaseException) -> BaseException:
    try:
        raise error  # noqa: TRY301 - so that it has a traceback
    except BaseException as raised:  # noqa: BLE001 - any of them
        return raised


def _as_cause(error: BaseException) -> BaseException:
    wrapper = RuntimeError("a wrapper")
    wrapper.__cause__ = error
    return wrapper


def _in_a_group(error: BaseException) -> BaseException:
    return BaseExceptionGroup("a group", [ValueError("another"), error])


def hostile_errors() -> Iterator[tuple[str, BaseException]]:
    """Yield each with its name."""
    for name, make in _shapes():
        for frame in (_alone, _raised, _as_cause, _in_a_group):
            yield f"{name}, {frame.__name__.strip('_')}", frame(make())
