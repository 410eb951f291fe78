"""The flags that choose letters, and the query they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:  # these take their time, and `--help` needs none of them
    from datetime import datetime

    from redrive.redriving.query import Query

__all__ = [
    "Fingerprint",
    "Ids",
    "KindName",
    "Node",
    "ReasonName",
    "Since",
    "StateName",
    "Until",
    "Workflow",
    "parse_flag_time",
    "query_of",
]

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]…", help="A dlq_id or an event_id. Repeat.")
]
Workflow = Annotated[str | None, typer.Option(help="Only of this workflow_id.")]
KindName = Annotated[
    str | None, typer.Option("--kind", metavar="KIND", help="transient, permanent, poison, …")
]
ReasonName = Annotated[
    str | None, typer.Option("--reason", metavar="REASON", help="retries_exhausted, deadline, …")
]
Node = Annotated[str | None, typer.Option(help="Only runs that failed in this node.")]
Fingerprint = Annotated[str | None, typer.Option(help="Only of this cause: see `dlq groups`.")]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="From then on: 30m, 2h, 3d ago, or ISO 8601.")
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Before then, in the same way.")]
StateName = Annotated[
    str | None,
    typer.Option(
        "--state", metavar="STATE", help="open, redriven, resolved, discarded, or parked."
    ),
]

_Choice = TypeVar("_Choice", bound=StrEnum)


def query_of(flags: Mapping[str, str | None], ids: list[str] | None, now: datetime) -> Query:
    """Return the query for flags by their names; a value that cannot be is a usage error."""
    from redrive.dead_letter.states import State  # noqa: PLC0415 - keeps `--help` fast
    from redrive.redriving.query import Query  # noqa: PLC0415 - as above
    from redrive.retry.kinds import Kind, Reason  # noqa: PLC0415 - as above

    return Query(
        workflow=flags.get("workflow"),
        kind=_choice(Kind, "kind", flags),
        reason=_choice(Reason, "reason", flags),
        node=flags.get("node"),
        fingerprint=flags.get("fingerprint"),
        since=_time("since", flags, now),
        until=_time("until", flags, now),
        state=_choice(State, "state", flags),
        ids=frozenset(ids or ()),
    )


def parse_flag_time(name: str, text: str, now: datetime) -> datetime:
    """Return the time that a flag names; one that is none is a usage error."""
    from redrive.redriving.query import parse_time  # noqa: PLC0415 - keeps `--help` fast

    try:
        return parse_time(text, now)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"--{name}") from error


def _time(name: str, flags: Mapping[str, str | None], now: datetime) -> datetime | None:
    text = flags.get(name)
    return None if text is None else parse_flag_time(name, text, now)


def _choice(choices: type[_Choice], name: str, flags: Mapping[str, str | None]) -> _Choice | None:
    text = flags.get(name)
    if text is None:
        return None
    try:
        return choices(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is none of {', '.join(choices)}", param_hint=f"--{name}"
        ) from None
