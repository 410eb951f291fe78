"""Stories of letters and runs with what is encrypted of them opened, for those who look at them.

Without the key they stay as they are, and it is told why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.sealing import opened_letter_or_told
from redrive.payloads import Payloads, Sealed
from redrive.redriving.letters_topic import LetterStory
from redrive.redriving.run_stories import RunResult, RunStory
from redrive.redriving.sealed_events import open_text, seal_in
from redrive.sealed_records import opened_or_told, seal_of_result, told_of

__all__ = ["OpenedStory", "open_run", "open_story", "sealed_as"]


@dataclass(frozen=True, slots=True)
class OpenedStory:
    """A letter's story, opened as far as it can be.

    Attributes:
        story: With the letter's texts.
        event: The event's text with its payload; None where it is in clear, or cannot be opened.
        texts_sealed: How the texts are encrypted; None where they are not.
        event_sealed: How the event's payload is; None where it is not.
        why: Why something of it could not be opened; None where all was.
    """

    story: LetterStory
    event: str | None = None
    texts_sealed: str | None = None
    event_sealed: str | None = None
    why: str | None = None


def open_story(story: LetterStory, payloads: Payloads) -> OpenedStory:
    """Open a letter, and its event."""
    stored = story.stored
    texts, sealed = Sealed.of(stored.letter.sealed), seal_in(stored.letter.source.value)
    letter, why = opened_letter_or_told(stored.letter, payloads)
    event = None
    if sealed is not None:
        try:
            event = open_text((stored.letter.source.value or b"").decode(), payloads)
        except Exception as error:  # noqa: BLE001 - a codec of the user's may raise anything
            why = why or told_of(error)
    return OpenedStory(
        replace(story, stored=replace(stored, letter=letter)),
        event,
        None if texts is None else texts.label,
        None if sealed is None else sealed.label,
        why,
    )


def sealed_as(letter: DeadLetter) -> set[str]:
    """Return how texts and event of a letter are encrypted; nothing where they are in clear."""
    found = (Sealed.of(letter.sealed), seal_in(letter.source.value))
    return {sealed.label for sealed in found if sealed is not None}


def open_run(story: RunStory, payloads: Payloads) -> tuple[RunStory, list[str]]:
    """Open the results and letters of a run; beside it, what could not be opened, in words."""
    told: dict[str, None] = {}
    results = tuple(_opened_results(story, payloads, told))
    letters = []
    for one in story.letters:
        letter, why = opened_letter_or_told(one.stored.letter, payloads)
        letters.append(replace(one, stored=replace(one.stored, letter=letter)))
        if why is not None:
            told[f"letter {letter.dlq_id}: {why}"] = None
    return replace(story, results=results, letters=tuple(letters)), list(told)


def _opened_results(
    story: RunStory, payloads: Payloads, told: dict[str, None]
) -> Iterator[RunResult]:
    for one in story.results:
        if seal_of_result(one.result) is None:
            yield one
            continue
        result, why = opened_or_told(one.result, payloads)
        if why is not None:
            told[f"result at {one.tp.topic}/{one.tp.partition}@{one.offset}: {why}"] = None
        yield replace(one, result=result)
