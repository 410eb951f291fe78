"""The names of LangGraph threads, and of whose they are.

A thread is an event's own, or a producer has named it; a name may be that of a scope alone.

Whoever writes events chooses names freely, so none of them may be, or be read as, one of ours: that
would be another event's thread, or another tenant's.
"""

from __future__ import annotations

import json
import re
import unicodedata
from urllib.parse import quote, unquote
from uuid import UUID

from redrive.json_texts import parsed_json

__all__ = [
    "is_own_thread",
    "own_thread",
    "owner_in",
    "owner_text",
    "producers_name",
    "scoped_thread",
]

# Of an own thread, behind its event's id; and of what might pass for one.
_NUMBERS = re.compile(r"/[0-9]+/[0-9]+")
_LIKE_OWN = re.compile(r"(?P<event>[^/]+)/\s*\d+\s*/\s*\d+")
_LIKE_SCOPED = re.compile(r"scope:[^=/]+=[^/]*/.*", re.DOTALL)
_MOST_ESCAPES = 3


def own_thread(event_id: str, partition: int, generation: int = 0) -> str:
    """Return the thread of an event that names none.

    The partition is part of it, so that two records of one event on two partitions never share it.
    """
    return f"{event_id}/{partition}/{generation}"


def is_own_thread(thread_id: str, event_id: str) -> bool:
    """Say whether a thread is this event's own, of whichever partition and generation."""
    if not thread_id.startswith(event_id):
        return False
    return _NUMBERS.fullmatch(thread_id, len(event_id)) is not None


def producers_name(name: str | None) -> str | None:
    """Return the name that a producer gave to its thread, or None where it has given none.

    A name of the form of our threads is none, however it is written: some checkpointers take
    names for equal that differ in case, in blanks or in the form of their characters.
    """
    if not name:
        return None
    plain = _plain(name)
    is_ours = _is_like_own(name) or _is_like_own(plain) or _LIKE_SCOPED.fullmatch(plain)
    return None if is_ours else name


def scoped_thread(path: str, value: str, name: str) -> str:
    """Return the thread that producers of one scope call by a name of theirs."""
    return f"scope:{path}={quote(value, safe='')}/{name}"


def owner_text(workflow: str) -> str:
    """Return a workflow's id for the metadata of checkpoints: LangGraph drops null characters."""
    return json.dumps(workflow)


def owner_in(text: object) -> str | None:
    """Return the workflow that stored a checkpoint; None where that is not known."""
    if not isinstance(text, str):
        return None
    try:
        owner = parsed_json(text)
    except ValueError:
        return None
    return owner if isinstance(owner, str) else None


def _plain(name: str) -> str:
    """Return a name as it might be read: without escapes, odd characters, case and blanks."""
    for _ in range(_MOST_ESCAPES):
        if "%" not in name:
            break
        name = unquote(name)
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name)
        name = "".join(c for c in name if unicodedata.category(c) != "Cf")
    return name.replace("\0", "").strip().casefold()


def _is_like_own(name: str) -> bool:
    found = _LIKE_OWN.fullmatch(name)
    # An id may be of 31 digits and a blank, as Python reads numbers.
    return found is not None and any(map(_is_event_id, (found["event"], found["event"].strip())))


def _is_event_id(text: str) -> bool:
    """Say whether an event may have this id: as events are read, and that is generous."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True
