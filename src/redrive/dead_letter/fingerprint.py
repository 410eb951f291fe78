"""The fingerprint: a short, stable hash of a failure; equal causes share one, others do not.

docs/dead-letters.md tells how it is made. Whoever changes what goes into it changes `_VERSION`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from types import CodeType, FrameType, TracebackType

from pydantic import ValidationError

from redrive.dead_letter.normalise import normalised
from redrive.dead_letter.redacted_text import BUILT_IN, Redactor, message_of, qualified
from redrive.errors import RecordError
from redrive.retry.kinds import Kind
from redrive.retry.rules.http import status_of
from redrive.retry.rules.rule_verdict import cause_of, look_str, members_of, trace_of

__all__ = ["fingerprint", "fingerprint_of_type"]

_VERSION = "v1"
_HEX_CHARS = 16
# Longer texts say no more of a cause, only more of its values.
_MOST_CHARS = 4_096
_MOST_LINKS = 50
_MOST_MEMBERS = 50
_OF_FRAMEWORKS = frozenset({"redrive", "langgraph", "langgraph_sdk", "langsmith"})
_INSTALLED = ("site-packages", "dist-packages")
# Frames of their own before Python 3.12.
_INLINED = (".<locals>.<listcomp>", ".<locals>.<dictcomp>", ".<locals>.<setcomp>")


def fingerprint(
    error: BaseException,
    *,
    kind: Kind,
    node: str | None,
    workflow_id: str | None,
    redactor: Redactor = BUILT_IN,
) -> str:
    """Return the fingerprint of a failure: `v1:` and 16 hexadecimal digits.

    It does not depend on values, ids, addresses, times, line numbers, nor on frames of libraries.
    What went wrong is taken from the root: through `raise … from`, and groups of one member.
    """
    try:
        return _hash(error, kind, node, workflow_id, redactor)
    except BaseException:  # noqa: BLE001 - what it is made of is the user's
        return fingerprint_of_type(error, kind=kind, node=node, workflow_id=workflow_id)


def fingerprint_of_type(
    error: BaseException, *, kind: Kind, node: str | None, workflow_id: str | None
) -> str:
    """Return the fingerprint of a failure of which nothing but its type can be had."""
    return _digest([kind.value, qualified(error), node, workflow_id])


def _hash(
    error: BaseException,
    kind: Kind,
    node: str | None,
    workflow_id: str | None,
    redactor: Redactor,
) -> str:
    chain = _to_root(error)
    parts = [
        kind.value,
        qualified(error),
        *_of_root(chain[-1], redactor),
        _user_frame(chain),
        node,
        workflow_id,
    ]
    return _digest(parts)


def _digest(parts: list[str | None]) -> str:
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return f"{_VERSION}:{digest[:_HEX_CHARS]}"


def _to_root(error: BaseException) -> list[BaseException]:
    chain, at = [error], _behind(error)
    while at is not None and len(chain) < _MOST_LINKS and all(at is not seen for seen in chain):
        chain.append(at)
        at = _behind(at)
    return chain


def _behind(error: BaseException) -> BaseException | None:
    if isinstance(error, RecordError):
        return None
    members = members_of(error)
    return members[0] if len(members) == 1 else cause_of(error)


def _of_root(root: BaseException, redactor: Redactor) -> list[str | None]:
    """Return its type, the code that it carries, and its text without values."""
    if isinstance(root, RecordError):
        return [qualified(root), *_field(root)]
    text = redactor.mask(message_of(root)[:_MOST_CHARS])
    return [qualified(root), _code(root), normalised(text), *_members(root)]


def _field(error: RecordError) -> tuple[str, str | None]:
    """Return the field that cannot be read, and by which rule: no part of a foreign record."""
    rule = None
    if isinstance(error.__cause__, ValidationError):
        rule = error.__cause__.errors(include_url=False, include_input=False)[0]["type"]
    return normalised(error.field or ""), rule


def _code(error: BaseException) -> str | None:
    """Return the status, the SQLSTATE or the errno: a number that is no mere value."""
    status = status_of(error)
    if status is not None:
        return str(status)
    for name in ("sqlstate", "pgcode", "sqlite_errorname"):
        found = look_str(error, name)
        if found is not None:
            return found
    return str(error.errno) if isinstance(error, OSError) and error.errno else None


def _members(error: BaseException) -> list[str]:
    roots = (_to_root(member)[-1] for member in members_of(error)[:_MOST_MEMBERS])
    return sorted({qualified(root) for root in roots})


def _user_frame(chain: list[BaseException]) -> str | None:
    """Return module and function of the user's code that is nearest to the cause.

    Where all of it is installed, as agents in wheels are, it is the function that was called first:
    the node's own.
    """
    installed = None
    for error in reversed(chain):
        own = None
        for frame in _frames(trace_of(error)):
            named = frame.f_globals.get("__name__")
            module = named if isinstance(named, str) else ""
            if _is_foreign(module):
                continue
            code = frame.f_code
            if not any(folder in code.co_filename for folder in _INSTALLED):
                own = _named(module, code)
            elif installed is None:
                installed = _named(module, code)
        if own is not None:
            return own
    return installed


def _frames(trace: TracebackType | None) -> Iterator[FrameType]:
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _is_foreign(module: str) -> bool:
    package = module.partition(".")[0]
    return (
        package in _OF_FRAMEWORKS
        or package.startswith("langchain")
        or package in sys.stdlib_module_names
    )


def _named(module: str, code: CodeType) -> str:
    name = code.co_qualname
    for suffix in _INLINED:
        name = name.removesuffix(suffix)
    return f"{module}.{name}"
