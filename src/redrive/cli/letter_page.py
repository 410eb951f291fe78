"""One dead letter, for people and for programs; by default the event in it is masked."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from redrive.cli.output import console, visible
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.redacted_text import BUILT_IN
from redrive.dead_letter.states import LetterState, State
from redrive.dead_letter.vouching import Vouched
from redrive.json_texts import parsed_json
from redrive.payloads import CLEAR, Payloads
from redrive.redriving.decrypted_stories import OpenedStory, open_story
from redrive.redriving.letters_topic import LetterStory, event_id_of
from redrive.units import format_duration

__all__ = ["actor_of", "letter_json", "letter_page", "state_json"]

MASK = "•••"
MAX_LINE_CHARS = 2_000
MAX_TRACEBACK_LINES = 20
_NAME_CHARS = 11
_PLAIN = frozenset(
    {"event_id", "event_type", "timestamp", "source", "workflow_id", "workflow_run_id"}
)
_OURS = ("redrive-", "traceparent")


def letter_json(
    story: LetterStory, *, topic: str, reveal: bool, payloads: Payloads = CLEAR
) -> dict[str, object]:
    """Return the letter as on its topic, with where it lies; masked bytes are null. [P15].

    Texts that are encrypted, and the parsed event, stand there as they were decoded; the bytes of
    its source are those of the topic.
    """
    opened = open_story(story, payloads)
    stored = opened.story.stored
    letter = stored.letter if reveal else _masked(stored.letter)
    if reveal and (event := _parsed(opened)) is not None:
        letter = letter.model_copy(update={"original_event": event})
    place = {"topic": topic, "partition": stored.partition, "offset": stored.offset}
    states = [state_json(state) for state in story.states]
    return {
        "event_id": event_id_of(stored.letter),
        "stored": place,
        "signed_by": stored.signed_by,
        "vouched": stored.vouched.value,
        "state": story.state.value,
        "states": states if reveal else [BUILT_IN.within(state) for state in states],
        "masked": not reveal,
        "encrypted": _encrypted(opened),
        "letter": letter.model_dump(mode="json"),
    }


def _encrypted(opened: OpenedStory) -> dict[str, object] | None:
    if opened.texts_sealed is None and opened.event_sealed is None:
        return None
    return {
        "texts": opened.texts_sealed,
        "event": opened.event_sealed,
        "decoded": opened.why is None,
        "why_not": opened.why,
    }


def _parsed(opened: OpenedStory) -> dict[str, object] | None:
    """Return the event as it was decoded, if it was, and can be parsed."""
    try:
        found = None if opened.event is None else parsed_json(opened.event)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def letter_page(
    story: LetterStory, *, topic: str, reveal: bool, payloads: Payloads = CLEAR
) -> None:
    """Print the letter: why first, then where it came from, then how to go on."""
    opened = open_story(story, payloads)
    story = opened.story
    # Lines are never wrapped by us, so that what is copied from them is whole.
    screen = console(soft_wrap=True, highlight=False)
    whole = story.stored.letter
    letter = whole if reveal else _masked(whole)
    for name, value in (*_facts(story, letter, topic), *_encryption(opened)):
        first, *more = _lines(value)
        screen.print(Text.assemble((name.ljust(_NAME_CHARS), "bold"), first))
        for line in more:
            screen.print(Text(" " * _NAME_CHARS + line))
    _print_part(screen, "cause chain, root cause first", _causes(letter))
    _print_part(screen, "attempts", _attempts(letter))
    _print_part(screen, "traceback", _traceback(letter))
    _print_part(screen, "event", _event(opened, letter, reveal=reveal))
    _print_part(screen, "history", _history(story, reveal=reveal))
    _print_part(screen, "next steps", _commands(story, reveal=reveal))


def _facts(story: LetterStory, letter: DeadLetter, topic: str) -> Iterator[tuple[str, str]]:
    stored, source = story.stored, letter.source
    yield "letter", letter.dlq_id
    yield "state", story.state.value
    if stored.vouched is Vouched.LETTER_NOT:
        yield "signed", "by no trusted key: if you vouch for it, name it by its dlq_id"
    elif stored.signed_by is not None:
        yield "signed", f"by key {stored.signed_by}"
    yield "why", f"{letter.kind.value} ({letter.reason.value})"
    yield "error", f"{letter.error.type}: {letter.error.message}"
    yield "node", letter.node or "none"
    yield "workflow", letter.context.workflow_id or "unknown"
    yield "event", event_id_of(stored.letter) or "unknown: its id cannot be read"
    yield "cause", letter.fingerprint or "no fingerprint"
    yield "given up", letter.timestamp.isoformat()
    yield "source", f"{source.topic}/{source.partition}@{source.offset}"
    yield "stored at", f"{topic}/{stored.partition}@{stored.offset}"
    yield "redriven", f"{letter.redrive_count} time(s)"
    if letter.deadline is not None:
        yield "deadline", letter.deadline.isoformat()
    if letter.graph is not None:
        yield "graph", f"{letter.graph.name}, version {letter.graph.version or 'unknown'}"
    if letter.checkpoint is not None:
        place = letter.checkpoint.checkpoint_id or "the latest checkpoint"
        yield "stopped at", f"thread {letter.checkpoint.thread_id}, {place}"


def _causes(letter: DeadLetter) -> Iterator[str]:
    for cause in letter.cause_chain:
        yield f"{cause.type}: {cause.message}"


def _attempts(letter: DeadLetter) -> Iterator[str]:
    if not letter.attempts:
        return
    rows = [("#", "STARTED", "TOOK", "KIND", "NEXT IN", "WORKER")]
    rows += [
        (
            str(attempt.number),
            attempt.started_at.strftime("%Y-%m-%d %H:%M:%S"),
            format_duration(attempt.ended_at - attempt.started_at),
            attempt.kind.value,
            "-" if attempt.delay_s is None else f"{attempt.delay_s:g}s",
            attempt.worker,
        )
        for attempt in letter.attempts
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    yield lines[0]
    for line, attempt in zip(lines[1:], letter.attempts, strict=True):
        yield line
        yield f"{' ' * widths[0]}  {attempt.type}: {attempt.message}"


def _traceback(letter: DeadLetter) -> Iterator[str]:
    lines = (letter.error.traceback or "").rstrip().splitlines()
    left_out = len(lines) - MAX_TRACEBACK_LINES
    if left_out > 0:
        yield f"({left_out} more lines above: --json has them)"
    yield from lines[-MAX_TRACEBACK_LINES:]


def _encryption(opened: OpenedStory) -> Iterator[tuple[str, str]]:
    """Say what of it is encrypted, and why it is not shown."""
    parts = {"texts": opened.texts_sealed, "event": opened.event_sealed}
    told = [f"{name} as {label!r}" for name, label in parts.items() if label is not None]
    if told:
        yield "encrypted", ", ".join(told)
    if opened.why is not None:
        yield "not decoded", opened.why


def _event(opened: OpenedStory, letter: DeadLetter, *, reveal: bool) -> Iterator[str]:
    whole = opened.story.stored.letter
    size, left_out = len(whole.source.value or b""), whole.source.left_out
    if left_out is not None:
        source = whole.source
        yield (
            f"{left_out.value_bytes} bytes, {left_out.headers} header(s): too large for a letter. "
            f"It is at {source.topic}/{source.partition}@{source.offset} "
            "until the topic's retention deletes it"
        )
        yield f"it begins with {left_out.excerpt!r}" if reveal else "--reveal shows its beginning"
    elif not reveal:
        yield f"{size} bytes, masked: --reveal shows them"
    elif (event := _parsed(opened) or letter.original_event) is not None:
        yield from json.dumps(event, ensure_ascii=False, indent=2).splitlines()
    else:
        yield repr(letter.source.value)


def _history(story: LetterStory, *, reveal: bool) -> Iterator[str]:
    for state in story.states:
        how = f", {state.mode}" if state.mode else ""
        reason = state.reason if reveal or not state.reason else BUILT_IN.mask(state.reason)
        why = f": {reason}" if reason else ""
        who = actor_of(state, reveal=reveal)
        yield f"{state.timestamp.isoformat()}  {state.state.value}{how} by {who}{why}"


def _commands(story: LetterStory, *, reveal: bool) -> Iterator[str]:
    letter = story.stored.letter
    # What is copied goes into a shell, and the id is whatever its writer chose.
    dlq_id, event_id = shlex.quote(letter.dlq_id), event_id_of(letter)
    if not reveal:
        yield f"redrive dlq show {dlq_id} --reveal    # show the event as well"
    if event_id is not None:
        yield f"redrive run show {shlex.quote(event_id)}    # show the state of its run"
    match story.state:
        case State.OPEN if letter.checkpoint is None:
            yield f"redrive dlq redrive {dlq_id} --restart    # run it from the beginning"
        case State.OPEN:
            yield f"redrive dlq redrive {dlq_id}    # resume at the failed node"
            yield f"redrive dlq redrive {dlq_id} --restart    # run it from the beginning"
        case State.PARKED:
            yield f"redrive dlq park {dlq_id} --back    # unpark it"
        case _:
            return
    yield f"redrive dlq discard {dlq_id}    # give it up for good"


def _print_part(screen: Console, title: str, lines: Iterator[str]) -> None:
    whole = [shown for line in lines for shown in _lines(line)]
    if whole:
        screen.print(Text(f"\n{title}", style="bold"))
        for line in whole:
            screen.print(Text(f"  {line}"))


def _lines(text: str) -> list[str]:
    """Return the text's lines as a terminal may show them: escaped, and not endless."""
    return [_cut(visible(line)) for line in text.split("\n")]


def _cut(line: str) -> str:
    if len(line) <= MAX_LINE_CHARS:
        return line
    left_out = len(line) - MAX_LINE_CHARS
    return f"{line[:MAX_LINE_CHARS]}… ({left_out} more characters: --json has them)"


def _masked(letter: DeadLetter) -> DeadLetter:
    """Hide what the producer wrote: value, parsed form, foreign headers, a key; and secrets."""
    source = letter.source
    own_key = (event_id_of(letter) or "").encode()
    hidden = source.model_copy(
        update={
            "value": None,
            "key": source.key if source.key == own_key else None,
            "headers": [(n, v if n.startswith(_OURS) else None) for n, v in source.headers],
            "left_out": source.left_out and source.left_out.model_copy(update={"excerpt": b""}),
        }
    )
    event = letter.original_event
    if event is not None:
        event = {BUILT_IN.mask(name): _hidden(name, value) for name, value in event.items()}
    # A worker has masked its own texts. Other writers of letters may not have.
    told = letter.model_dump(mode="json", exclude={"source", "original_event"})
    return DeadLetter.model_validate(
        {**BUILT_IN.within(told), "source": hidden, "original_event": event}
    )


def _hidden(name: str, value: object) -> object:
    if name in _PLAIN and isinstance(value, str):
        return BUILT_IN.mask(value)
    return _shape(value)


def _shape(value: object) -> object:
    """Keep the names, hide what they hold."""
    if isinstance(value, dict):
        return {BUILT_IN.mask(name): _shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shape(inner) for inner in value]
    return MASK


def state_json(state: LetterState) -> dict[str, object]:
    """Return a state record for programs, with who signed it, and whether it counts."""
    # Last, since a record may hold fields of any name.
    verified = {"signed_by": state.signed_by, "counts": state.counts}
    return state.model_dump(mode="json") | verified


def actor_of(state: LetterState, *, reveal: bool = True) -> str:
    """Say who wrote a state record: by its key, or, where none signed it, as claimed."""
    actor = state.actor if reveal else BUILT_IN.mask(state.actor)
    if state.signed_by is not None:
        return f"{actor} (signed by key {state.signed_by})"
    if not state.counts:
        return f"{actor} (claimed; does not count: {state.why_not})"
    return f"{actor} (claimed)"
