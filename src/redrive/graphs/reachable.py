"""What the code of a node can reach: its closure, the globals that it names, attributes of those.

A guess, made by looking only: nothing is called, and what hides behind a call or a property is not
seen. It never raises, and looks at a limited number of objects.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import CellType, CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import cast

__all__ = ["attribute", "reachable"]

_MOST_OBJECTS = 2_000
_MOST_HOPS = 8
# In a row: `chain.middle`, `binding.bound`, `model.root_client`.
_MOST_ATTRIBUTES = 4
_MOST_ITEMS = 100
# Nobody keeps a client of his own in a global of these.
_NOT_READ = frozenset({"langchain_core", "langgraph", "pydantic"}) | sys.stdlib_module_names
_LISTS = (list, tuple, set, frozenset)
_HOLDERS = (FunctionType, MethodType, functools.partial, dict, *_LISTS)
_PLAIN = (type(None), str, bytes, int, float, complex, type, ModuleType, CodeType)


def reachable(start: object, *, ends: Callable[[object], bool]) -> Iterator[object]:
    """Give `start` and what it reaches, the nearest first, each once.

    Args:
        start: A function, or anything that holds some.
        ends: Says of an object that what is behind it does not matter.
    """
    # The objects are kept, so that their ids stay their own.
    seen: dict[int, object] = {id(start): start}
    waiting = deque([(start, _MOST_HOPS, _MOST_ATTRIBUTES)])
    while waiting:
        found, hops, attributes = waiting.popleft()
        yield found
        if not hops or ends(found):
            continue
        held = not issubclass(type(found), _HOLDERS)
        if held and not attributes:
            continue
        try:
            parts = _parts(found)
        except Exception:  # noqa: BLE001 - someone else's object; what it hides is not seen
            parts = []
        for part in parts:
            known = id(part) in seen or issubclass(type(part), _PLAIN)
            if not known and len(seen) < _MOST_OBJECTS:
                seen[id(part)] = part
                waiting.append((part, hops - 1, attributes - held))


def attribute(found: object, name: str) -> object:
    """Return an attribute of the object or its class, or None; runs no code of theirs."""
    own = _attributes(found)
    return own[name] if name in own else inspect.getattr_static(type(found), name, None)


def _parts(found: object) -> list[object]:
    # `type` everywhere: isinstance() asks a proxy's `__class__`, which may be code.
    kind = type(found)
    if issubclass(kind, FunctionType):
        return _of_function(cast("FunctionType", found))
    if issubclass(kind, MethodType):
        method = cast("MethodType", found)
        return [method.__self__, method.__func__]
    if issubclass(kind, functools.partial):
        partial = cast("functools.partial[object]", found)
        return [partial.func, *partial.args, *partial.keywords.values()]
    if kind is dict:
        return list(itertools.islice(cast("dict[object, object]", found).values(), _MOST_ITEMS))
    if kind in _LISTS:
        return list(itertools.islice(cast("Iterable[object]", found), _MOST_ITEMS))
    call = inspect.getattr_static(kind, "__call__", None)
    return [*_attributes(found).values(), call]


def _of_function(function: FunctionType) -> list[object]:
    cells = function.__closure__ or ()
    parts = [part for cell in cells if (part := _content(cell)) is not None]
    parts += function.__defaults__ or ()
    parts += (function.__kwdefaults__ or {}).values()
    parts += vars(function).values()
    if (function.__module__ or "").partition(".")[0] not in _NOT_READ:
        names = _names(function.__code__)
        for name in names:
            part = function.__globals__.get(name)
            # Of `import llm`, then `llm.client`.
            if issubclass(type(part), ModuleType):
                parts += [vars(part).get(inner) for inner in names]
            else:
                parts.append(part)
    return parts


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was put into it yet
        return None


def _names(code: CodeType) -> tuple[str, ...]:
    """Return the names in the code, also of functions inside it."""
    names = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= dict.fromkeys(_names(constant))
    return tuple(names)


def _attributes(found: object) -> dict[str, object]:
    own: dict[str, object] = {}
    for kind in type(found).__mro__:
        for name, slot in vars(kind).items():
            if isinstance(slot, MemberDescriptorType):
                with contextlib.suppress(AttributeError):  # the slot is empty
                    own[name] = slot.__get__(found)
    with contextlib.suppress(BaseException):  # slots only, a proxy of nothing, or hostile
        own |= vars(found)
    return own
