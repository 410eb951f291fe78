"""Whatever is written to the topics: what reads them says what it finds, and never falls over."""

from __future__ import annotations

import contextlib
import json
import random
import traceback
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
from tests.property.hostile_records import hostile_letters

from redrive.auditing.judge import Commits, Judge
from redrive.auditing.read_since import ReadSince
from redrive.cli import dlq_export
from redrive.cli.letter_page import letter_json, letter_page
from redrive.cli.letters_table import group_json, print_groups, print_letters, summary_json
from redrive.cli.run_page import run_json, run_page
from redrive.dead_letter.record import CheckpointRef, GraphRef, LetterAttempt
from redrive.dead_letter.states import LetterState, State
from redrive.errors import RecordError
from redrive.events import EventHeaders, RunInfo, WorkflowEvent, WorkflowResultEvent
from redrive.kafka.log import Committed, TopicPartition
from redrive.redriving.groups import group
from redrive.redriving.letter_stats import letter_stats
from redrive.redriving.letters_topic import LetterStory, StoredLetter, stored
from redrive.redriving.needed import letters_need
from redrive.redriving.partition import PartitionFold
from redrive.redriving.query import Query, choose, page_of
from redrive.redriving.run_stories import RunResult, RunStory, _event
from redrive.redriving.views import fold
from redrive.retry.kinds import Kind
from redrive.state.commit_metadata import decode
from redrive.testing.kafka_env import event
from redrive.testing.stored_letters import dead_letter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redrive.kafka.log import ConsumerRecord

NOW = datetime(2026, 11, 29, tzinfo=UTC)
SEED = 20_261_129
HEADERS = [f"redrive-{n}" for n in ("thread", "deadline", "of", "event", "count", "mode", "kind")]
HEADERS += ["redrive-reason", "redrive-fingerprint", "redrive-generation", "traceparent"]


def wholes() -> list[bytes]:
    """Return an example of each kind of record."""
    sent = event({"text": "x"})
    attempt = LetterAttempt(
        number=1, started_at=NOW, ended_at=NOW, kind=Kind.TIMEOUT, type="E", message="m", worker="w"
    )
    letter = dead_letter(
        sent,
        topic="t",
        attempts=[attempt],
        deadline=NOW,
        checkpoint=CheckpointRef(thread_id="t"),
        graph=GraphRef(name="g"),
    )
    state = LetterState(
        dlq_id=letter.dlq_id,
        event_id=sent.event_id,
        state=State.REDRIVEN,
        timestamp=NOW,
        actor="anna",
        reason="why",
    )
    result = WorkflowResultEvent(
        correlation_id=sent.event_id,
        workflow_id="w",
        workflow_run_id="r",
        status="error",
        timestamp=NOW,
        error="no",
        run=RunInfo(
            attempts=1,
            started_at=NOW,
            finished_at=NOW,
            resumed=False,
            redrive_count=0,
            worker="w",
        ),
    )
    others = (sent.to_bytes(), state.to_bytes(), result.to_bytes())
    return [*others, *[letter.to_bytes()] * 4]


def shown_alone(record: ConsumerRecord) -> None:
    """Read one record by everything that reads single ones, and show it."""
    for read in (WorkflowEvent.from_bytes, WorkflowResultEvent.from_bytes):
        try:
            found = read(record.value)
        except RecordError:
            continue
        if isinstance(found, WorkflowEvent):
            _ = NOW - found.timestamp, found.timestamp.astimezone(UTC) + timedelta(hours=1)
        else:
            results = (RunResult(record.tp, record.offset, found),)
            story = RunStory("e", (_event(record, Committed(0, None, None), ()),), results, ())
            json.dumps(run_json(story))
            run_page(story)
    with contextlib.suppress(RecordError):
        EventHeaders.of_event(record.headers, "e")
    decode(None if record.key is None else str(record.value)[:500])
    one = stored(record)
    if isinstance(one, StoredLetter):
        dlq_export.letter_line(record, one.letter.dlq_id, one.letter.source)
        story_of = LetterStory(one, ())
        for reveal in (False, True):
            json.dumps(letter_json(story_of, topic="t", reveal=reveal), default=str)
            letter_page(story_of, topic="t", reveal=reveal)


def shown_together(records: list[ConsumerRecord]) -> None:
    """Read them as lists, figures, redrives and audits do, and show them."""
    letters = fold(records).letters
    some = choose(letters, Query(since=NOW - timedelta(days=3), until=NOW + timedelta(days=3)))
    page = page_of(letters, Query(), limit=3)
    page_of(letters, Query(), limit=3, after=page.after)
    groups = group(letters, NOW, among=[*letters, *some])
    letter_stats(letters, now=NOW, retention=timedelta(days=1))
    print_letters(letters[:200], NOW)
    print_groups(groups[:200], NOW)
    json.dumps([summary_json(one) for one in letters] + [group_json(one) for one in groups])
    letters_need(records, frozenset({"t"}))
    for number in range(3):
        read = PartitionFold()
        for record in records:
            if record.tp.partition == number:
                read.add(record)
        list(read)
    judge = Judge()
    judge.take_results(records, ReadSince())
    judge.take_letters(records, ReadSince())
    starts = {TopicPartition("t", number): 0 for number in range(3)}
    judge.take_events(records, ReadSince(), commits=Commits.of({}), starts=starts)
    list(judge.findings())


def falls_over(show: Callable[[], None]) -> str | None:
    try:
        show()
    except Exception as raised:  # noqa: BLE001 - the finding
        return f"{raised!r:.300} {''.join(traceback.format_tb(raised.__traceback__)[-2:])}"
    return None


def failures(records: list[ConsumerRecord]) -> Iterator[str]:
    for record in records:
        told = falls_over(partial(shown_alone, record))
        if told is not None:
            yield f"{record.value!r:.2000}: {told}"
    told = falls_over(partial(shown_together, records))
    if told is not None:
        yield told


@pytest.mark.invariant("P7")
@pytest.mark.parametrize("count", [1_000, pytest.param(5_000, marks=pytest.mark.nightly)])
def test_of_thousands_of_hostile_records_none_makes_a_reader_fall_over(count: int) -> None:
    dice = random.Random(SEED)
    records = list(hostile_letters(wholes(), count, dice, headers=HEADERS))

    # Many are letters still: what cannot be read at all shows little.
    assert len(fold(records).letters) > count // 20
    assert list(failures(records))[:3] == []
