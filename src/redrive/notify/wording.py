"""From a report to a message in words: what failed, where, since when, how often, where to look.

Whatever comes from a failure is masked once more, put on one line and cut, and it can address
nobody (`@channel`). [P15]
"""

from __future__ import annotations

import re
import shlex
from datetime import datetime, timedelta

from redrive.dead_letter.trend import Trend
from redrive.notify.message import Message, MessageLevel
from redrive.notify.notice import LetterNotice, Trouble
from redrive.notify.reports import AlarmReport, CauseReport, OthersReport, Report
from redrive.telemetry.redactor import Redactor
from redrive.units import format_duration

__all__ = ["Wording"]

_NAME_CHARS = 120
_TEXT_CHARS = 500
_TITLE_CHARS = 200
_TITLES = {
    Trouble.MANY_LETTERS: "many dead letters",
    Trouble.SPOOLED: "Kafka does not accept dead letters: they are spooled",
    Trouble.NOT_SPOOLED: "dead letters can be neither stored nor spooled",
    Trouble.CRASH_LOOP: "a worker keeps dying",
}
_LOOK = "See: redrive dlq groups"
# What chat services read as an address to people, or as a link with a text of its own.
_ACTIVE = re.compile(r"@(?=\w)|<(?=[!@#/a-zA-Z])|\](?=\()")


class Wording:
    """Puts reports of one worker into words.

    Args:
        redactor: Masks secrets, those of the user's own patterns among them.
        since: When this worker began: it knows of nothing before.
        window: The window, for people.
    """

    def __init__(self, redactor: Redactor, *, since: datetime, window: timedelta) -> None:
        self._redactor = redactor
        self._since = since
        self._window = format_duration(window)

    def message(self, report: Report) -> Message:
        """Say what the report says."""
        match report:
            case CauseReport():
                return self._cause(report)
            case OthersReport():
                return self._others(report)
            case AlarmReport():
                return self._alarm(report)

    def _cause(self, report: CauseReport) -> Message:
        new, letter = report.told.new, report.told.new.last
        told = report.trend in (Trend.NEW, Trend.RISING)
        mark = f" ({report.trend.value})" if told else ""
        runs = "" if new.count == 1 else f", {new.count} runs"
        body = [
            f"{self._where(letter)}: {letter.reason.value} ({letter.kind.value})",
            self._error(letter),
            "",
            self._how_often(report),
            self._trend(report),
            f"Worker: {self._plain(letter.worker, _NAME_CHARS)}{self._version(letter)}",
            "",
            _LOOK,
            f"      redrive dlq show {letter.dlq_id}",
            f"Redrive: {self._drive(letter)} --dry-run",
        ]
        title = f"{self._where(letter)} fails: {self._plain(letter.error_type, _NAME_CHARS)}"
        return self._made(f"{title}{runs}{mark}", body, MessageLevel.FAILURE, new.count)

    def _how_often(self, report: CauseReport) -> str:
        told = report.told
        new = told.new
        if told.opens and new.count == 1:
            return f"1 run, at {_time(new.first.at)}. More of the same follow as one message."
        span = f"{_runs(new.count)} between {_time(new.first.at)} and {_time(new.last.at)}"
        if told.in_window == new.count:
            return f"{span}."
        return f"{span}; {told.in_window} in this window, counting those reported before."

    def _trend(self, report: CauseReport) -> str:
        letter, known = report.told.new.last, report.known
        line = ""
        if report.trend is Trend.RISING:
            line = (
                f"Rising: {report.told.in_window} within {self._window}, "
                f"{report.told.previous} in the {self._window} before. "
            )
        if known is None:
            return f"{line}Fingerprint {letter.cause.fingerprint}."
        word = "New since" if report.trend is Trend.NEW else "Known since"
        node = f", node {self._plain(letter.node, _NAME_CHARS)}" if letter.node else ""
        version = known.first_version
        first = (
            f", first seen with graph version {self._plain(version, _NAME_CHARS)}"
            if version
            else ""
        )
        return (
            f"{line}{word} {_time(known.since)}: {_runs(known.total)}{node}{first}. "
            f"This worker is up since {_time(self._since)}."
        )

    def _others(self, report: OthersReport) -> Message:
        new = report.told.new
        body = [
            f"Too many causes within {self._window}: these have no message of their own.",
            f"{_runs(new.count)} between {_time(new.first.at)} and {_time(new.last.at)}.",
            f"The last one: {self._where(new.last)}",
            self._error(new.last),
            f"Worker: {self._plain(new.last.worker, _NAME_CHARS)}",
            "",
            _LOOK,
        ]
        return self._made(
            f"{_runs(new.count)} failed of other causes", body, MessageLevel.FAILURE, new.count
        )

    def _alarm(self, report: AlarmReport) -> Message:
        told, alarm = report.told, report.told.new.last
        body = [self._happened(report)]
        if alarm.detail:
            body.append(self._plain(alarm.detail, _TEXT_CHARS))
        body += [f"Worker: {self._plain(alarm.worker, _NAME_CHARS)}", "", *_advice(alarm.trouble)]
        more = "" if told.opens else f" ({told.in_window} within {self._window})"
        return self._made(f"{_TITLES[alarm.trouble]}{more}", body, MessageLevel.WARNING, 0)

    def _happened(self, report: AlarmReport) -> str:
        told, trouble = report.told, report.told.new.last.trouble
        since, until = _time(told.new.first.at), _time(told.new.last.at)
        match trouble:
            case Trouble.MANY_LETTERS:
                before = "" if told.opens else "more "
                return f"{told.new.count} {before}letters between {since} and {until}."
            case Trouble.SPOOLED:
                return f"{told.new.count} letters were spooled between {since} and {until}."
            case Trouble.NOT_SPOOLED:
                return f"{told.new.count} letters wait in memory only, {since} to {until}."
            case Trouble.CRASH_LOOP:
                return f"It keeps dying, the last time at {until}."

    def _where(self, letter: LetterNotice) -> str:
        workflow = self._plain(letter.workflow_id or "unreadable event", _NAME_CHARS)
        return workflow + (f", node {self._plain(letter.node, _NAME_CHARS)}" if letter.node else "")

    def _error(self, letter: LetterNotice) -> str:
        text = self._plain(letter.message, _TEXT_CHARS)
        return f"{self._plain(letter.error_type, _NAME_CHARS)}: {text}"

    def _version(self, letter: LetterNotice) -> str:
        version = letter.graph_version
        return f", graph version {self._plain(version, _NAME_CHARS)}" if version else ""

    def _drive(self, letter: LetterNotice) -> str:
        if letter.fingerprint is not None:
            return f"redrive dlq redrive --fingerprint {shlex.quote(letter.fingerprint)}"
        return f"redrive dlq redrive {shlex.quote(letter.dlq_id)}"

    def _plain(self, text: str, limit: int) -> str:
        return plain(self._redactor.excerpt(text, limit))

    def _made(self, title: str, lines: list[str], level: MessageLevel, failures: int) -> Message:
        head = f"redrive: {title}"
        head = head if len(head) <= _TITLE_CHARS else f"{head[: _TITLE_CHARS - 1]}…"
        return Message(head, "\n".join(lines), level, failures)


def plain(text: str) -> str:
    """Return foreign text on one line, such that no chat service finds anything in it to obey."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return _ACTIVE.sub(lambda found: f"{found[0]}\u200b", " ".join(shown.split()))


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _advice(trouble: Trouble) -> list[str]:
    match trouble:
        case Trouble.MANY_LETTERS:
            return [_LOOK]
        case Trouble.SPOOLED | Trouble.NOT_SPOOLED:
            return [
                "Nothing is dropped: each letter waits, and with it its event's offset.",
                "See: redrive topics verify",
            ]
        case Trouble.CRASH_LOOP:
            return [
                "See: the worker's log, event supervisor.child_died",
                "      redrive dlq groups",
            ]
