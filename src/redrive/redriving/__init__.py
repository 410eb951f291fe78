"""Working with dead letters, from the letters topic alone.

`read_letters` gives a small summary of every letter, newest first; `Query`, `choose` and `page_of`
choose among them, `group` puts those of one cause together. `find_letters` and `find_stories` give
whole letters. Names are imported when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redrive.redriving.groups import LetterGroup, Trend, group
    from redrive.redriving.letters import (
        LetterStory,
        StoredLetter,
        event_id_of,
        find_letters,
        find_stories,
    )
    from redrive.redriving.query import Page, Query, choose, page_of, parse_time
    from redrive.redriving.views import LetterSummary, LettersView, fold, read_letters

__all__ = [
    "LetterGroup",
    "LetterStory",
    "LetterSummary",
    "LettersView",
    "Page",
    "Query",
    "StoredLetter",
    "Trend",
    "choose",
    "event_id_of",
    "find_letters",
    "find_stories",
    "fold",
    "group",
    "page_of",
    "parse_time",
    "read_letters",
]

_WHERE = {
    "LetterGroup": "groups",
    "LetterStory": "letters",
    "LetterSummary": "views",
    "LettersView": "views",
    "Page": "query",
    "Query": "query",
    "StoredLetter": "letters",
    "Trend": "groups",
    "choose": "query",
    "event_id_of": "letters",
    "find_letters": "letters",
    "find_stories": "letters",
    "fold": "views",
    "group": "groups",
    "page_of": "query",
    "parse_time": "query",
    "read_letters": "views",
}


if not TYPE_CHECKING:  # else a type checker would take every name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
