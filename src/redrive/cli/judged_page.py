"""One judged error, for people and for programs: its kind, its rule, its retries and their end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from redrive.cli.output import console, visible
from redrive.retry import Failure
from redrive.retry.outlook import Outlook, OutlookWait

__all__ = ["Judged", "judged_json", "judged_page"]

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Judged:
    """An error's class, how it was judged, and what follows by the policy of `graph`, or of all."""

    error: str
    failure: Failure
    graph: str | None
    outlook: Outlook


def judged_json(judged: Judged) -> dict[str, object]:
    """Return it for programs. Delays are in seconds."""
    failure, end = judged.failure, judged.outlook.end
    return {
        "error": judged.error,
        "kind": failure.kind.value,
        "rule": failure.rule,
        "why": failure.why,
        "retry_after_s": failure.retry_after,
        "graph": judged.graph,
        "retries": [
            {"least_s": round(wait.least_s, 3), "most_s": round(wait.most_s, 3)}
            for wait in judged.outlook.waits
        ],
        "ends": {"reason": end.reason.value, "why": end.why},
    }


def judged_page(judged: Judged) -> None:
    """Print it for people."""
    grid = Table.grid(padding=(0, 2))
    for name, value in _facts(judged):
        grid.add_row(Text(name, style="bold"), Text(visible(value)))
    console(soft_wrap=True, highlight=False).print(grid)


def _facts(judged: Judged) -> Iterator[tuple[str, str]]:
    failure, waits, end = judged.failure, judged.outlook.waits, judged.outlook.end
    yield "error", judged.error
    yield "kind", failure.kind.value
    yield "why", failure.why
    yield "rule", failure.rule
    asked = failure.retry_after
    yield "Retry-After", "none" if asked is None else f"{asked:.6g} s"
    own = "" if judged.graph is None else f", with what [graphs.{judged.graph}.retry] gives"
    yield "policy", f"[retry]{own}"
    yield "retries", _told(waits) if waits else "none"
    yield "then", f"a dead letter with reason {end.reason.value} ({end.why})"


def _told(waits: tuple[OutlookWait, ...]) -> str:
    shown = [_between(wait) for wait in waits[:_SHOWN]]
    if len(waits) > _SHOWN:
        shown.append(f"and so on, the last after {_between(waits[-1])}")
    return f"{len(waits)}, after {', '.join(shown)}"


def _between(wait: OutlookWait) -> str:
    least, most = f"{wait.least_s:.4g}", f"{wait.most_s:.4g}"
    return f"{least} s" if least == most else f"{least} to {most} s"
