"""One dead letter, for people and for programs; by default the event in it is masked."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from redrive.dead_letter.record import DeadLetter
from redrive.redriving.letters import StoredLetter, event_id_of
from redrive.units import format_duration

__all__ = ["letter_json", "letter_page"]

MASK = "•••"
_PLAIN = frozenset(
    {"event_id", "event_type", "timestamp", "source", "workflow_id", "workflow_run_id"}
)
_OURS = ("redrive-", "traceparent")


def letter_json(stored: StoredLetter, *, topic: str, reveal: bool) -> dict[str, object]:
    """Return the letter as on its topic, with where it lies; masked bytes are null. [P15]."""
    letter = stored.letter if reveal else _masked(stored.letter)
    place = {"topic": topic, "partition": stored.partition, "offset": stored.offset}
    return {
        "event_id": event_id_of(stored.letter),
        "stored": place,
        "masked": not reveal,
        "letter": letter.model_dump(mode="json"),
    }


def letter_page(stored: StoredLetter, *, topic: str, reveal: bool) -> None:
    """Print the letter: why first, then where it came from, then how to go on."""
    console = Console(soft_wrap=True, highlight=False)
    letter = stored.letter if reveal else _masked(stored.letter)
    grid = Table.grid(padding=(0, 2))
    for name, value in _facts(stored, letter, topic):
        grid.add_row(Text(name, style="bold"), Text(value))
    console.print(grid)
    _print_part(console, "attempts", _attempts(letter))
    _print_part(console, "causes, the root first", _causes(letter))
    _print_part(console, "event", _event(stored, letter, reveal=reveal))
    _print_part(console, "go on with", _commands(stored.letter, reveal=reveal))


def _facts(stored: StoredLetter, letter: DeadLetter, topic: str) -> Iterator[tuple[str, str]]:
    source = letter.source
    yield "letter", letter.dlq_id
    yield "why", f"{letter.kind.value} ({letter.reason.value})"
    yield "error", f"{letter.error.type}: {letter.error.message}"
    yield "node", letter.node or "none"
    yield "workflow", letter.context.workflow_id or "unknown"
    yield "event", event_id_of(stored.letter) or "its id cannot be read"
    yield "given up", letter.timestamp.isoformat()
    yield "came from", f"{source.topic}/{source.partition}@{source.offset}"
    yield "lies at", f"{topic}/{stored.partition}@{stored.offset}"
    yield "redriven", f"{letter.redrive_count} time(s)"
    if letter.checkpoint is not None:
        place = letter.checkpoint.checkpoint_id or "its latest checkpoint"
        yield "stopped at", f"thread {letter.checkpoint.thread_id}, {place}"


def _attempts(letter: DeadLetter) -> Iterator[str]:
    for attempt in letter.attempts:
        took = format_duration(attempt.ended_at - attempt.started_at)
        yield (
            f"{attempt.number}. {attempt.started_at.isoformat()} for {took} on {attempt.worker}: "
            f"{attempt.kind.value}, {attempt.type}: {attempt.message}"
        )


def _causes(letter: DeadLetter) -> Iterator[str]:
    for cause in letter.cause_chain:
        yield f"{cause.type}: {cause.message}"


def _event(stored: StoredLetter, letter: DeadLetter, *, reveal: bool) -> Iterator[str]:
    size = len(stored.letter.source.value or b"")
    if not reveal:
        yield f"{size} bytes, masked: --reveal shows them"
    elif letter.original_event is not None:
        yield from json.dumps(letter.original_event, ensure_ascii=False, indent=2).splitlines()
    else:
        yield repr(letter.source.value)


def _commands(letter: DeadLetter, *, reveal: bool) -> Iterator[str]:
    if not reveal:
        yield f"redrive dlq show {letter.dlq_id} --reveal    # see the event too"
    if letter.original_event is None or letter.context.workflow_id is None:
        return
    yield (
        f"redrive dlq show {letter.dlq_id} --json --reveal "
        "| jq .letter.original_event.payload.data > data.json"
    )
    yield (
        f"redrive send {letter.context.workflow_id} --data @data.json --wait"
        "    # run it again from the start, as a new event"
    )


def _print_part(console: Console, title: str, lines: Iterator[str]) -> None:
    whole = list(lines)
    if whole:
        console.print(Text(f"\n{title}", style="bold"))
        for line in whole:
            console.print(Text(f"  {line}"))


def _masked(letter: DeadLetter) -> DeadLetter:
    """Hide what the producer wrote: value, parsed form, foreign headers, a key of its own."""
    source = letter.source
    own_key = (event_id_of(letter) or "").encode()
    hidden = source.model_copy(
        update={
            "value": None,
            "key": source.key if source.key == own_key else None,
            "headers": [(n, v if n.startswith(_OURS) else None) for n, v in source.headers],
        }
    )
    event = letter.original_event
    if event is not None:
        event = {name: v if name in _PLAIN else _shape(v) for name, v in event.items()}
    return letter.model_copy(update={"source": hidden, "original_event": event})


def _shape(value: object) -> object:
    """Keep the names, hide what they hold."""
    if isinstance(value, dict):
        return {name: _shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shape(inner) for inner in value]
    return MASK
