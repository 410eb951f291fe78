"""One run, for people and for programs: where it is, and how it came there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from redrive.cli.letter_page import actor_of, state_json
from redrive.cli.output import console, visible
from redrive.dead_letter.redacted_text import BUILT_IN
from redrive.dead_letter.states import State
from redrive.redriving.letters_topic import LetterStory
from redrive.redriving.run_stories import EventRecord, RunResult, RunStatus, RunStory

__all__ = ["run_json", "run_page", "where"]


def run_json(story: RunStory) -> dict[str, object]:
    """Return the story for programs, masked; what the graph answered is left out."""
    told = {
        "event_id": story.event_id,
        "where": where(story),
        "events": [_event_json(event) for event in story.events],
        "results": [_result_json(one) for one in story.results],
        "letters": [_letter_json(one) for one in story.letters],
        "unreadable_results": story.unreadable,
    }
    return BUILT_IN.within(told)


def run_page(story: RunStory) -> None:
    """Print where the run is, then what each topic says."""
    screen = console(soft_wrap=True, highlight=False)
    screen.print(Text(f"run {visible(story.event_id)}: {where(story)}", style="bold"))
    _print_part(screen, "event records", (_event_line(event) for event in story.events))
    _print_part(screen, "results", (_result_line(one) for one in story.results))
    letters = (line for one in story.letters for line in _letter_lines(one))
    _print_part(screen, "letters", letters)
    if story.unreadable:
        screen.print(Text(f"\n{story.unreadable} record(s) under this id are not results"))


def where(story: RunStory) -> str:
    """Say in a few words where the run is: what is under way counts before what has ended."""
    for status in (RunStatus.MAY_BE_RUNNING, RunStatus.WAITING):
        under_way = [e for e in story.events if e.progress.status is status]
        if under_way:
            return _tried(status.value, under_way[-1])
    letter = f"; its letter is {story.letters[-1].state.value}" if story.letters else ""
    if story.results:
        return f"ended as {story.results[-1].result.status.value}{letter}"
    return (
        f"given up{letter}" if letter else "ended; its result is older than --since or was deleted"
    )


def _tried(status: str, event: EventRecord) -> str:
    progress = event.progress
    if progress.failed is None:
        return f"{status}; the group's commits say nothing of its attempts"
    tried = f"{progress.failed} attempt(s) failed"
    crashes = f", {progress.crashes} crash(es)" if progress.crashes else ""
    return f"{status}; {tried}{crashes}"


def _event_line(event: EventRecord) -> str:
    at = event.at.isoformat(timespec="seconds") if event.at else "no time"
    count = "unknown" if event.count is None else str(event.count)
    tp = f"{event.tp.topic}/{event.tp.partition}@{event.offset}"
    status = event.progress.status
    state = status.value if status is RunStatus.ENDED else _tried(status.value, event)
    return f"{at}  {tp}  redrive-count {count}: {state}"


def _result_line(one: RunResult) -> str:
    result = one.result
    at = result.timestamp.isoformat(timespec="seconds")
    run = f" after {result.run.attempts} attempt(s)" if result.run else ""
    error = f": {result.error}" if result.error else ""
    return f"{at}  {one.tp.topic}/{one.tp.partition}@{one.offset}  {result.status}{run}{error}"


def _letter_lines(story: LetterStory) -> Iterator[str]:
    letter = story.stored.letter
    at = letter.timestamp.isoformat(timespec="seconds")
    yield f"{at}  {letter.dlq_id}  {story.state.value}"
    error = f"{letter.error.type}: {letter.error.message}"
    yield f"    {letter.kind.value} ({letter.reason.value}), {error}"
    for state in story.states:
        since = state.timestamp.isoformat(timespec="seconds")
        yield f"    {since}  {state.state.value} by {actor_of(state)}"
    if story.state in (State.OPEN, State.PARKED):
        yield f"    redrive dlq show {shlex.quote(letter.dlq_id)}"


def _print_part(screen: Console, title: str, lines: Iterator[str]) -> None:
    whole = list(lines)
    if whole:
        screen.print(Text(f"\n{title}", style="bold"))
        for line in whole:
            first, *more = BUILT_IN.mask(line).split("\n")
            tail = f" (… {len(more)} more lines)" if more else ""
            screen.print(Text(f"  {visible(first)[:2000]}{tail}"))


def _event_json(event: EventRecord) -> dict[str, object]:
    return {
        "topic": event.tp.topic,
        "partition": event.tp.partition,
        "offset": event.offset,
        "timestamp": event.at.isoformat() if event.at else None,
        "redrive_count": event.count,
        "standing": event.progress.status.value,
        "failed": event.progress.failed,
        "crashes": event.progress.crashes,
    }


def _result_json(one: RunResult) -> dict[str, object]:
    return {
        "topic": one.tp.topic,
        "partition": one.tp.partition,
        "offset": one.offset,
        "result": one.result.model_dump(mode="json", exclude={"result"}),
    }


def _letter_json(story: LetterStory) -> dict[str, object]:
    letter = story.stored.letter
    return {
        "dlq_id": letter.dlq_id,
        "partition": story.stored.partition,
        "offset": story.stored.offset,
        "timestamp": letter.timestamp.isoformat(),
        "kind": letter.kind.value,
        "reason": letter.reason.value,
        "node": letter.node,
        "fingerprint": letter.fingerprint,
        "redrive_count": letter.redrive_count,
        "state": story.state.value,
        "states": [state_json(state) for state in story.states],
    }
