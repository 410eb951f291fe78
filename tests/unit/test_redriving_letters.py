"""Reading letters: what a summary keeps, times as people write them, trends, public names."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.rows import rows

import redrive.redriving
from redrive.dead_letter.record import DeadLetter, GraphRef, LetterContext, LetterError, Source
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.redriving import Trend, Window, fold, group, page_of, parse_time
from redrive.redriving.query import Query
from redrive.redriving.views import LetterSummary
from redrive.retry.kinds import Kind, Reason

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def _letter(**changes: object) -> DeadLetter:
    letter = DeadLetter(
        dlq_id="letter-1",
        timestamp=NOON,
        original_event=None,
        error=LetterError(type="ValueError", message="no such account\nin the book"),
        retry_count=0,
        context=LetterContext(workflow_id="report"),
        kind=Kind.PERMANENT,
        reason=Reason.PERMANENT,
        source=Source(topic="events", partition=0, offset=0, value=b'{"event_id": "e-1"}'),
    )
    return letter.model_copy(update=changes)


def _record(
    value: bytes | None, offset: int = 0, *, headers: tuple[tuple[str, bytes | None], ...] = ()
) -> ConsumerRecord:
    return ConsumerRecord(TopicPartition("letters", 3), offset, b"e-1", value, headers, None)


def _state(state: State, minutes: int) -> bytes:
    return LetterState(
        dlq_id="letter-1",
        event_id="e-1",
        state=state,
        timestamp=NOON + timedelta(minutes=minutes),
        actor="ada",
    ).to_bytes()


def _summaries(*hours_ago: float) -> list[LetterSummary]:
    records = [
        _record(_letter(dlq_id=f"{i}", timestamp=NOON - timedelta(hours=ago)).to_bytes(), offset=i)
        for i, ago in enumerate(hours_ago)
    ]
    return list(fold(records).letters)


def test_a_summary_says_what_a_list_needs() -> None:
    letter = _letter(node="book", fingerprint="f-1", graph=GraphRef(name="g", version="3f2"))
    view = fold([_record(letter.to_bytes(), 7)])

    assert view.letters == (
        LetterSummary(
            dlq_id="letter-1",
            event_id="e-1",
            workflow="report",
            kind=Kind.PERMANENT,
            reason=Reason.PERMANENT,
            node="book",
            fingerprint="f-1",
            error_type="ValueError",
            message="no such account",
            at=NOON,
            redrive_count=0,
            partition=3,
            offset=7,
            graph_version="3f2",
        ),
    )


def test_the_last_state_record_counts_whatever_its_time() -> None:
    view = fold(
        [
            _record(_letter().to_bytes(), 0),
            _record(_state(State.REDRIVEN, 5), 1, headers=STATE_HEADERS),
            _record(_state(State.DISCARDED, 3), 2, headers=STATE_HEADERS),
        ]
    )

    (letter,) = view.letters
    assert (letter.state, letter.actor) == (State.DISCARDED, "ada")
    assert letter.state_at == NOON + timedelta(minutes=3)


def test_a_redriven_letter_stays_redriven_when_its_event_has_a_newer_letter() -> None:
    newer = _letter(dlq_id="letter-2", timestamp=NOON + timedelta(hours=1), redrive_count=1)

    view = fold(
        [
            _record(_letter().to_bytes(), 0),
            _record(_state(State.REDRIVEN, 1), 1, headers=STATE_HEADERS),
            _record(newer.to_bytes(), 2),
        ]
    )

    assert [(x.dlq_id, x.state) for x in view.letters] == [
        ("letter-2", State.OPEN),
        ("letter-1", State.REDRIVEN),
    ]


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (None, ()),
        (b"no JSON", ()),
        (b'{"dlq_id": "x"}', ()),
        (_letter().to_bytes(), STATE_HEADERS),
        (_letter().to_bytes(), (("redrive-record", b"something new"),)),
    ],
)
def test_what_is_no_letter_is_counted(
    value: bytes | None, headers: tuple[tuple[str, bytes | None], ...]
) -> None:
    view = fold([_record(value, headers=headers)])

    assert (view.letters, view.unknown) == ((), 1)


def test_long_texts_are_cut_so_that_memory_is_bounded() -> None:
    error = LetterError(type="T" * 10_000, message="m" * 10_000)

    (letter,) = fold([_record(_letter(error=error, node="n" * 10_000).to_bytes())]).letters

    assert (len(letter.error_type), len(letter.message)) == (200, 160)
    assert len(letter.node or "") == 200


def test_times_are_so_long_ago_or_iso_and_utc_by_default() -> None:
    assert parse_time("2h", NOON) == NOON - timedelta(hours=2)
    assert parse_time("1d 30m", NOON) == NOON - timedelta(days=1, minutes=30)
    assert parse_time("2026-11-01", NOON) == datetime(2026, 11, 1, tzinfo=UTC)
    assert parse_time("2026-11-01T08:00+02:00", NOON) == datetime(2026, 11, 1, 6, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "-2h", "999999999999d", "2026-13-01"])
def test_what_is_no_time_is_refused_and_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="30m, 2h or 3d"):
        parse_time(text, NOON)


@pytest.mark.parametrize("after", ["", "nonsense", "2026-11-24T12:00:00/x", "/x"])
def test_what_is_no_cursor_is_refused(after: str) -> None:
    with pytest.raises(ValueError, match="is not a cursor"):
        page_of([], Query(), limit=1, after=after)


@rows(
    ("hours_ago", "trend"),
    [
        ([], Trend.STEADY),
        ([1], Trend.STEADY),
        ([1, 2, 3], Trend.RISING),
        ([20], Trend.FALLING),
        ([1, 7, 13, 19], Trend.STEADY),
        ([1, 2, 7, 13, 19], Trend.STEADY),
        ([1, 2, 3, 7, 13, 19], Trend.RISING),
        ([1, *[10] * 6], Trend.STEADY),
        ([1, *[10] * 7], Trend.FALLING),
    ],
)
def test_a_trend_compares_the_last_six_hours_with_those_before(
    hours_ago: list[float], trend: Trend
) -> None:
    # One far older: it makes the group, and does not count for the trend.
    (one,) = group(_summaries(100, *hours_ago), NOON)

    assert one.trend is trend


@pytest.mark.parametrize("hours_ago", [[0], [5], [1, 2, 3, 4, 5]])
def test_a_cause_whose_first_letter_came_in_the_window_is_new(hours_ago: list[float]) -> None:
    (one,) = group(_summaries(*hours_ago), NOON)

    assert one.trend is Trend.NEW
    assert one.history.recent == len(hours_ago)


def test_what_is_not_shown_tells_what_is_new_too() -> None:
    everything = _summaries(1.5, 0.5, 0.2)
    window = Window.of(NOON, since=NOON - timedelta(hours=1), until=None)
    shown = [letter for letter in everything if letter.at >= window.since]

    (alone,) = group(shown, NOON, window=window)
    (beside,) = group(shown, NOON, window=window, among=everything)

    assert (alone.trend, beside.trend) == (Trend.NEW, Trend.STEADY)
    assert (beside.count, beside.history.recent, beside.history.before) == (2, 2, 1)
    assert beside.history.first.at == NOON - timedelta(hours=1.5)


@pytest.mark.parametrize(
    ("since_h", "until_h", "recent", "before"),
    [
        (1, None, 2, 4),
        (2, 1, 2, 2),
        (3, 1, 4, 0),
        (None, 1, 4, 1),
        (None, None, 6, 1),
        (50, None, 7, 0),
    ],
)
def test_a_window_is_compared_with_three_times_as_long_before_it(
    since_h: float | None, until_h: float | None, recent: int, before: int
) -> None:
    letters = _summaries(20, 3, 2.5, 1.5, 1.2, 0.5, -0.1)
    since = None if since_h is None else NOON - timedelta(hours=since_h)
    until = None if until_h is None else NOON - timedelta(hours=until_h)

    (one,) = group(letters, NOON, window=Window.of(NOON, since=since, until=until))

    assert (one.history.recent, one.history.before) == (recent, before)


def test_what_seems_to_come_from_the_future_came_just_now() -> None:
    (one,) = group(_summaries(-3), NOON)

    assert one.hours == (0,) * 23 + (1,)


def test_the_packages_names_are_sorted_and_there() -> None:
    names = redrive.redriving.__all__

    assert names == sorted(names)
    assert [name for name in names if getattr(redrive.redriving, name, None) is None] == []
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = redrive.redriving.nothing  # type: ignore[attr-defined]  # that is the point


def test_no_name_of_the_package_is_hidden_by_a_module_of_the_same_name() -> None:
    (folder,) = redrive.redriving.__path__
    modules = {path.stem for path in Path(folder).iterdir()}

    assert modules & set(redrive.redriving.__all__) == set()


def test_importing_the_package_loads_no_kafka_client() -> None:
    script = "import sys, redrive.redriving; print('confluent_kafka' in sys.modules)"

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "False"
