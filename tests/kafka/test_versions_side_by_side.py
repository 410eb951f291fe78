"""Workers of this version and of a later one follow each other on the same partitions, both ways.

Killed while they run events: what one has noted, the other goes on from. Letters of a
later and of an earlier version are driven again by this one.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer
from tests.kafka.dlq_commands import driven, letters, run

from redrive.dead_letter.record import DeadLetter
from redrive.events import WorkflowEvent
from redrive.kafka.log import ConsumerRecord, TopicPartition
from redrive.state.commit_metadata import OffsetEntry, decode
from redrive.testing.journal import read_journal, went_back
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import committed_offsets, read_topic
from redrive.testing.stored_letters import dead_letter
from redrive.testing.worker_process import WorkerProcess, wait_until

LATER = Path(__file__).parent / "agents" / "later.py"
NODES = ("plan", "work", "write")
LIVES, SLEEPERS = 3, 4
SENT = ("success", "permanent", "success", "transient", "success") * 4
SLEEPS_S = 4.0
FIRST_FIELDS = frozenset(
    {"dlq_id", "timestamp", "original_event", "error", "retry_count", "context", "schema_version"}
    | {"kind", "reason", "source"}
)
"""What the first letters were made of."""


@pytest.fixture
def env(make_stage: Callable[..., KafkaEnv]) -> KafkaEnv:
    env = make_stage(
        partitions=2,
        REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db",
        REDRIVE_RETRY__INITIAL_DELAY="1500ms",
        REDRIVE_RETRY__JITTER="false",
    )
    shutil.copy(LATER, env.folder)
    return env


@pytest.mark.invariant("P1", "P2", "P4", "P5", "P6")
def test_a_rolling_upgrade_and_its_way_back_lose_no_count_and_answer_nothing_twice(
    env: KafkaEnv,
) -> None:
    failing = event({"fate": "fail"})
    before, between, after = this(env), later(env), this(env)

    env.send([failing], partition=0)
    for worker in (before, between):
        with worker.running():
            send_some(env)
            # A failure that a worker did not live to note would count as a crash.
            wait_until(
                lambda: failures_noted(env) == tries(env)[failing.event_id],
                timeout_s=60,
                what="its failures are noted",
            )
            worker.kill()
    with after.running():
        send_some(env)
        env.wait_settled(timeout_s=60)
        assert after.stop() == 0

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    executed = read_journal(env.folder / "executions.log")
    answers = results(env)
    assert verdict.findings == []
    assert sum(verdict.results.values()) == LIVES * (SLEEPERS + len(SENT)) + 1
    assert verdict.letters == {"permanent": LIVES * SENT.count("permanent"), "retries_exhausted": 1}
    assert 0 < sum(is_later(answer) for answer in answers) < len(answers)
    assert went_back(executed, NODES) == []
    # Counted over three lives of two versions: as often as one worker would have tried.
    assert tries(env)[failing.event_id] == 4
    # Each has read from the other's notes what was running when that one died.
    assert suspects(between) > 0
    assert suspects(after) > 0


@pytest.mark.invariant("P6", "P13")
def test_letters_of_an_earlier_and_a_later_version_are_driven_again(env: KafkaEnv) -> None:
    with later(env).running() as worker:
        env.send(event({"fate": "permanent"}) for _ in range(3))
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0
    later_ones = {letter.dlq_id for letter in letters(env)}
    earlier = dead_letter(event({"fate": "success"}), topic=env.topics.events, offset=1_000)
    store_as_at_first(env, earlier)

    with this(env).running() as worker:
        code, out, _ = run(env, "redrive", "--all", "--yes", "--no-wait")
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0

    answers = results(env)
    (answered,) = (a for a in answers if a.key == earlier.source.key)
    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert (code, len(later_ones)) == (0, 3), out
    assert {of for of in driven(env) if of} == {*later_ones, earlier.dlq_id}
    assert json.loads(answered.value or b"")["status"] == "success"
    assert len(letters(env)) == 3 + 1 + 3
    # Its event was never on the topic.
    (finding,) = verdict.findings
    assert finding.startswith(f"letter {earlier.dlq_id} is of a record that does not exist")


def this(env: KafkaEnv) -> WorkerProcess:
    return env.worker("--worker-id", "w1", "--graph", "*=fates:builder", name="this")


def later(env: KafkaEnv) -> WorkerProcess:
    arguments = ("--worker-id", "w1", "--graph", "*=fates:builder")
    return env.worker(*arguments, name="later", program=("later.py",))


def send_some(env: KafkaEnv) -> None:
    """Send events as a later producer writes them; return when some are answered, others run."""
    sleepers = [from_later({"fate": "sleep", "seconds": SLEEPS_S}) for _ in range(SLEEPERS)]
    asleep = {sleeper.event_id for sleeper in sleepers}
    answered = len(results(env))
    env.send([*sleepers, *(from_later({"fate": fate}) for fate in SENT)])

    def busy() -> bool:
        return asleep <= tries(env).keys() and len(results(env)) > answered

    wait_until(busy, timeout_s=60, what="some are answered, others run")


def tries(env: KafkaEnv) -> Counter[str]:
    """Count the executions of the second node by event."""
    journal = read_journal(env.folder / "executions.log")
    return Counter(each.thread.partition("/")[0] for each in journal if each.node == "work")


def failures_noted(env: KafkaEnv) -> int:
    """Return how many failures are committed of the first event on the first partition."""
    committed = committed_offsets(env.bootstrap_servers, env.topics.events, env.topics.group)
    metadata = decode(committed[TopicPartition(env.topics.events, 0)].metadata)
    return 0 if metadata is None else metadata.entries.get(0, OffsetEntry()).failed


def results(env: KafkaEnv) -> list[ConsumerRecord]:
    return read_topic(env.bootstrap_servers, env.topics.results)


def from_later(data: dict[str, object]) -> WorkflowEvent:
    return event(data).model_copy(update={"from_a_later_producer": ["anything"]})


def suspects(worker: WorkerProcess) -> int:
    return sum(int(str(one["suspects"])) for one in worker.events("partition.assigned"))


def is_later(answer: ConsumerRecord) -> bool:
    return any(name == "redrive-later" for name, _ in answer.headers)


def store_as_at_first(env: KafkaEnv, letter: DeadLetter) -> None:
    """Store a letter without the fields and headers that came later."""
    whole = json.loads(letter.to_bytes())
    value = json.dumps({name: whole[name] for name in whole.keys() & FIRST_FIELDS}).encode()
    producer = Producer({"bootstrap.servers": env.bootstrap_servers})
    producer.produce(env.topics.dlq, value, letter.source.key, partition=0)
    assert producer.flush(30) == 0
