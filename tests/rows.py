"""A table of examples as one test: every row is tried, and each that fails is named.

For rows that need nothing made for each of them: a test of its own costs as much as fifty such
rows, in each of the processes that collect it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

__all__ = ["rows", "try_each"]

_Test = Callable[..., None]


def rows(
    names: str | Sequence[str],
    table: Iterable[Any],
    *,
    ids: Iterable[str] | Callable[[Any], object] | None = None,
) -> Callable[[_Test], _Test]:
    """Call a test for each row, in one test; takes what `pytest.mark.parametrize` takes.

    Fixtures are made once, for all rows.
    """
    arguments = [name.strip() for name in names.split(",")] if isinstance(names, str) else [*names]
    table = list(table)
    assert table, f"the table of {names} is empty"
    named = list(map(ids, table)) if callable(ids) else list(ids or table)

    def decorate(test: _Test) -> _Test:
        assert not inspect.iscoroutinefunction(test), "an async test of rows would never run"

        @functools.wraps(test)
        def whole(**fixtures: object) -> None:
            def call(row: Any) -> None:  # noqa: ANN401 - whatever the table holds
                values = [row] if len(arguments) == 1 else [*row]
                test(**fixtures, **dict(zip(arguments, values, strict=True)))

            try_each(zip(named, table, strict=True), call)

        signature = inspect.signature(test)
        kept = [p for name, p in signature.parameters.items() if name not in arguments]
        whole.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what pytest reads
            parameters=[
                parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in kept
            ]
        )
        return whole

    return decorate


def try_each(named: Iterable[tuple[object, Any]], call: Callable[[Any], object]) -> None:
    """Call for each row, and raise what they raised, with their names.

    Raises:
        BaseExceptionGroup: Some rows failed.
    """
    failures: list[BaseException] = []
    count = 0
    for count, (name, row) in enumerate(named, 1):  # noqa: B007 - counted
        try:
            call(row)
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - raised below
            error.add_note(f"in the row {name!s}")
            failures.append(error)
    if failures:
        raise BaseExceptionGroup(f"{len(failures)} of {count} rows", failures)
