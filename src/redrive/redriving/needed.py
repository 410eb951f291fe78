"""Which threads of checkpoints the topics still need: by unfinished events, and by letters."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from typing import Any, NamedTuple, Self

from redrive.clock import SYSTEM, Clock
from redrive.dead_letter.fold import LetterFold
from redrive.dead_letter.states import LetterState, State
from redrive.dead_letter.vouching import Vouched, told_once, vouched
from redrive.errors import RecordError, SettingsError
from redrive.events import EventHeaders, WorkflowEvent, readable_event_id, thread_scope
from redrive.graphs.retention import Needed
from redrive.group_commits import group_commits
from redrive.kafka.broker_wait import look_again, reach
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.kafka.log import Committed, ConsumerRecord, TopicPartition
from redrive.kafka.scan import scan
from redrive.kafka.watermarks import watermarks
from redrive.redriving.backlog import unfinished_spans
from redrive.redriving.extracts import LetterExtract, descent_of, event_id_in, read_slimly
from redrive.redriving.letters_topic import letter_records
from redrive.redriving.run_stories import RunStatus, progress_of
from redrive.signatures import NO_TRUST, Verifier
from redrive.thread_names import is_own_thread, own_thread

__all__ = ["letters_need", "read_needed", "runs_need"]

# What may still be driven, or is being driven.
_LIVING = frozenset({State.OPEN, State.PARKED, State.REDRIVEN})


def read_needed(
    settings: KafkaSettings,
    among: Collection[str],
    *,
    scope: str | None = None,
    verifier: Verifier = NO_TRUST.verifier,
    clock: Clock = SYSTEM,
) -> tuple[Needed, str | None]:
    """Return which of these threads the topics need, and the id of the cluster that said so.

    Unfinished events are read before letters: a run that ends meanwhile is found in one of them.
    An event that has been deleted from its topic is not found, though a worker may still run it.

    Args:
        settings: How to reach Kafka; whose group.
        among: The threads in question; of others nothing is said.
        scope: `threads.scope`, as the workers have it.
        verifier: Says which states of letters count.
        clock: Measures how long nothing came.

    Raises:
        KafkaUnavailableError: Nothing more came for `kafka.startup_timeout`.
        SettingsError: A topic does not exist, or the broker refuses who we say we are.
    """
    wanted = frozenset(among)
    topic = settings.events_topic
    admin, there = reach(settings, clock=clock)
    there = look_again(settings, admin, there, [topic], clock=clock)
    if topic not in there.topics:
        raise SettingsError(
            f"topic {topic!r} does not exist at {settings.bootstrap_servers}: "
            "name the broker and the topics of the workers"
        )
    partitions = there.topics[topic].partitions
    committed = group_commits(settings, topic, partitions, clock=clock).now
    where = watermarks(
        settings, admin, [TopicPartition(topic, number) for number in partitions], clock=clock
    )
    runs: frozenset[str] = frozenset()
    if spans := unfinished_spans(committed, where):
        with closing(scan(settings, topic, spans=spans, clock=clock)) as records:
            runs = runs_need(records, committed, wanted, scope=scope)
    with closing(letter_records(settings, clock=clock)) as records:
        needed = letters_need(records, wanted, scope=scope, verifier=verifier)
        return Needed(runs, needed), there.cluster_id


def runs_need(
    records: Iterable[ConsumerRecord],
    committed: Mapping[int, Committed],
    among: Collection[str],
    *,
    scope: str | None = None,
) -> frozenset[str]:
    """Return which of these threads belong to events that the group has not finished."""
    return frozenset(
        thread
        for record in records
        if progress_of(record.offset, committed[record.tp.partition]).status is not RunStatus.ENDED
        for thread in _threads_of(record.value, record.headers, record.tp.partition, scope)
        if thread in among
    )


def letters_need(
    records: Iterable[ConsumerRecord],
    among: Collection[str],
    *,
    scope: str | None = None,
    verifier: Verifier = NO_TRUST.verifier,
) -> frozenset[str]:
    """Return which of these threads letters need: the newest of each event, if it may be driven.

    Args:
        records: Those of the letters topic, each partition in its order.
        among: The threads in question.
        scope: `threads.scope`, as the workers have it.
        verifier: Says which states count.
    """
    partitions: dict[int, LetterFold[_Letter]] = {}
    for record in records:
        found = read_slimly(record, verifier)
        letters = partitions.setdefault(record.tp.partition, LetterFold())
        if isinstance(found, LetterState):
            letters.state(found)
        elif found is not None:
            letter = _letter(record, found, among, scope, verifier)
            letters.letter(letter, told_once(record, verifier), descent_of(found))
    return frozenset(
        thread
        for letters in partitions.values()
        for letter in letters
        if letter.superseded_by is None and letter.state in _LIVING
        for thread in letter.threads
    )


class _Letter(NamedTuple):
    """A letter, with those of the threads in question that it needs."""

    dlq_id: str
    event_id: str | None
    at: datetime
    threads: frozenset[str]
    state: State = State.OPEN
    state_at: datetime | None = None
    actor: str | None = None
    redrive_count: int = 0
    superseded_by: str | None = None
    signed_by: str | None = None
    vouched: Vouched = Vouched.YES

    def changed(self, **changes: Any) -> Self:
        return self._replace(**changes)


def _letter(
    record: ConsumerRecord,
    letter: LetterExtract,
    among: Collection[str],
    scope: str | None,
    verifier: Verifier,
) -> _Letter:
    return _Letter(
        letter["dlq_id"],
        event_id_in(letter),
        letter["timestamp"],
        frozenset(thread for thread in _threads(letter, scope) if thread in among),
        vouched=vouched(record, letter["reason"], verifier),
    )


def _threads(letter: LetterExtract, scope: str | None) -> Iterator[str]:
    stopped_on = letter.get("thread_id")
    if stopped_on is not None:
        yield stopped_on
    value, partition = letter.get("value"), letter["source_partition"]
    # The first one is where a version before ran it, which does not say on which generation.
    ran_on = next(_threads_of(value, tuple(letter.get("headers", ())), partition, scope), None)
    generation, event_id = letter.get("generation"), readable_event_id(value)
    if ran_on is None or event_id is None:
        return
    if generation is not None and is_own_thread(ran_on, event_id):
        ran_on = own_thread(event_id, partition, generation)
    yield ran_on


def _threads_of(
    value: bytes | None,
    headers: tuple[tuple[str, bytes | None], ...],
    partition: int,
    path: str | None,
) -> Iterator[str]:
    """Yield the threads that an event may work on: as the redrive that it claims to be, or not."""
    event_id = readable_event_id(value)
    if event_id is None:
        return
    try:
        ours = EventHeaders.read(headers)
        scoped = path is not None and ours.named_thread is not None
        scope = thread_scope(ours, WorkflowEvent.from_bytes(value), path) if scoped else None
    except RecordError:
        return  # No worker runs it.
    yield ours.thread_of(event_id, partition, scope=scope)
    if ours.is_marked:
        yield ours.as_any_other().thread_of(event_id, partition, scope=scope)
