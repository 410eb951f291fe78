"""Letters driven again on a real broker, with a real worker: what runs again, and what is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import fields, replace
from datetime import timedelta
from functools import partial
from typing import Any, TypedDict

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from langgraph.graph import START, StateGraph
from pytest import raises  # noqa: PT013 - the one name of it that is needed

from redrive.clock import SYSTEM
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.errors import KafkaUnavailableError
from redrive.events import EventHeaders, Payload, ResultStatus, WorkflowResultEvent
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.kafka.client import admin_config
from redrive.kafka.connect import make_admin
from redrive.kafka.log import ConsumerRecord
from redrive.kafka.partition_log import log_consumer
from redrive.redriving.batch_pacing import Pacing
from redrive.redriving.engine import move, plan, redrive
from redrive.redriving.fenced_partition import KafkaFencedPartition
from redrive.redriving.following import RunEnding, follow
from redrive.redriving.jobs import Order
from redrive.redriving.letters_topic import StoredLetter, StoredState, event_id_of, stored
from redrive.redriving.redrive_report import Report
from redrive.redriving.selection import Selection
from redrive.redriving.views import read_letters
from redrive.retry.kinds import Reason
from redrive.settings import Settings
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.wiring import LangGraphKafkaConsumer

MakeStage = Callable[..., KafkaEnv]
ALL = Selection()
ORDERED = {field.name for field in fields(Order)}
LONG = timedelta(seconds=30)


class Log(TypedDict, total=False):
    steps: list[str]
    text: str


class Story:
    """A line of nodes; the ones that are named fail, and each run of one is counted."""

    def __init__(self, *failing: str) -> None:
        self.ran: Counter[str] = Counter()
        self.failing = set(failing)

    def node(self, name: str) -> Any:  # noqa: ANN401 - LangGraph's type of a node
        async def run(state: Log) -> Log:
            self.ran[name] += 1
            if name in self.failing:
                raise ValueError(f"{name} has no rights")
            return {"steps": [*state.get("steps", []), name]}

        return run

    def graph(self, *names: str) -> Any:  # noqa: ANN401 - LangGraph's type of a graph
        graph: Any = StateGraph(Log)
        before = START
        for name in names or ("plan", "work", "write"):
            graph.add_node(name, self.node(name)).add_edge(before, name)
            before = name
        return graph


@asynccontextmanager
async def worker(env: KafkaEnv, graph: Any) -> AsyncIterator[None]:  # noqa: ANN401 - as above
    settings = Settings(
        kafka=env.kafka_settings(),
        checkpoints=CheckpointSettings(url=f"sqlite:///{env.folder}/checkpoints.db"),
    )
    async with LangGraphKafkaConsumer(settings, {"*": graph}):
        yield


async def settled(env: KafkaEnv) -> None:
    await asyncio.to_thread(env.wait_settled, timeout_s=30)


async def drive(env: KafkaEnv, selection: Selection = ALL, **wishes: Any) -> Report:
    ordered = {name: wishes.pop(name) for name in ORDERED if name in wishes}
    call = partial(
        redrive,
        env.kafka_settings(),
        selection,
        Order(**ordered),
        actor="anna",
        pacing=Pacing(**wishes),
    )
    return await asyncio.to_thread(call)


async def ends(env: KafkaEnv, report: Report) -> list[RunEnding]:
    kafka = env.kafka_settings()
    return await asyncio.to_thread(lambda: list(follow(kafka, report, timeout=LONG)))


def records(env: KafkaEnv, topic: str) -> list[ConsumerRecord]:
    return read_topic(env.bootstrap_servers, getattr(env.topics, topic))


def letters(env: KafkaEnv) -> list[DeadLetter]:
    found = map(stored, records(env, "dlq"))
    return [one.letter for one in found if isinstance(one, StoredLetter)]


def states(env: KafkaEnv) -> list[LetterState]:
    found = map(stored, records(env, "dlq"))
    return [one.state for one in found if isinstance(one, StoredState)]


def told(env: KafkaEnv) -> list[tuple[State, str]]:
    return [(state.state, state.actor) for state in states(env)]


def reasons(report: Report) -> list[str]:
    return [no.refusal.value for no in report.refused]


@pytest.mark.invariant("P4", "P13")
async def test_a_resumed_letter_runs_from_the_node_that_failed_and_is_resolved(
    make_stage: MakeStage,
) -> None:
    env, story = make_stage(), Story("write")
    asked = event({})
    async with worker(env, story.graph()):
        env.send([asked], headers={"tenant": "seven", "redrive-deadline": "99999999999999"})
        await settled(env)
        story.failing.clear()

        report = await drive(env, reason="the rights are back")
        (ending,) = await ends(env, report)
        await settled(env)

    assert story.ran == {"plan": 1, "work": 1, "write": 2}
    assert ending.answer.result == {"steps": ["plan", "work", "write"]}
    run = ending.answer.run
    assert run is not None
    assert (run.redrive_count, run.resumed, run.resume_verified) == (1, True, True)
    driven, resolved = states(env)
    assert (driven.state, driven.actor, driven.reason) == (
        State.REDRIVEN,
        "anna",
        "the rights are back",
    )
    assert (resolved.state, resolved.dlq_id) == (State.RESOLVED, letters(env)[0].dlq_id)
    first, second = records(env, "events")
    assert (second.key, second.value, second.tp) == (first.key, first.value, first.tp)
    assert ("tenant", b"seven") in second.headers
    assert EventHeaders.read(second.headers).deadline is None
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []


async def test_the_same_event_sent_again_after_its_redrive_gets_that_answer_and_runs_nothing(
    make_stage: MakeStage,
) -> None:
    env, story, asked = make_stage(), Story("write"), event({})
    async with worker(env, story.graph()):
        env.send([asked])
        await settled(env)
        story.failing.clear()
        await ends(env, await drive(env))
        await settled(env)

        # As an Airflow task does that is cleared.
        env.send([asked])
        await settled(env)

    given_up, driven, again = (
        WorkflowResultEvent.from_bytes(record.value) for record in records(env, "results")
    )
    assert given_up.status is ResultStatus.ERROR
    assert (again.status, again.result) == (ResultStatus.SUCCESS, driven.result)
    assert story.ran == {"plan": 1, "work": 1, "write": 2}
    assert [state for state, _ in told(env)] == [State.REDRIVEN, State.RESOLVED]


async def test_a_restarted_letter_runs_all_nodes(make_stage: MakeStage) -> None:
    env, story = make_stage(), Story("write")
    async with worker(env, story.graph()):
        env.send([event({})])
        await settled(env)
        story.failing.clear()

        (ending,) = await ends(env, await drive(env, mode="restart"))
        await settled(env)

    assert ending.succeeded
    assert story.ran == {"plan": 2, "work": 2, "write": 2}
    assert [state for state, _ in told(env)] == [State.REDRIVEN, State.RESOLVED]


@pytest.mark.invariant("P13")
async def test_a_run_that_fails_again_writes_a_new_letter_until_it_was_driven_too_often(
    make_stage: MakeStage,
) -> None:
    env, story = make_stage(), Story("write")
    async with worker(env, story.graph()):
        env.send([event({})])
        await settled(env)
        for _ in range(2):
            (ending,) = await ends(env, await drive(env, max_redrives=2))
            assert ending.failed_alike
        await settled(env)
        refused = await drive(env, max_redrives=2)

    assert [letter.redrive_count for letter in letters(env)] == [0, 1, 2]
    assert (reasons(refused), refused.done) == (["too_many"], [])
    assert story.ran == {"plan": 1, "work": 1, "write": 3}
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []


async def test_a_letter_whose_node_is_gone_is_refused_by_the_worker(make_stage: MakeStage) -> None:
    env, story = make_stage(), Story("write")
    async with worker(env, story.graph()):
        env.send([event({})])
        await settled(env)
    async with worker(env, story.graph("plan", "work", "print")):
        (ending,) = await ends(env, await drive(env))
        await settled(env)

    info = ending.answer.error_info
    assert info is not None
    assert info.reason is Reason.GRAPH_CHANGED
    assert letters(env)[-1].reason is Reason.GRAPH_CHANGED
    assert story.ran["print"] == 0


async def test_a_resume_is_refused_where_another_run_has_used_the_thread(
    make_stage: MakeStage,
) -> None:
    env, story = make_stage(partitions=1), Story("write")
    async with worker(env, story.graph()):
        env.send([event({})], headers={"redrive-thread": "chat-7"})
        await settled(env)
        story.failing.clear()
        env.send([event({})], headers={"redrive-thread": "chat-7"})
        await settled(env)

        (ending,) = await ends(env, await drive(env))
        refused = await drive(env)
        (again,) = await ends(env, await drive(env, mode="restart"))
        await settled(env)

    info = ending.answer.error_info
    assert info is not None
    assert info.reason is Reason.THREAD_MOVED_ON
    assert reasons(refused) == ["thread_moved_on"]
    assert again.succeeded


async def test_what_expires_before_it_begins_leaves_its_letter_open(make_stage: MakeStage) -> None:
    env, story = make_stage(), Story("write")
    async with worker(env, story.graph()):
        env.send([event({})])
        await settled(env)
        story.failing.clear()

        (late,) = await ends(env, await drive(env, deadline=timedelta(seconds=-1)))
        (ending,) = await ends(env, await drive(env))
        await settled(env)

    assert late.answer.status is ResultStatus.ERROR
    assert ending.succeeded
    told_of = [(state.state, state.redrive_count) for state in states(env)]
    assert told_of == [
        (State.REDRIVEN, 1),
        (State.OPEN, 1),
        (State.REDRIVEN, 2),
        (State.RESOLVED, 2),
    ]


async def test_what_cannot_be_read_is_driven_once_it_is_edited(make_stage: MakeStage) -> None:
    env, story, mended = make_stage(), Story(), event({"text": "mended"})
    async with worker(env, story.graph()):
        env.send([b'{"event_id": "%s", "payload": 1}' % mended.event_id.encode()])
        await settled(env)
        (letter,) = letters(env)

        refused = await drive(env)
        report = await drive(env, replace={letter.dlq_id: mended.to_bytes()})
        (ending,) = await ends(env, report)
        await settled(env)

    assert reasons(refused) == ["not_readable"]
    assert ending.answer.result == {"text": "mended", "steps": ["plan", "work", "write"]}
    assert states(env)[0].model_extra == {"edited": True}
    assert letters(env) == [letter]


async def test_when_the_first_ones_fail_the_others_stay(make_stage: MakeStage) -> None:
    env, story = make_stage(partitions=2), Story("write")
    async with worker(env, story.graph()):
        env.send([event({}) for _ in range(6)])
        await settled(env)

        stopped = await drive(env, canary=2)
        # The second of the two may not have come back yet, and is no open letter before that.
        await settled(env)
        story.failing.clear()
        report = await drive(env, canary=2)
        ended = await ends(env, report)
        await settled(env)

    assert len(stopped.done) == 2
    assert stopped.stopped is not None
    assert (len(report.done), report.stopped) == (6, None)
    assert all(ending.succeeded for ending in ended)
    assert story.ran == {"plan": 6, "work": 6, "write": 6 + 2 + 6}


async def test_a_run_that_comes_back_as_its_letter_stops_the_others(make_stage: MakeStage) -> None:
    env, story = make_stage(partitions=1), Story("write")
    async with worker(env, story.graph()):
        env.send([event({}) for _ in range(100)])
        await settled(env)

        # Ten seconds for all: the first comes back well before, also on a busy machine.
        report = await drive(env, rate=10.0, stop_on_same_fingerprint=True)
        await settled(env)

    assert 10 <= len(report.done) < 100
    assert report.stopped is not None
    assert "ended again as its letter did" in report.stopped


async def test_parked_and_discarded_letters_are_not_driven(make_stage: MakeStage) -> None:
    env, story = make_stage(partitions=1), Story("write")
    kafka, first, second = env.kafka_settings(), event({}), event({})
    async with worker(env, story.graph()):
        env.send([first, second])
        await settled(env)
    one, two = Selection.of([first.event_id]), Selection.of([second.event_id, "nobody"])

    parked = move(kafka, one, State.PARKED, actor="bob", reason="the bank is closed")
    gone = move(kafka, two, State.DISCARDED, actor="bob")
    refused = plan(kafka, Selection.of([first.event_id, second.event_id]))
    back = move(kafka, ALL, State.OPEN, actor="carl")
    planned = plan(kafka, ALL)

    assert [len(parked.done), len(gone.done), len(back.done)] == [1, 1, 1]
    assert gone.unknown == {"nobody"}
    assert reasons(refused) == ["parked", "discarded"]
    assert [done.entry.event_id for done in planned.done] == [first.event_id]
    assert told(env) == [
        (State.PARKED, "bob"),
        (State.DISCARDED, "bob"),
        (State.OPEN, "carl"),
    ]
    assert len(records(env, "events")) == 2


@pytest.mark.invariant("P13")
async def test_what_a_killed_redrive_left_open_counts_for_nothing(make_stage: MakeStage) -> None:
    env, story = make_stage(partitions=1), Story("write")
    async with worker(env, story.graph()):
        env.send([event({})])
        await settled(env)
    killed = Producer(
        {
            "bootstrap.servers": env.bootstrap_servers,
            "transactional.id": f"redrive.{env.topics.dlq}.0",
        }
    )
    killed.init_transactions(10)
    killed.begin_transaction()
    killed.produce(env.topics.events, letters(env)[0].source.value, partition=0)
    assert killed.flush(10) == 0

    report = await drive(env)

    assert len(report.done) == 1
    assert len(records(env, "events")) == 2


async def test_letters_behind_an_open_transaction_are_waited_for(make_stage: MakeStage) -> None:
    env, story = make_stage(partitions=1), Story("write")
    async with worker(env, story.graph()):
        env.send([event({})])
        await settled(env)
    other = Producer(
        {"bootstrap.servers": env.bootstrap_servers, "transactional.id": env.topics.dlq}
    )
    other.init_transactions(10)
    other.begin_transaction()
    other.produce(env.topics.dlq, b"a worker's", partition=0)
    assert other.flush(10) == 0
    impatient = env.kafka_settings().model_copy(update={"startup_timeout": timedelta(seconds=8)})
    sizes = dict.fromkeys(env.topics.names, 1_000_000)
    admin = make_admin(admin_config(impatient))
    with closing(log_consumer(impatient)) as consumer:
        fenced = KafkaFencedPartition(
            impatient, 0, consumer=consumer, admin=admin, max_bytes=sizes, clock=SYSTEM
        )
        with raises(KafkaUnavailableError, match="not read to"):
            list(fenced.read(0, fenced.end()))
        other.abort_transaction(10)

        assert len(list(fenced.read(0, fenced.end()))) == 1


@pytest.mark.invariant("P13")
async def test_headers_copied_from_a_redrive_say_nothing_of_its_letter(
    make_stage: MakeStage,
) -> None:
    env, story = make_stage(partitions=2), Story("write")
    follow_up, by_an_older_version = event({}), event({})
    async with worker(env, story.graph()):
        env.send([event({})], partition=0)
        await settled(env)
        await ends(env, await drive(env))  # it fails again, and has a letter of its own
        bears = next(one for one in records(env, "events") if EventHeaders.read(one.headers).of)
        copied = {name: (value or b"").decode() for name, value in bears.headers}
        story.failing.clear()

        env.send([follow_up], headers=copied, partition=0)
        marks = {"redrive-of": letters(env)[-1].dlq_id, "redrive-count": "1"}
        env.send([by_an_older_version], headers=marks, partition=1)
        env.send([by_an_older_version], headers=marks, partition=0)
        await settled(env)
        stood = {one.dlq_id: one.state for one in read_letters(env.kafka_settings()).letters}
        ended = await ends(env, await drive(env))

    assert stood[letters(env)[-1].dlq_id] is State.OPEN
    assert [(end.entry.dlq_id, end.succeeded) for end in ended] == [(letters(env)[-1].dlq_id, True)]
    answered = [WorkflowResultEvent.from_bytes(one.value) for one in records(env, "results")]
    counts = [one.run and one.run.redrive_count for one in answered if one.status == "success"]
    assert sorted(count or 0 for count in counts) == [0, 0, 0, 2]
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []


def status(env: KafkaEnv) -> dict[str, tuple[State, str | None]]:
    found = read_letters(env.kafka_settings()).letters
    return {one.dlq_id: (one.state, one.superseded_by) for one in found}


def bearing(headers: EventHeaders) -> dict[str, str]:
    return {name: value.decode() for name, value in headers.write()}


@pytest.mark.invariant("P4", "P13")
async def test_no_event_of_an_outsider_resolves_reopens_or_blocks_a_letter(
    make_stage: MakeStage,
) -> None:
    env, story, asked, aside = make_stage(partitions=1), Story("write"), event({}), event({})
    kafka = env.kafka_settings()
    async with worker(env, story.graph()):
        env.send([asked, aside])
        await settled(env)
        one, parked = (letter.dlq_id for letter in letters(env))
        move(kafka, Selection.of([parked]), State.PARKED, actor="bob")
        forged = asked.model_copy(update={"payload": Payload(data={"text": "mine"})})
        claims = EventHeaders(of=one, event=asked.event_id, count=1, mode="restart", generation=7)
        env.send([forged], headers=bearing(claims))
        env.send([forged], headers=bearing(replace(claims, count=9, letters=1)))
        late = EventHeaders(of=parked, event=aside.event_id, count=1, deadline=1)
        env.send([aside], headers=bearing(late))
        await settled(env)
        stood, marked = status(env), states(env)
        ran = dict(story.ran)

        story.failing.clear()
        (ending,) = await ends(env, await drive(env, Selection.of([one])))
        await settled(env)
        copied = records(env, "events")[-1]
        env.send([asked], headers={name: (text or b"").decode() for name, text in copied.headers})
        await settled(env)

    assert (stood[one], stood[parked]) == ((State.OPEN, None), (State.PARKED, None))
    assert [state.state for state in marked] == [State.PARKED]
    assert {letter.redrive_count for letter in letters(env)} == {0}
    # Neither began anew on another thread.
    assert (ran["plan"], story.ran["plan"]) == (2, 2)
    assert ending.succeeded
    assert told(env)[1:] == [(State.REDRIVEN, "anna"), (State.RESOLVED, told(env)[-1][1])]
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []


@pytest.mark.invariant("P13")
async def test_a_redrive_by_a_version_before_resolves_its_letter(make_stage: MakeStage) -> None:
    env, story, asked = make_stage(partitions=1), Story("write"), event({})
    async with worker(env, story.graph()):
        env.send([asked])
        await settled(env)
        story.failing.clear()
        (letter,) = letters(env)
        driven = LetterState(
            dlq_id=letter.dlq_id,
            event_id=asked.event_id,
            state=State.REDRIVEN,
            timestamp=SYSTEM.now(),
            actor="anna",
            mode="restart",
            redrive_count=1,
        )
        producer = Producer({"bootstrap.servers": env.bootstrap_servers})
        producer.produce(env.topics.dlq, driven.to_bytes(), partition=0, headers=[*STATE_HEADERS])
        assert producer.flush(10) == 0
        sent = EventHeaders(
            of=letter.dlq_id, event=asked.event_id, count=1, mode="restart", generation=1
        )
        env.send([asked], headers=bearing(sent))
        await settled(env)

    assert [state for state, _ in told(env)] == [State.REDRIVEN, State.RESOLVED]
    assert story.ran == {"plan": 2, "work": 2, "write": 2}
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []


@pytest.mark.invariant("P1", "P13")
async def test_an_event_that_is_replayed_and_fails_again_has_an_open_letter(
    make_stage: MakeStage,
) -> None:
    env, story = make_stage(partitions=1), Story("write")
    kafka = env.kafka_settings()
    async with worker(env, story.graph()):
        env.send([event({}), event({})])
        await settled(env)
        resolved, discarded = (letter.dlq_id for letter in letters(env))
        await asyncio.to_thread(
            move, kafka, Selection.of([discarded]), State.DISCARDED, actor="anna"
        )
        story.failing.clear()
        await ends(env, await drive(env))
    over = {one.dlq_id: one.state for one in read_letters(kafka).letters}
    assert over == {resolved: State.RESOLVED, discarded: State.DISCARDED}

    # The group is set back, and what the runs had stored is gone.
    (env.folder / "checkpoints.db").unlink()
    start = TopicPartition(env.topics.events, 0, 0)
    group = ConsumerGroupTopicPartitions(env.topics.group, [start])
    admin = make_admin(admin_config(kafka))
    for moved in admin.alter_consumer_group_offsets([group]).values():
        moved.result(30)
    story.failing.add("write")
    async with worker(env, story.graph()):
        await settled(env)
        open_ = [one for one in read_letters(kafka).letters if one.state is State.OPEN]
        story.failing.clear()
        ended = await ends(env, await drive(env, mode="restart"))

    assert {one.event_id for one in open_} == {event_id_of(one) for one in letters(env)}
    assert {end.entry.event_id for end in ended} == {one.event_id for one in open_}
    assert all(end.succeeded for end in ended)
