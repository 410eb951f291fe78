"""10,000 letters of 40 causes on a real broker: counted, and one cause of them driven."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from tests.kafka.dlq_commands import dlq, driven, states

from redrive.cli.exits import ExitCode
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import State
from redrive.events import EventHeaders, ResultStatus, RunInfo, WorkflowResultEvent
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.testing.stored_letters import dead_letter, store_letters

PARTITIONS = 4
LETTERS, CAUSES = 10_000, 40
OF_A_CAUSE = LETTERS // CAUSES
MENDED, STILL_BROKEN = "0" * 16, f"{CAUSES - 1:016x}"
CANARIES = 5


def letters(topic: str) -> Iterator[DeadLetter]:
    for number in range(LETTERS):
        cause = f"{number % CAUSES:016x}"
        fate = "permanent" if cause == STILL_BROKEN else "success"
        yield dead_letter(
            event({"fate": fate, "number": number}),
            topic=topic,
            # Each cause on every partition.
            partition=number // CAUSES % PARTITIONS,
            offset=number,
            fingerprint=cause,
            node="work",
        )


def groups() -> dict[str, tuple[int, int]]:
    """Return how many letters there are of each cause, and how many of them are open."""
    told = json.loads(dlq("groups", "--json").stdout)["groups"]
    return {one["fingerprint"]: (one["count"], one["open"]) for one in told}


def came_to(env: KafkaEnv, state: State) -> dict[str, datetime]:
    """Return by letter when it came to this state."""
    told = [one for one in states(env) if one.state is state]
    assert len({one.dlq_id for one in told}) == len(told)
    return {one.dlq_id: one.timestamp for one in told}


def ends(env: KafkaEnv) -> dict[str, tuple[ResultStatus, datetime]]:
    """Return by letter how its driven run ended, and when."""
    by_event = {
        record.key: EventHeaders.read(record.headers).of
        for record in read_topic(env.bootstrap_servers, env.topics.events)
    }
    found = {}
    for record in read_topic(env.bootstrap_servers, env.topics.results):
        answer = WorkflowResultEvent.from_bytes(record.value)
        assert isinstance(answer.run, RunInfo)
        found[by_event[record.key] or ""] = (answer.status, answer.run.finished_at)
    return found


@pytest.mark.invariant("P13")
def test_of_a_pile_one_cause_is_driven_canaries_first_and_no_other_letter(
    make_stage: Callable[..., KafkaEnv], command_at: Callable[[KafkaEnv], None]
) -> None:
    env = make_stage(partitions=PARTITIONS)
    command_at(env)
    pile = list(letters(env.topics.events))
    store_letters(env.kafka_settings(), pile)
    of_the_mended = {one.dlq_id for one in pile if one.fingerprint == MENDED}
    canary = ("--canary", str(CANARIES), "--yes")

    before = groups()
    with env.worker("--graph", "*=fates:builder").running():
        mended = dlq("redrive", "--fingerprint", MENDED, *canary)
        driven_then, sent, ended = driven(env), came_to(env, State.REDRIVEN), ends(env)
        broken = dlq("redrive", "--fingerprint", STILL_BROKEN, *canary)
    after = groups()

    assert before == {f"{n:016x}": (OF_A_CAUSE, OF_A_CAUSE) for n in range(CAUSES)}
    assert mended.exit_code == ExitCode.OK, mended.output
    assert driven_then == Counter(dict.fromkeys(of_the_mended, 1))
    assert {status for status, _ in ended.values()} == {ResultStatus.SUCCESS}
    first = sorted(sent, key=lambda dlq_id: sent[dlq_id])[:CANARIES]
    canaries_ended = max(ended[dlq_id][1] for dlq_id in first)
    assert all(at > canaries_ended for dlq_id, at in sent.items() if dlq_id not in first)
    assert set(came_to(env, State.RESOLVED)) == of_the_mended
    assert broken.exit_code == ExitCode.ENDED_BADLY, broken.output
    assert "stopped: " in broken.stderr
    assert len(driven(env)) == OF_A_CAUSE + CANARIES
    changed = {MENDED: (OF_A_CAUSE, 0), STILL_BROKEN: (OF_A_CAUSE, OF_A_CAUSE - CANARIES)}
    again = {cause: after.pop(cause) for cause in set(after) - set(before)}
    assert after == before | changed
    assert list(again.values()) == [(CANARIES, CANARIES)]
