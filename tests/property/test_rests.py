"""Rests against a naive model: whom they hold back, for how long, and how much is remembered."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.consumer.event_run import Run
from redrive.consumer.outcome import PolledRecord
from redrive.consumer.run_queue import RunQueue
from redrive.events import EventHeaders
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.state.rests import MOST_DEPENDENCIES, MOST_RESTS, MOST_WORKFLOWS, Rest, Rests
from redrive.testing.kafka_env import event

LONGEST_S = 120.0
AHEAD_S = 10.0
WORKFLOWS = ("a", "b", "c")
HOSTS = ("x.example", "y.example")


@dataclass
class Model:
    """All that was ever said, and nothing worked out ahead."""

    asked: list[tuple[float, float, str, str | None]] = field(default_factory=list)
    calls: set[tuple[str, str]] = field(default_factory=set)
    # Of whom: until when, whether that was cut short, and whether one has gone first.
    ends: dict[str, tuple[float, bool, bool]] = field(default_factory=dict)

    def ask(self, now: float, asked_s: float, workflow: str, host: str | None) -> None:
        self.asked.append((now, asked_s, workflow, host))
        end, whose = now + min(asked_s, LONGEST_S), host or workflow
        if end > self.ends.get(whose, (now,))[0]:
            self.ends[whose] = (end, asked_s > LONGEST_S, False)

    def going_on(self, workflow: str, now: float) -> list[str]:
        mine = {workflow, *(host for each, host in self.calls if each == workflow)}
        return [whose for whose, (end, *_) in self.ends.items() if whose in mine and end > now]

    def lets_one_go(self, workflow: str, now: float) -> bool:
        rests = [self.ends[whose] for whose in self.going_on(workflow, now)]
        return all(cut and not gone and now >= end - AHEAD_S for end, cut, gone in rests)

    def started(self, workflow: str, now: float) -> None:
        for whose in self.going_on(workflow, now):
            end, cut, _ = self.ends[whose]
            self.ends[whose] = (end, cut, True)

    def holds_until(self, workflow: str, now: float) -> float | None:
        ends = [
            min(at + asked_s, at + LONGEST_S)
            for at, asked_s, whose, host in self.asked
            if (workflow == whose if host is None else (workflow, host) in self.calls)
        ]
        return max((end for end in ends if end > now), default=None)


said = st.tuples(
    st.floats(0, 60),
    st.sampled_from(WORKFLOWS),
    st.sampled_from((None, *HOSTS)),
    st.one_of(st.none(), st.floats(0.001, 90_000)),
)


@pytest.mark.invariant("P7", "P10")
@given(st.lists(said, max_size=30))
def test_a_rest_holds_whom_it_concerns_until_its_end_and_nobody_for_longer_than_it_may(
    story: list[tuple[float, str, str | None, float | None]],
) -> None:
    rests, model, now = Rests(longest_s=LONGEST_S), Model(), 0.0

    for passed_s, workflow, host, asked_s in story:
        now += passed_s
        rests.end(now)
        if host is not None:
            rests.calls(workflow, host)
            model.calls.add((workflow, host))
        if asked_s is not None:
            rests.begin(Rest(workflow, host, since=now, until=now + asked_s, asked_s=asked_s))
            model.ask(now, asked_s, workflow, host)

        for each in WORKFLOWS:
            found = rests.of(each)
            assert (None if found is None else found.until) == model.holds_until(each, now)
            assert found is None or found.until <= now + LONGEST_S


@given(st.lists(said, max_size=30))
def test_each_rest_begins_once_and_ends_once(
    story: list[tuple[float, str, str | None, float | None]],
) -> None:
    rests, now, begun, ended = Rests(longest_s=LONGEST_S), 0.0, list[str](), list[str]()

    for passed_s, workflow, host, asked_s in story:
        now += passed_s
        ended += [rest.key for rest in rests.end(now)]
        if asked_s is not None:
            asked = Rest(workflow, host, since=now, until=now + asked_s, asked_s=asked_s)
            rest = rests.begin(asked)
            begun += [] if rest is None else [rest.key]
    ended += [rest.key for rest in rests.end(now + LONGEST_S)]

    assert sorted(begun) == sorted(ended)
    assert len(rests) == 0
    assert rests.next_change is None


@given(st.floats(0, 1000), st.floats(1, 1000), st.floats(0, 3000))
def test_a_rest_is_found_again_for_any_moment_in_it_also_when_it_is_over(
    since: float, asked_s: float, moment: float
) -> None:
    rests = Rests(longest_s=LONGEST_S)
    rests.begin(Rest("a", "x.example", since=since, until=since + asked_s, asked_s=asked_s))
    rests.end(10_000.0)

    found = rests.at("a", moment)

    assert (found is not None) == (since <= moment <= since + min(asked_s, LONGEST_S))
    assert rests.at("b", moment) is None


@pytest.mark.invariant("P11")
def test_what_is_remembered_is_bounded_whatever_events_name() -> None:
    rests, begun, ended = Rests(longest_s=LONGEST_S), 0, list[str]()
    for number in range(2 * MOST_WORKFLOWS):
        for host in range(3 * MOST_DEPENDENCIES if number % 500 == 0 else 1):
            dependency = f"{number}-{host}.example"
            asked_s, begun = 1.0 + number, begun + 1
            rests.begin(Rest(f"w{number}", dependency, since=0.0, until=asked_s, asked_s=asked_s))
            ended += [rest.key for rest in rests.end(0.0)]

    assert len(rests) == MOST_RESTS
    assert len(ended) == begun - MOST_RESTS
    assert len(rests.going_on(most=16)) <= 16 + MOST_WORKFLOWS
    kept = [number for number in range(2 * MOST_WORKFLOWS) if rests.of(f"w{number}") is not None]
    assert len(kept) <= MOST_WORKFLOWS
    # What failed last is known best.
    assert 2 * MOST_WORKFLOWS - 1 in kept


def test_what_goes_on_is_told_for_every_workflow_that_it_concerns() -> None:
    rests = Rests(longest_s=LONGEST_S)
    rests.calls("twin", "x.example")
    rests.calls("stranger", "y.example")
    rests.begin(Rest("a", "x.example", since=0.0, until=30.0, asked_s=30.0, event_id="e"))
    rests.begin(Rest("b", None, since=0.0, until=20.0, asked_s=20.0))

    told = [(rest.workflow_id, rest.dependency, rest.until) for rest in rests.going_on(most=2)]

    assert told == [("a", "x.example", 30.0), ("twin", "x.example", 30.0), ("b", None, 20.0)]


PLACES = (TopicPartition("events", 0), TopicPartition("events", 1))
ASKED = {workflow: event({}, workflow_id=workflow) for workflow in WORKFLOWS}
steps = st.one_of(
    st.tuples(
        st.just("event"), st.sampled_from(WORKFLOWS), st.one_of(st.none(), st.integers(1, 200))
    ),
    st.tuples(st.just("refused"), st.sampled_from(WORKFLOWS), st.integers(1, 500)),
    st.tuples(st.just("named"), st.sampled_from(WORKFLOWS), st.sampled_from(HOSTS)),
    st.tuples(st.just("passes"), st.just(""), st.integers(1, 100)),
)


class Life:
    """A worker's turns, beside a model that says when nothing of a workflow may start."""

    def __init__(self, in_flight: int) -> None:
        self.run_queue = RunQueue(
            in_flight=in_flight, max_crashes=3, suspects_at_once=1, longest_rest_s=LONGEST_S
        )
        self.model, self.now = Model(), 0.0
        self.sent: list[Run] = []
        self.had: list[Run] = []

    def do(self, what: str, workflow: str, detail: int | str | None) -> None:
        match what, detail:
            case "event", int() | None:
                run = _run(len(self.sent), workflow)
                run.deadline = None if detail is None else self.now + detail
                self.sent.append(run)
                self.run_queue.put(run)
            case "refused", int(asked_s):
                host = min(
                    (host for each, host in self.model.calls if each == workflow), default=None
                )
                rest = Rest(workflow, host, self.now, self.now + asked_s, asked_s)
                self.run_queue.rests.begin(rest)
                self.model.ask(self.now, asked_s, workflow, host)
            case "named", str(host):
                self.run_queue.rests.calls(workflow, host)
                self.model.calls.add((workflow, host))
            case _, int(passed_s):
                self.pass_by(self.now + passed_s)
        self.go_on()

    def go_on(self) -> None:
        """Let all go that may, each for no time at all."""
        while (run := self.run_queue.take(self.now)) is not None:
            if run.deadline is None or run.deadline > self.now:
                assert self.model.lets_one_go(run.event.workflow_id, self.now)
                self.model.started(run.event.workflow_id, self.now)
            self.had.append(run)
            self.run_queue.ended(run)
            self.run_queue.release(run)
        for run in self.sent:
            if run not in self.had:
                assert not self.model.lets_one_go(run.event.workflow_id, self.now)
                assert run.deadline is None or run.deadline > self.now

    def pass_by(self, end: float) -> None:
        """Look whenever something is due, as the worker does, and at no other time."""
        while (due := self.run_queue.next_due()) is not None and due <= end:
            self.now = max(due, self.now)
            self.go_on()
        self.now = end


@pytest.mark.invariant("P1", "P7", "P8", "P10")
@given(st.lists(steps, max_size=40), st.integers(1, 3))
def test_nothing_starts_in_a_rest_and_nobody_waits_past_it_nor_past_its_deadline(
    story: list[tuple[str, str, int | str | None]], in_flight: int
) -> None:
    life = Life(in_flight)

    for step in story:
        life.do(*step)
    life.pass_by(life.now + LONGEST_S)

    assert len(life.had) == len(life.sent)
    assert (life.run_queue.resting, life.run_queue.next_due()) == (0, None)


def _run(offset: int, workflow: str) -> Run:
    record = ConsumerRecord(PLACES[offset % 2], offset, None, b"", (), None)
    return Run(PolledRecord(record, epoch=1), ASKED[workflow], EventHeaders(), f"thread-{offset}")
