"""The view of the letters topic, queries, pages and groups against naive models."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from redrive.dead_letter.record import DeadLetter, LetterContext, LetterError, Source
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.redriving import LetterSummary, Query, choose, fold, group, page_of
from redrive.retry.kinds import Kind, Reason

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
IDS = ("a", "b", "c")
PARTITIONS = (0, 1, 2)

ids = st.sampled_from(IDS)
minutes = st.integers(0, 5)
letters = st.tuples(st.just("letter"), ids, minutes)
states = st.tuples(st.just("state"), ids, minutes, st.sampled_from(State))
noise = st.tuples(st.just("noise"))
topics = st.lists(st.tuples(st.sampled_from(PARTITIONS), letters | states | noise), max_size=30)
Item = tuple[object, ...]


def _at(minute: object) -> datetime:
    assert isinstance(minute, int)
    return NOON + timedelta(minutes=minute)


def _record(partition: int, offset: int, item: Item) -> ConsumerRecord:
    value = b"{}"
    headers: tuple[tuple[str, bytes | None], ...] = ()
    if item[0] == "letter":
        value = _letter(str(item[1]), _at(item[2])).to_bytes()
    if item[0] == "state":
        headers = STATE_HEADERS
        value = LetterState(
            dlq_id=str(item[1]),
            event_id=None,
            state=State(str(item[3])),
            timestamp=_at(item[2]),
            actor="ada",
        ).to_bytes()
    return ConsumerRecord(
        TopicPartition("letters", partition), offset, b"key", value, headers, None
    )


def _letter(dlq_id: str, at: datetime) -> DeadLetter:
    return DeadLetter(
        dlq_id=dlq_id,
        timestamp=at,
        original_event=None,
        error=LetterError(type="ValueError", message="no"),
        retry_count=0,
        context=LetterContext(workflow_id="report"),
        kind=Kind.PERMANENT,
        reason=Reason.PERMANENT,
        source=Source(topic="events", partition=0, offset=0),
    )


def _stands(own: list[Item], dlq_id: str) -> tuple[int, Item, Item | None] | None:
    """Return offset and item of the last letter, and its last state, the slow and obvious way."""
    letter: tuple[int, Item] | None = None
    state: Item | None = None
    for offset, item in enumerate(own):
        if item[:2] == ("letter", dlq_id):
            was_over = state is not None and state[3] in (State.RESOLVED, State.DISCARDED)
            if letter is not None and was_over and _at(item[2]) > _at(letter[1][2]):
                state = None
            letter = offset, item
        if item[:2] == ("state", dlq_id) and letter is not None:
            state = item
    return None if letter is None else (*letter, state)


def _records(topic: list[tuple[int, Item]]) -> list[ConsumerRecord]:
    ends: Counter[int] = Counter()
    records = []
    for partition, item in topic:
        records.append(_record(partition, ends[partition], item))
        ends[partition] += 1
    return records


@given(topics)
def test_the_view_is_what_the_last_records_say(topic: list[tuple[int, Item]]) -> None:
    view = fold(_records(topic))

    found = {letter.dlq_id: letter for letter in view.letters}
    kinds = Counter(str(item[0]) for _, item in topic)
    for dlq_id in IDS:
        ends = [
            (_at(end[1][2]), number, end)
            for number in PARTITIONS
            if (end := _stands([item for at, item in topic if at == number], dlq_id)) is not None
        ]
        assert (dlq_id in found) == bool(ends)
        if ends:
            shown = found[dlq_id]
            at, number, (offset, _, _) = max(ends, key=lambda end: end[:2])
            states = [state for _, _, (_, _, state) in ends if state is not None]
            assert (shown.partition, shown.offset, shown.at) == (number, offset, at)
            assert (shown.state_at is None) == (not states)
            if states:
                last = max(_at(state[2]) for state in states)
                assert shown.state_at == last
                assert shown.state in [state[3] for state in states if _at(state[2]) == last]
            else:
                assert shown.state is State.OPEN
    assert view.repeated == kinds["letter"] - len(found)
    assert (view.states, view.unknown) == (kinds["state"], kinds["noise"])
    assert [x.at for x in view.letters] == sorted((x.at for x in view.letters), reverse=True)


@given(topics, st.permutations(PARTITIONS))
def test_which_partition_is_read_first_changes_nothing(
    topic: list[tuple[int, Item]], order: list[int]
) -> None:
    records = _records(topic)
    one_by_one = [r for number in order for r in records if r.tp.partition == number]

    assert fold(one_by_one) == fold(records)


def _maybe(*values: object) -> st.SearchStrategy[object]:
    return st.sampled_from((None, *values))


summaries = st.builds(
    LetterSummary,
    dlq_id=st.uuids().map(str),
    event_id=_maybe("e1", "e2"),
    workflow=_maybe("report", "bill"),
    kind=st.sampled_from((Kind.PERMANENT, Kind.TIMEOUT)),
    reason=st.sampled_from((Reason.PERMANENT, Reason.DEADLINE)),
    node=_maybe("book", "pay"),
    fingerprint=_maybe("f1", "f2"),
    error_type=st.sampled_from(("ValueError", "KeyError")),
    message=st.just("no"),
    at=st.integers(0, 40 * 60).map(lambda ago: NOON - timedelta(minutes=ago)),
    redrive_count=st.just(0),
    partition=st.just(0),
    offset=st.just(0),
    state=st.sampled_from(State),
)
many = st.lists(summaries, max_size=40, unique_by=lambda letter: letter.dlq_id).map(
    lambda some: sorted(some, key=lambda letter: (letter.at, letter.dlq_id), reverse=True)
)
hours_ago = st.none() | st.integers(0, 40).map(lambda ago: NOON - timedelta(hours=ago))
queries = st.builds(
    Query,
    workflow=_maybe("report"),
    kind=_maybe(Kind.TIMEOUT),
    reason=_maybe(Reason.DEADLINE),
    node=_maybe("book"),
    fingerprint=_maybe("f1"),
    since=hours_ago,
    until=hours_ago,
    state=_maybe(State.OPEN),
    ids=st.sampled_from((frozenset(), frozenset({"e1"}))),
)


def _naive(some: list[LetterSummary], query: Query) -> list[LetterSummary]:
    left = some
    for name in ("workflow", "kind", "reason", "node", "fingerprint", "state"):
        wanted = getattr(query, name)
        if wanted is not None:
            left = [letter for letter in left if getattr(letter, name) == wanted]
    if query.ids:
        left = [letter for letter in left if {letter.dlq_id, letter.event_id} & query.ids]
    if query.since is not None:
        left = [letter for letter in left if not letter.at < query.since]
    if query.until is not None:
        left = [letter for letter in left if letter.at < query.until]
    return left


@given(many, queries)
def test_a_query_means_the_letters_that_fit_all_it_says(
    some: list[LetterSummary], query: Query
) -> None:
    assert choose(some, query) == _naive(some, query)


@given(many, queries, st.integers(1, 7))
def test_the_pages_together_are_the_whole(
    some: list[LetterSummary], query: Query, limit: int
) -> None:
    pages, after = [], None
    while True:
        page = page_of(some, query, limit=limit, after=after)
        pages.append(page)
        after = page.after
        if after is None:
            break

    wanted = _naive(some, query)
    assert [letter for page in pages for letter in page.letters] == wanted
    assert {page.total for page in pages} == {len(wanted)}
    assert all(len(page.letters) == limit for page in pages[:-1])
    assert bool(pages[-1].letters) == bool(wanted)


@given(many, many, st.integers(1, 5))
def test_letters_that_come_between_two_pages_move_none_of_the_next(
    some: list[LetterSummary], others: list[LetterSummary], limit: int
) -> None:
    first = page_of(some, Query(), limit=limit)
    if first.after is None:
        return
    newest = some[0].at
    new = [letter for letter in others if letter.at > newest]
    grown = sorted(some + new, key=lambda letter: (letter.at, letter.dlq_id), reverse=True)

    second = page_of(grown, Query(), limit=limit, after=first.after)

    assert list(second.letters) == some[limit : 2 * limit]


@given(many)
def test_groups_part_the_letters_by_cause_and_count_each_once(some: list[LetterSummary]) -> None:
    groups = group(some, NOON)

    causes = Counter(
        x.fingerprint or (x.kind, x.error_type, x.node, x.workflow, "no fingerprint") for x in some
    )
    assert sorted(one.count for one in groups) == sorted(causes.values())
    assert sum(one.open for one in groups) == sum(x.state is State.OPEN for x in some)
    for one in groups:
        assert one.first <= one.last == one.newest.at
        assert sum(one.hours) <= one.count
    young = [x for x in some if NOON - x.at < timedelta(hours=24)]
    assert sum(sum(one.hours) for one in groups) == len(young)
    for ago in range(24):
        in_hour = sum((NOON - x.at) // timedelta(hours=1) == ago for x in some)
        assert sum(one.hours[23 - ago] for one in groups) == in_hour
    assert [one.open for one in groups] == sorted((one.open for one in groups), reverse=True)
