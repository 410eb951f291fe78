"""Flags that several commands share, as one argument: a frozen dataclass with a field per flag.

Typer takes one argument a flag. `grouped` writes the fields of each group into the command's
signature, and gives the command the group.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

__all__ = ["grouped"]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command as Typer is to see it: with every flag of its groups.

    Raises:
        ValueError: Two flags have one name.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if is_dataclass(kind) and isinstance(kind, type):
            groups[name] = kind
            parameters.extend(_flags_of(kind))
        else:
            parameters.append(parameter.replace(annotation=kind, kind=parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**given: Any) -> None:
        made = {
            name: group(**{flag.name: given.pop(flag.name) for flag in fields(group)})
            for name, group in groups.items()
        }
        command(**made, **given)

    signature = inspect.Signature(parameters)
    run.__signature__ = signature  # type: ignore[attr-defined]  # what `inspect.signature` asks for
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _flags_of(group: type) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for flag in fields(group):
        default = inspect.Parameter.empty if flag.default is MISSING else flag.default
        yield inspect.Parameter(
            flag.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=hints[flag.name],
        )
