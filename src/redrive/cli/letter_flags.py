"""The flags that choose letters, say who works on them and why, and what they stand for."""

from __future__ import annotations

import getpass
import socket
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, TypeVar

import typer

from redrive.dead_letter.states import State
from redrive.redriving.query import Query, parse_time
from redrive.redriving.selection import Selection
from redrive.retry.kinds import Kind, Reason

__all__ = [
    "Acting",
    "All",
    "CauseFilter",
    "Ids",
    "StateFilter",
    "Yes",
    "parse_flag_time",
    "query_of",
    "selected",
]

Ids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ID", help="A dlq_id or an event_id. Can be repeated.", show_default=False
    ),
]
All = Annotated[
    bool, typer.Option("--all", help="All letters; needed if no id and no filter is given.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]

_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class CauseFilter:
    """Which letters, by what they are."""

    workflow: Annotated[
        str | None, typer.Option(metavar="ID", help="Only letters of this workflow.")
    ] = None
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="Only letters of this kind: transient, permanent, poison, …"
        ),
    ] = None
    reason: Annotated[
        str | None,
        typer.Option(
            metavar="REASON", help="Only letters with this reason: retries_exhausted, deadline, …"
        ),
    ] = None
    node: Annotated[
        str | None, typer.Option(help="Only letters of runs that failed in this node.")
    ] = None
    fingerprint: Annotated[
        str | None, typer.Option(help="Only letters with this cause, as `dlq groups` shows it.")
    ] = None


@dataclass(frozen=True, slots=True)
class StateFilter:
    """Which letters, by when they came and what became of them."""

    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Only letters from this time on: 30m, 2h, 3d ago, or ISO 8601."
        ),
    ] = None
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Only letters from before this time: 30m, 2h, 3d ago, or ISO 8601."
        ),
    ] = None
    state: Annotated[
        str | None,
        typer.Option(
            metavar="STATE",
            help="Only letters in this state: open, redriven, resolved, discarded or parked.",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Acting:
    """Who works on letters, and why: for the record."""

    why: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The reason, recorded with the letters.")
    ] = None
    actor: Annotated[
        str | None, typer.Option(help="The person or system to record. Default: user@host.")
    ] = None

    @property
    def who(self) -> str:
        """The actor, or whoever runs this."""
        if self.actor:
            return self.actor
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container's user may have no name
            user = "unknown"
        return f"{user}@{socket.gethostname()}"


def query_of(
    causes: CauseFilter, status: StateFilter, ids: list[str] | None, now: datetime
) -> Query:
    """Return the query that the flags stand for; a value that cannot be is a usage error."""
    return Query(
        workflow=causes.workflow,
        kind=_choice(Kind, "kind", causes.kind),
        reason=_choice(Reason, "reason", causes.reason),
        node=causes.node,
        fingerprint=causes.fingerprint,
        since=_time("since", status.since, now),
        until=_time("until", status.until, now),
        state=_choice(State, "state", status.state),
        ids=frozenset(ids or ()),
    )


def selected(ids: list[str] | None, causes: CauseFilter, *, everything: bool) -> Selection:
    """Return which letters the flags mean; that all are, has to be said."""
    if not ids and not everything and causes == CauseFilter():
        raise typer.BadParameter(
            "name letters by id or by a filter, or give --all", param_hint="ID"
        )
    return Selection(
        ids=frozenset(ids) if ids else None,
        fingerprint=causes.fingerprint,
        workflow=causes.workflow,
        kind=_choice(Kind, "kind", causes.kind),
        reason=_choice(Reason, "reason", causes.reason),
        node=causes.node,
    )


def parse_flag_time(name: str, text: str, now: datetime) -> datetime:
    """Return the time that a flag names; one that is none is a usage error."""
    try:
        return parse_time(text, now)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"--{name}") from error


def _time(name: str, text: str | None, now: datetime) -> datetime | None:
    return None if text is None else parse_flag_time(name, text, now)


def _choice(choices: type[_Choice], name: str, text: str | None) -> _Choice | None:
    if text is None:
        return None
    try:
        return choices(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is none of {', '.join(choices)}", param_hint=f"--{name}"
        ) from None
