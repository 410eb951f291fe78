"""A rate limit in a worker, from the refusal to the letters of those who waited in vain.

Real attempts of real graphs, on a clock that the test turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, Self, TypedDict

import httpx
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from structlog.testing import capture_logs
from tests.property.test_settling import Broker, Client

from redrive.auditing.judge import Commits, Judge
from redrive.auditing.read_since import ReadSince
from redrive.clock import Clock
from redrive.consumer.buffer import Buffer
from redrive.consumer.dispatcher import Dispatcher
from redrive.consumer.lingering import LingeringWatch
from redrive.consumer.outcome import Ending, Outcome, PolledRecord
from redrive.consumer.outcome_builder import OutcomeBuilder
from redrive.consumer.partitions import Partitions
from redrive.consumer.policy import Policy
from redrive.consumer.run_queue import RunQueue
from redrive.consumer.runner import Runner
from redrive.consumer.settle import Settler
from redrive.dead_letter.record import DeadLetter
from redrive.events import WorkflowEvent, WorkflowResultEvent
from redrive.graphs import Lease, WorkflowProcessor
from redrive.graphs.retention import Mark
from redrive.kafka.batches import Batch, ProducerRecord, Stored
from redrive.kafka.log import Committed, ConsumerRecord, TopicPartition
from redrive.retry import Classifier, Reason, RetryConfig
from redrive.state.commit_metadata import CommitMetadata, StoredRest, decode, encode
from redrive.state.reservations import Reservations, history_after_death
from redrive.testing.kafka_env import event
from redrive.testing.manual_clock import ManualClock

PLACE, RESULTS, LETTERS = (
    TopicPartition("events", 0),
    TopicPartition("results", 0),
    TopicPartition("letters", 0),
)
A_DAY_S = 86_400
LONGEST_S = 120.0
_ROUNDS = 20


class State(TypedDict, total=False):
    after: str
    host: str
    fail_first: str


class Service:
    """Refuses whom it is told to, and writes down who came."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.calls: list[tuple[float, str]] = []
        self.failed: set[str] = set()

    async def before(self, _: State) -> State:
        return {}

    async def call(self, state: State) -> State:
        host = state.get("host", "search.example")
        self.calls.append((self.clock.monotonic(), host))
        url = httpx.Request("POST", f"https://{host}/api")
        if first := state.get("fail_first"):
            if first not in self.failed:
                self.failed.add(first)
                httpx.Response(503, request=url).raise_for_status()
        elif after := state.get("after"):
            httpx.Response(429, headers={"retry-after": after}, request=url).raise_for_status()
        return {}


class World:
    """One life of a worker: its event loop's side, whole."""

    def __init__(
        self,
        clock: ManualClock,
        *,
        saver: InMemorySaver | None = None,
        starts: Reservations | None = None,
        longest_s: float = LONGEST_S,
    ) -> None:
        self.clock = clock
        self.service = Service(clock)
        self.finished: list[Outcome] = []
        self.unsettled: list[Outcome] = []
        self.noted: Sequence[StoredRest] = ()
        self.sent: list[ConsumerRecord] = []
        self.starts = starts or Reservations()
        self.starts.cover(0, 0, ahead=100)
        self.starts.stored()
        self.run_queue = RunQueue(
            in_flight=4, max_crashes=3, suspects_at_once=2, longest_rest_s=longest_s
        )
        answers = _answers(clock)
        graph: Any = StateGraph(State)
        graph.add_node("before", self.service.before).add_node("call", self.service.call)
        graph.add_edge(START, "before").add_edge("before", "call")
        runner = Runner(
            WorkflowProcessor({"*": graph}, saver or InMemorySaver(), clock=clock),
            answers,
            policy=lambda _: Policy(RetryConfig(max_retries=3, jitter=False)),
            grace_s=1.0,
            classifier=Classifier(clock=clock),
            worker="w",
            clock=clock,
        )
        self.dispatcher = Dispatcher(
            runner,
            answers,
            self.run_queue,
            LingeringWatch(lambda _: None, grace_s=1.0),
            finish=self.unsettled.append,
            new_lease=lambda _: Lease(),
            mark=_mark,
            clock=clock,
            remember=self._remember,
        )

    def _remember(self, rests: Sequence[StoredRest]) -> None:
        self.noted = rests

    def record(self, asked: WorkflowEvent, *, within_s: float | None = None) -> ConsumerRecord:
        headers: tuple[tuple[str, bytes], ...] = ()
        if within_s is not None:
            deadline_ms = round((self.clock.now().timestamp() + within_s) * 1000)
            headers = (("redrive-deadline", str(deadline_ms).encode()),)
        return ConsumerRecord(PLACE, len(self.sent), b"key", asked.to_bytes(), headers, 1)

    async def send(self, *records: ConsumerRecord) -> None:
        self.sent.extend(records)
        self.dispatcher.accept([PolledRecord(record, 1, self.starts) for record in records])
        await self.rest()

    async def give(
        self,
        data: State | None = None,
        *,
        workflow: str = "search",
        within_s: float | None = None,
    ) -> WorkflowEvent:
        asked = event(dict(data or {}), workflow_id=workflow)
        await self.send(self.record(asked, within_s=within_s))
        return asked

    async def rest(self) -> None:
        """Let the event loop, and the commits that it waits for, do all that they can do now."""
        async with asyncio.timeout(10):
            quiet = 0
            while quiet < _ROUNDS:
                await asyncio.sleep(0)
                waits = self.starts.news or self.unsettled
                quiet = 0 if waits or self.dispatcher.running else quiet + 1
                if waits:
                    self._commit()

    def _commit(self) -> None:
        ended = self.unsettled.copy()
        self.unsettled.clear()
        self.finished += ended
        done = sum(1 << each.polled.offset for each in self.finished)
        self.starts.cover(0, done, ahead=100)
        self.starts.stored()
        self.starts.finish(0, done)
        self.dispatcher.settled(ended)

    async def turn(self, seconds: float) -> None:
        await self.clock.turn(seconds)
        await self.rest()

    def endings(self) -> list[tuple[int, str]]:
        return [(each.polled.offset, _reason(each)) for each in self.finished]

    async def __aenter__(self) -> Self:
        self._tasks = await asyncio.TaskGroup().__aenter__()
        self._waking = self.dispatcher.begin(self._tasks)
        await self.rest()
        return self

    async def __aexit__(self, *error: Any) -> None:  # noqa: PYI036 - as it comes
        self._waking.cancel()
        await self._tasks.__aexit__(*error)


def _answers(clock: Clock) -> OutcomeBuilder:
    return OutcomeBuilder(
        results_topic=RESULTS.topic,
        dlq_topic=LETTERS.topic,
        max_bytes={RESULTS.topic: 10**6, LETTERS.topic: 10**6},
        worker="w",
        clock=clock,
    )


async def _mark(_: Collection[str], __: Mark) -> None:
    """Keep nothing."""


def _reason(outcome: Outcome) -> str:
    result = WorkflowResultEvent.from_bytes(outcome.records[0].value)
    return "success" if result.error_info is None else result.error_info.reason.value


def letter_of(outcome: Outcome) -> DeadLetter:
    (record,) = [each for each in outcome.records if each.topic == LETTERS.topic]
    return DeadLetter.model_validate_json(record.value or b"")


@pytest.mark.invariant("P7", "P8")
async def test_a_day_holds_its_own_run_alone_and_who_expires_in_the_rest_has_a_letter() -> None:
    async with World(ManualClock()) as world:
        refused = await world.give({"after": str(A_DAY_S)})
        late = [await world.give(within_s=8) for _ in range(2)]
        for _ in range(2):
            await world.give()
        await world.turn(8.5)
        expired = world.endings()
        await world.turn(LONGEST_S - 8.5)
        others = world.endings()[len(expired) :]
        await world.turn(A_DAY_S - LONGEST_S - 1)
        calls = len(world.service.calls)
        await world.turn(1.0)

        assert expired == [(1, "expired_resting"), (2, "expired_resting")]
        assert sorted(others) == [(3, "success"), (4, "success")]
        # One refusal and two successes; the run that was refused comes back after its day.
        assert calls == 3
        assert [at for at, _ in world.service.calls[3:]] == [A_DAY_S]

    letter = letter_of(world.finished[0])
    assert (letter.kind.value, letter.reason) == ("timeout", Reason.EXPIRED_RESTING)
    assert letter.error.type == "redrive.errors.RestExpiredError"
    for told in ("search.example", "workflow 'search'", "86400 s", "2026-01-01T00:02:00Z"):
        assert told in letter.error.message
    assert letter.error.notes == [
        f"the run that was refused is that of event {refused.event_id}",
    ]
    assert (letter.attempts, letter.retry_count, letter.checkpoint) == ([], 0, None)
    assert letter.source.value == late[0].to_bytes()
    assert letter_of(world.finished[1]).fingerprint == letter.fingerprint
    account = world.finished[0].account
    assert account is not None
    assert (account.ending, account.attempts) == (Ending.DEAD_LETTERED, 0)


async def test_a_run_that_was_tried_before_keeps_where_it_stood() -> None:
    async with World(ManualClock()) as world:
        await world.give({"fail_first": "it"}, within_s=30)
        await world.give({"after": "60"})
        await world.turn(31)

        assert world.endings() == [(0, "expired_resting")]

    letter = letter_of(world.finished[0])
    assert [attempt.kind.value for attempt in letter.attempts] == ["transient"]
    assert letter.checkpoint is not None
    assert letter.checkpoint.checkpoint_id
    assert letter.node == "call"


async def test_an_event_that_comes_too_late_without_a_rest_expires_without_a_letter() -> None:
    async with World(ManualClock()) as world:
        await world.give({"after": "5"})
        await world.turn(6)
        await world.give(within_s=-0.5)

        assert world.endings() == [(1, "expired")]
        assert len(world.finished[0].records) == 1


@pytest.mark.invariant("P10")
async def test_who_is_known_to_call_the_same_dependency_rests_too_and_others_do_not() -> None:
    async with World(ManualClock()) as world:
        await world.give({"fail_first": "it"}, workflow="twin")
        await world.turn(2)
        await world.give({"after": "50"}, workflow="search")
        with capture_logs() as logs:
            for workflow in ("search", "twin", "stranger"):
                await world.give(workflow=workflow)
            await world.turn(49)
            early = world.endings()
            await world.turn(2)

        assert early == [(0, "success"), (4, "success")]
        assert sorted(world.endings()[2:]) == [(2, "success"), (3, "success")]
        assert world.run_queue.resting == 0
    (told,) = [line for line in logs if line["event"] == "workflow.rested"]
    assert (told["workflow_id"], told["dependency"]) == ("search", "search.example")


async def test_a_failure_that_names_nobody_holds_its_own_workflow_alone() -> None:
    async with World(ManualClock()) as world:
        world.run_queue.rests.calls("other", "search.example")
        with capture_logs() as logs:
            await world.give({"after": "50", "host": ""})
            await world.give()
            await world.give(workflow="other")

        assert world.endings() == [(2, "success")]
    (told,) = [line for line in logs if line["event"] == "workflow.rests"]
    assert (told["dependency"], told["for_s"], told["asked_s"]) == (None, 50, 50)


@pytest.mark.invariant("P10")
async def test_a_restart_remembers_rests_and_until_when_an_event_waits() -> None:
    clock, saver = ManualClock(), InMemorySaver()
    async with World(clock, saver=saver) as first:
        refused = first.record(event({"after": "50"}, workflow_id="search"))
        await first.send(refused)
        waits = first.record(event({}, workflow_id="search"), within_s=30)
        await first.send(waits)
        coverage = first.starts.cover(0, 0, ahead=0)
        wall_s = int(clock.now().timestamp())
        text = encode(
            CommitMetadata(1, 1, 0, coverage.until, coverage.entries, wall_s, tuple(first.noted))
        )
    clock.advance(10)

    metadata = decode(text)
    assert metadata is not None
    history = history_after_death(metadata, 0, end=2, now=clock.now().timestamp())
    async with World(clock, saver=saver, starts=Reservations(history)) as second:
        second.dispatcher.recall([metadata])
        await second.send(refused)
        await second.send(waits)
        await second.give(workflow="stranger")
        await second.turn(20.5)
        expired = second.endings()
        await second.turn(19.0)
        early = len(second.service.calls)
        await second.turn(0.5)

    # The stranger goes on at once; who waits for the service comes too late; the refused one waits.
    assert expired == [(2, "success"), (1, "expired_resting")]
    assert early == 1
    assert [at for at, _ in second.service.calls[1:]] == [50]
    assert "search.example" in letter_of(second.finished[1]).error.message


@pytest.mark.invariant("P6", "P14")
async def test_the_judge_has_nothing_to_say_of_such_letters_and_misses_one_that_is_not_there() -> (
    None
):
    async with World(ManualClock()) as world:
        await world.give({"after": "5"})
        await world.give(within_s=3)
        await world.turn(4)
    (outcome,) = world.finished
    results = _written(RESULTS, outcome.records)
    letters = _written(LETTERS, outcome.records)
    commits = Commits.of({PLACE: Committed(0, encode(CommitMetadata(1, 1, 0b10)))})

    def judged(letters: list[ConsumerRecord]) -> tuple[list[str], dict[str, int]]:
        judge = Judge()
        judge.take_results(results, ReadSince())
        judge.take_letters(letters, ReadSince())
        judge.take_events(world.sent, ReadSince(), commits=commits, starts={PLACE: 0})
        return [finding.promise for finding in judge.findings()], dict(judge.letters)

    assert judged(letters) == ([], {"expired_resting": 1})
    assert judged([]) == (["P6"], {})


def _written(tp: TopicPartition, records: Sequence[ProducerRecord]) -> list[ConsumerRecord]:
    mine = [record for record in records if record.topic == tp.topic]
    return [
        ConsumerRecord(tp, at, each.key, each.value, tuple(each.headers), 2)
        for at, each in enumerate(mine)
    ]


async def test_without_rests_nobody_but_the_refused_run_waits() -> None:
    async with World(ManualClock(), longest_s=0.0) as world:
        await world.give({"after": str(A_DAY_S)})
        with capture_logs() as logs:
            await world.give()

        assert world.endings() == [(1, "success")]
        assert (world.run_queue.resting, world.noted, logs) == (0, (), [])


class Settling:
    """A settler whose batches are stored at once, and what it hands to the event loop."""

    def __init__(self, broker: Broker, clock: ManualClock, *, incarnation: int) -> None:
        self.client: Any = Client(broker)
        self.broker = broker
        self.told: list[str] = []
        self.recalled: list[CommitMetadata] = []
        partitions = Partitions(
            buffer=Buffer(2**20), session_timeout_s=30, incarnation=incarnation, clock=clock
        )
        self.settler = Settler(
            self, self, partitions, incarnation=incarnation, transactional=True, clock=clock
        )
        self.settler.assigned(self.client, [PLACE])

    def submit(self, batch: Batch) -> None:
        self.broker.commit(batch)
        self.settler.report(Stored(batch.number))

    def try_out(self, batch: Batch) -> None:
        raise AssertionError(f"{batch} is stored, and nothing waits apart")

    def watch(self) -> None: ...

    def renew(self) -> None: ...

    def deliver(self, polled_records: Sequence[PolledRecord]) -> None:
        self.told += ["deliver"] * len(polled_records)

    def recall(self, all_metadata: Sequence[CommitMetadata]) -> None:
        self.told.append("recall")
        self.recalled += all_metadata

    def suspend(self, tps: object) -> None: ...

    def resume(self, tps: object) -> None: ...

    def revoke(self, tps: object) -> None: ...

    def settled(self, outcomes: object) -> None: ...


@pytest.mark.invariant("P10")
def test_rests_go_with_the_commits_and_come_back_to_the_next_worker_before_its_events() -> None:
    broker, clock = Broker(), ManualClock()
    wall_s = int(clock.now().timestamp())
    first = Settling(broker, clock, incarnation=1)
    record = ConsumerRecord(PLACE, 0, None, b"{}", (), 1)
    first.settler.received([record])
    first.settler.remember([StoredRest("search", "search.example", wall_s + 30, 86_400)])
    first.settler.turn(first.client, gap_s=0.0)

    second = Settling(broker, clock, incarnation=2)
    second.settler.received([record])

    assert first.recalled == []
    assert second.told == ["recall", "deliver"]
    (metadata,) = second.recalled
    assert (metadata.at, metadata.rests) == (
        wall_s,
        (StoredRest("search", "search.example", wall_s + 30, 86_400),),
    )


@pytest.mark.invariant("P7", "P10")
async def test_a_service_that_is_gone_for_a_day_meets_one_run_at_a_time() -> None:
    async with World(ManualClock()) as world:
        for _ in range(10):
            await world.give({"after": str(A_DAY_S)})
        for _ in range(5):
            await world.turn(110)

        assert [at for at, _ in world.service.calls] == [0, 110, 220, 330, 440, 550]


@pytest.mark.invariant("P7", "P10")
async def test_a_restart_remembers_for_how_long_the_service_wants_to_be_left_alone() -> None:
    clock = ManualClock()
    async with World(clock, longest_s=50.0) as first:
        await first.give({"after": str(A_DAY_S)})
        metadata = CommitMetadata(1, 1, at=int(clock.now().timestamp()), rests=tuple(first.noted))
    clock.advance(30.5)

    noted = decode(encode(metadata))
    assert noted is not None
    async with World(clock, longest_s=50.0) as second:
        second.dispatcher.recall([noted])
        await second.give(within_s=5)
        for _ in range(2):
            await second.give()
        await second.turn(14.5)
        calls = [at for at, _ in second.service.calls]
        await second.turn(5)

    # Counted from the first refusal, and again one goes first.
    assert calls == [45.0]
    assert [at for at, _ in second.service.calls] == [45.0, 50.0]
    assert "86400 s" in letter_of(second.finished[0]).error.message
