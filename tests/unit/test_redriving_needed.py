"""Which threads the topics still need: unfinished events, and letters that may be driven again."""

from __future__ import annotations

import json
from datetime import timedelta

from tests.rows import rows

from redrive.clock import SYSTEM
from redrive.dead_letter.record import (
    CheckpointRef,
    DeadLetter,
    LetterContext,
    LetterError,
    Source,
)
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.kafka.log import Committed, ConsumerRecord, TopicPartition
from redrive.kafka.topic_rules import longest_kept
from redrive.redriving.needed import letters_need, runs_need
from redrive.retry.kinds import Kind, Reason
from redrive.state.commit_metadata import CommitMetadata, OffsetEntry, encode
from redrive.testing.kafka_env import event

ONE, OTHER = event({}), event({})


def thread(of: str, *, partition: int = 0, generation: int = 0) -> str:
    return f"{of}/{partition}/{generation}"


def letter(
    dlq_id: str, *, value: bytes | None = None, on: str | None = None, generation: int = 0
) -> DeadLetter:
    headers = [("redrive-generation", b"%d" % generation)] if generation else []
    return DeadLetter(
        dlq_id=dlq_id,
        timestamp=SYSTEM.now(),
        original_event={},
        error=LetterError(type="T", message="m"),
        retry_count=0,
        context=LetterContext(),
        kind=Kind.PERMANENT,
        reason=Reason.PERMANENT,
        source=Source(
            topic="events",
            partition=0,
            offset=0,
            headers=headers,
            value=ONE.to_bytes() if value is None else value,
        ),
        checkpoint=None if on is None else CheckpointRef(thread_id=on, checkpoint_id="1"),
    )


def state(dlq_id: str, now: State) -> LetterState:
    return LetterState(
        dlq_id=dlq_id, event_id=None, state=now, timestamp=SYSTEM.now(), actor="anna"
    )


def records(*told: DeadLetter | LetterState | bytes, partition: int = 0) -> list[ConsumerRecord]:
    tp = TopicPartition("letters", partition)
    return [
        ConsumerRecord(
            tp,
            at,
            None,
            one if isinstance(one, bytes) else one.to_bytes(),
            STATE_HEADERS
            if isinstance(one, LetterState)
            else tuple(one.headers())
            if isinstance(one, DeadLetter)
            else (),
            None,
        )
        for at, one in enumerate(told)
    ]


MINE = thread(ONE.event_id)


@rows(
    "told, needed",
    [
        ([letter("a")], True),
        ([letter("a"), state("a", State.PARKED)], True),
        ([letter("a"), state("a", State.REDRIVEN)], True),
        ([letter("a"), state("a", State.REDRIVEN), state("a", State.OPEN)], True),
        ([letter("a"), state("a", State.DISCARDED)], False),
        ([letter("a"), state("a", State.REDRIVEN), state("a", State.RESOLVED)], False),
        # Its state alone, for retention took the letter.
        ([state("a", State.REDRIVEN)], False),
        ([b"no letter"], False),
        ([], False),
        # Driven again, and given up again: the newer letter says what is needed.
        ([letter("a"), state("a", State.REDRIVEN), letter("b")], True),
        ([letter("a"), letter("b"), state("b", State.DISCARDED)], False),
        # The same run, given up twice.
        ([letter("a"), letter("a"), state("a", State.DISCARDED)], False),
        # Of another event.
        ([letter("a", value=OTHER.to_bytes())], False),
        # An event that cannot be read, whose run left a checkpoint all the same.
        ([letter("a", value=b"{", on=MINE)], True),
        # Begun anew: the thread before it is left.
        ([letter("a"), letter("b", generation=1)], False),
    ],
)
def test_a_letter_needs_its_thread_as_long_as_it_may_be_driven(
    told: list[DeadLetter | LetterState | bytes],
    needed: bool,  # noqa: FBT001 - a column
) -> None:
    found = letters_need(records(*told), {MINE, "another"})

    assert found == ({MINE} if needed else frozenset())


def test_letters_of_two_partitions_do_not_supersede_each_other() -> None:
    on_the_other = thread(ONE.event_id, partition=1)
    first = records(letter("a", on=MINE))
    second = records(letter("b", on=on_the_other), partition=1)

    found = letters_need([*first, *second], {MINE, on_the_other})

    assert found == {MINE, on_the_other}


def test_events_that_the_group_has_not_finished_need_their_threads() -> None:
    events = [event({}) for _ in range(6)]
    headers = ((("redrive-generation", b"2"),), (("redrive-thread", b"shared"),))
    given = [
        ConsumerRecord(
            TopicPartition("events", 0),
            at,
            None,
            one.to_bytes(),
            headers[at - 4] if at > 3 else (),
            None,
        )
        for at, one in enumerate(events)
    ]
    given.append(ConsumerRecord(TopicPartition("events", 0), 6, None, b"not an event", (), None))
    # One is finished by the offset, and one past a gap.
    metadata = encode(
        CommitMetadata(1, 1, finished=0b10, reserved=1, entries={3: OffsetEntry(failed=2)})
    )
    names = [thread(one.event_id) for one in events]
    wanted = {*names[:4], thread(events[4].event_id, generation=2), "shared", "another"}

    found = runs_need(given, {0: Committed(1, metadata)}, wanted)
    before_any_commit = runs_need(given, {0: Committed(None, None)}, wanted)

    assert found == wanted - {names[0], names[2], "another"}
    assert before_any_commit == wanted - {"another"}


DAY_MS = 86_400_000
FOR_EVER = str(2**63 - 1)


@rows(
    "config, kept",
    [
        ({"retention.ms": str(7 * DAY_MS), "segment.ms": str(DAY_MS)}, timedelta(days=9)),
        ({"retention.ms": "-1", "segment.ms": str(DAY_MS)}, None),
        ({"retention.ms": str(DAY_MS)}, None),
        ({"retention.ms": FOR_EVER, "segment.ms": FOR_EVER}, None),
        ({"retention.ms": "1", "segment.ms": "1", "cleanup.policy": "compact"}, None),
        (
            {"retention.ms": "0", "segment.ms": "0", "cleanup.policy": "compact,delete"},
            timedelta(days=1),
        ),
        ({}, None),
        (None, None),
    ],
)
def test_a_record_lies_there_longer_than_its_retention(
    config: dict[str, str] | None, kept: timedelta | None
) -> None:
    assert longest_kept(config) == kept


def test_a_scope_is_part_of_the_thread_that_is_needed() -> None:
    told = json.loads(ONE.to_bytes())
    headers = (("redrive-thread", b"chat"),)
    values = [json.dumps(told | {"metadata": one}).encode() for one in ({"tenant": "a"}, {})]
    tp = TopicPartition("events", 0)
    found = [ConsumerRecord(tp, at, None, value, headers, 1) for at, value in enumerate(values)]
    among = {"chat", "scope:metadata.tenant=a/chat"}

    def needed(scope: str | None) -> frozenset[str]:
        return runs_need(found, {0: Committed(None, None)}, among, scope=scope)

    assert needed("metadata.tenant") == {"scope:metadata.tenant=a/chat"}
    assert needed(None) == {"chat"}
