"""Working with dead letters, from the letters topic alone.

`redrive` sends the events of letters back to the workers, `plan` says what it would do, `follow`
tells how their runs end, `move` discards or sets aside. `read_letters` gives a small summary of
every letter, newest first; `Query`, `choose` and `page_of` choose among them, `group` puts those of
one cause together. `find_letters` and `find_stories` give whole letters. Names are imported when
they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redrive.dead_letter.states import State
    from redrive.dead_letter.trend import Trend
    from redrive.redriving.batch_pacing import Pacing
    from redrive.redriving.deciding import Mode, Move, Refusal, Send
    from redrive.redriving.engine import move, plan, redrive
    from redrive.redriving.following import RunEnding, follow
    from redrive.redriving.groups import LetterGroup, Window, group
    from redrive.redriving.jobs import Order
    from redrive.redriving.letters_topic import (
        LetterStory,
        StoredLetter,
        event_id_of,
        find_letters,
        find_stories,
    )
    from redrive.redriving.partition import Entry
    from redrive.redriving.query import Page, Query, choose, page_of, parse_time
    from redrive.redriving.redrive_report import Done, Refused, Report, Step, TakenOver
    from redrive.redriving.selection import Selection
    from redrive.redriving.views import LetterSummary, LettersView, fold, read_letters

__all__ = [
    "Done",
    "Entry",
    "LetterGroup",
    "LetterStory",
    "LetterSummary",
    "LettersView",
    "Mode",
    "Move",
    "Order",
    "Pacing",
    "Page",
    "Query",
    "Refusal",
    "Refused",
    "Report",
    "RunEnding",
    "Selection",
    "Send",
    "State",
    "Step",
    "StoredLetter",
    "TakenOver",
    "Trend",
    "Window",
    "choose",
    "event_id_of",
    "find_letters",
    "find_stories",
    "fold",
    "follow",
    "group",
    "move",
    "page_of",
    "parse_time",
    "plan",
    "read_letters",
    "redrive",
]

_WHERE = {
    "Done": ".redrive_report",
    "Entry": ".partition",
    "LetterGroup": ".groups",
    "LetterStory": ".letters_topic",
    "LetterSummary": ".views",
    "LettersView": ".views",
    "Mode": ".deciding",
    "Move": ".deciding",
    "Order": ".jobs",
    "Pacing": ".batch_pacing",
    "Page": ".query",
    "Query": ".query",
    "Refusal": ".deciding",
    "Refused": ".redrive_report",
    "Report": ".redrive_report",
    "RunEnding": ".following",
    "Selection": ".selection",
    "Send": ".deciding",
    "State": "..dead_letter.states",
    "Step": ".redrive_report",
    "StoredLetter": ".letters_topic",
    "TakenOver": ".redrive_report",
    "Trend": "..dead_letter.trend",
    "Window": ".groups",
    "choose": ".query",
    "event_id_of": ".letters_topic",
    "find_letters": ".letters_topic",
    "find_stories": ".letters_topic",
    "fold": ".views",
    "follow": ".following",
    "group": ".groups",
    "move": ".engine",
    "page_of": ".query",
    "parse_time": ".query",
    "plan": ".engine",
    "read_letters": ".views",
    "redrive": ".engine",
}


if not TYPE_CHECKING:  # else a type checker would take every name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_WHERE[name], __name__), name)
