"""Reading a letter slimly and reading it whole: the same letters, and the same of each."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from redrive.dead_letter.record import (
    Cause,
    CheckpointRef,
    DeadLetter,
    GraphRef,
    LetterAttempt,
    LetterContext,
    LetterError,
    Source,
)
from redrive.events import readable_event_id
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.redriving.event_cache import CachedEvent
from redrive.redriving.extracts import read_slimly
from redrive.redriving.letters_topic import StoredLetter, stored
from redrive.redriving.partition import Entry, PartitionFold
from redrive.retry.kinds import Kind, Reason

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
maybe = st.none() | texts
counts = st.integers(0, 2**40)
times = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone is beside it
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, json_values, max_size=4)
events = st.none() | st.binary(max_size=40) | objects.map(lambda o: json.dumps(o).encode())
ids = st.fixed_dictionaries({"event_id": texts}).map(lambda o: json.dumps(o).encode())
sources = st.builds(
    Source,
    topic=texts,
    partition=st.integers(-1, 2**31),
    offset=counts,
    timestamp=st.none() | counts,
    key=st.none() | st.binary(max_size=40),
    headers=st.lists(st.tuples(texts, st.none() | st.binary(max_size=20)), max_size=4),
    value=events | ids,
)
attempts = st.builds(
    LetterAttempt,
    number=st.integers(1, 50),
    started_at=times,
    ended_at=times,
    kind=st.sampled_from(Kind),
    type=texts,
    message=texts,
    worker=texts,
)
letters = st.builds(
    DeadLetter,
    dlq_id=texts,
    timestamp=times,
    original_event=st.none() | objects,
    error=st.builds(LetterError, type=texts, message=texts, traceback=maybe),
    retry_count=counts,
    context=st.builds(LetterContext, workflow_id=maybe, workflow_run_id=maybe),
    kind=st.sampled_from(Kind),
    reason=st.sampled_from(Reason),
    fingerprint=maybe,
    node=maybe,
    cause_chain=st.lists(st.builds(Cause, type=texts, message=texts), max_size=2),
    attempts=st.lists(attempts, max_size=2),
    source=sources,
    checkpoint=st.none() | st.builds(CheckpointRef, thread_id=texts, checkpoint_id=maybe),
    graph=st.none() | st.builds(GraphRef, name=texts, version=maybe),
    redrive_count=counts,
)
LETTER = DeadLetter(
    dlq_id="x",
    timestamp=NOON,
    original_event={},
    error=LetterError(type="T", message="m"),
    retry_count=0,
    context=LetterContext(),
    kind=Kind.PERMANENT,
    reason=Reason.PERMANENT,
    source=Source(topic="t", partition=0, offset=0),
)


def record_of(value: bytes, letter: DeadLetter | None = None) -> ConsumerRecord:
    """Return the record, with our headers where `letter` is given."""
    headers = () if letter is None else tuple(letter.headers())
    return ConsumerRecord(TopicPartition("letters", 3), 7, b"key", value, headers, None)


def told_by(record: ConsumerRecord) -> tuple[Entry, CachedEvent]:
    """Return what a redrive knows of a letter."""
    fold = PartitionFold(lambda _: True)
    fold.add(record)
    (entry,) = fold
    original = fold.originals.take(entry.offset)
    assert original is not None
    return entry, original


def broken(value: bytes, path: list[str], junk: object) -> bytes:
    """Put `junk` in the place of a field, or leave the field out where it is `...`."""
    whole = json.loads(value)
    at = whole
    for name in path[:-1]:
        at = at[name]
    if junk is ...:
        at.pop(path[-1], None)
    else:
        at[path[-1]] = junk
    return json.dumps(whole).encode()


@given(letters, st.booleans())
def test_of_a_letter_both_readings_say_the_same(letter: DeadLetter, ours: bool) -> None:  # noqa: FBT001 - drawn
    value = letter.to_bytes()
    record = record_of(value, letter if ours else None)

    slim, whole = read_slimly(record), stored(record)

    assert isinstance(whole, StoredLetter)
    assert isinstance(slim, dict)
    shown = ("dlq_id", "timestamp", "kind", "reason", "fingerprint", "node", "redrive_count")
    assert [slim.get(name) for name in shown] == [getattr(letter, name) for name in shown]
    assert (slim["original_event"] is None) == (letter.original_event is None)
    assert slim.get("workflow_id") == letter.context.workflow_id
    assert (slim["error_type"], slim["message"]) == (letter.error.type, letter.error.message)
    assert slim.get("graph_version") == (letter.graph and letter.graph.version)
    source, original = letter.source, CachedEvent.of(record, slim)
    assert slim["source_partition"] == source.partition
    assert (original.key, original.value) == (source.key, source.value)
    assert original.headers == tuple(source.headers)
    assert original.checkpoint_id == (letter.checkpoint and letter.checkpoint.checkpoint_id)


fields = st.sampled_from(
    [
        *([name] for name in DeadLetter.model_fields),
        *(["source", name] for name in Source.model_fields),
        *(["error", name] for name in LetterError.model_fields),
        ["context", "workflow_id"],
    ]
)
# The last ones are base64 that one decoder takes, and another does not.
junk = st.just(...) | json_values | st.sampled_from(["not base64", "-_8=", "YQ", "YR==", "YQ==\n"])


@given(letters, fields, junk)
@example(LETTER, ["source", "value"], "YR==")
@example(LETTER, ["source", "key"], "-_8=")
@example(LETTER, ["schema_version"], 2)
def test_what_others_wrote_is_a_letter_for_both_readings_or_for_none(
    letter: DeadLetter, path: list[str], mess: object
) -> None:
    value = broken(letter.to_bytes(), path, mess)

    theirs, ours = record_of(value), record_of(value, letter)
    whole = stored(theirs)

    assert (read_slimly(theirs) is None) == (whole is None)
    if isinstance(whole, StoredLetter):
        assert told_by(ours) == told_by(theirs)
        original = told_by(theirs)[1]
        source = whole.letter.source
        assert (original.key, original.value) == (source.key, source.value)
        assert original.headers == tuple(source.headers)


@given(letters)
def test_the_index_of_a_partition_holds_what_the_letter_says(letter: DeadLetter) -> None:
    fold = PartitionFold()
    fold.add(record_of(letter.to_bytes(), letter))

    (entry,) = fold

    assert entry.event_id == readable_event_id(letter.source.value)
    assert (entry.dlq_id, entry.node, entry.kind) == (letter.dlq_id, letter.node, letter.kind)
    assert entry.checkpoint == (
        letter.checkpoint is not None and letter.checkpoint.checkpoint_id is not None
    )
    assert entry.redrive_count == letter.redrive_count


@given(st.binary(max_size=60) | objects.map(lambda o: json.dumps(o).encode()) | ids)
@example(b'{"event_id": "a", "other": "\\ud800"}')
@example('{"event_id": "a"}'.encode("utf-16"))
@example(b'\xef\xbb\xbf{"event_id": "a"}')
@example(b'{"event_id": "\\ud800"}')
@example(b"[" * 100_000)
def test_an_event_id_is_read_where_the_standard_library_reads_one(value: bytes) -> None:
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = None
    found = parsed.get("event_id") if isinstance(parsed, dict) else None
    usable = isinstance(found, str) and found and not any("\ud800" <= c <= "\udfff" for c in found)

    assert readable_event_id(value) == (found if usable else None)
