"""Events that kill their process, among others that fail now and then: each run ends, once.

Only what is written outside of the worker is believed: the topics, and a file to which every node
writes before it does anything. SEEDS asks for more seeds than the one of every day.
"""

import os
import random
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from redrive.dead_letter.record import DeadLetter
from redrive.events import WorkflowEvent
from redrive.retry import Kind, Reason
from redrive.testing.judging import Evidence, gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.testing.worker_process import WorkerProcess, wait_until

SEEDS = [int(seed) for seed in os.environ.get("SEEDS", "1").split(",")]
RUNS = 200
NODES = ("plan", "work", "write")
RETRIES = 3
CRASHES = 3
IN_FLIGHT = 32
MEMORY_LIMIT_BYTES = 700 * 2**20
LIFE_S = 2.0
MOST_S = 400.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What one event is to do."""

    fails: Mapping[str, int]
    kills: Mapping[str, str]

    @property
    def failures(self) -> int:
        """How often it fails before it may succeed: after too many it is given up."""
        return min(sum(self.fails.values()), RETRIES + 1)

    @property
    def least_executions(self) -> int:
        """How often nodes are executed at least, deaths apart."""
        if self.kills:
            return 0
        done, failed = 0, 0
        for node in NODES:
            failed += self.fails.get(node, 0)
            if failed > RETRIES:
                return done + RETRIES + 1
            done += 1
        return done + failed

    @property
    def most_executions(self) -> int:
        """How often, deaths apart, when a failure was not noted and it succeeds after all."""
        return max(self.least_executions, len(NODES) + sum(self.fails.values()))


def plans_of(seed: int) -> list[Plan]:
    dice = random.Random(seed)
    plans = [
        Plan({node: dice.choice([1, 1, 1, 2, 4]) for node in NODES if dice.random() < 0.1}, {})
        for _ in range(RUNS - 3)
    ]
    for how in ("exit", "segv", "memory"):
        plans.insert(dice.randrange(len(plans)), Plan({}, {dice.choice(NODES): how}))
    return plans


@pytest.fixture
def env(make_stage: Callable[..., KafkaEnv]) -> KafkaEnv:
    made = make_stage(
        partitions=4,
        REDRIVE_CHECKPOINTS__URL="sqlite:///checkpoints.db",
        REDRIVE_WORKER__IN_FLIGHT=str(IN_FLIGHT),
        REDRIVE_RETRY__MAX_RETRIES=str(RETRIES),
        REDRIVE_RETRY__INITIAL_DELAY="100ms",
        REDRIVE_RETRY__MAX_DELAY="1s",
    )
    shutil.copy(Path(__file__).parent / "agents" / "killers.py", made.folder)
    return made


@pytest.mark.invariant("P1", "P2", "P4", "P5", "P7")
@pytest.mark.parametrize("seed", SEEDS)
def test_only_killers_are_condemned_when_nothing_else_kills(env: KafkaEnv, seed: int) -> None:
    plans = plans_of(seed)
    events = send(env, plans)

    deaths = live(env, kill_after_s=None)

    innocents = judged(env, plans, events, deaths)
    # Two killers that run at the same time share a death, except the last of each: it is alone.
    assert 3 + (CRASHES - 1) <= deaths <= 3 * CRASHES
    assert innocents == 0


@pytest.mark.nightly
@pytest.mark.invariant("P1", "P2", "P4", "P5")
@pytest.mark.parametrize("seed", SEEDS)
def test_each_run_ends_once_under_random_kills_and_killers(env: KafkaEnv, seed: int) -> None:
    plans = plans_of(seed)
    events = send(env, plans)

    deaths = live(env, kill_after_s=LIFE_S)

    innocents = judged(env, plans, events, deaths)
    sys.stdout.write(f"seed {seed}: {deaths} deaths, {innocents} innocents condemned\n")
    # Three kills from outside cannot be told from guilt; each life has one in danger at most.
    assert innocents <= deaths


def send(env: KafkaEnv, plans: list[Plan]) -> list[WorkflowEvent]:
    events = [
        event({"name": f"run-{i}", "fails": plan.fails, "kills": plan.kills})
        for i, plan in enumerate(plans)
    ]
    env.send(events)
    return events


def live(env: KafkaEnv, *, kill_after_s: float | None) -> int:
    """Start the worker again and again until all is settled; return how often it died."""
    worker = env.worker("--worker-id", "w1", "--graph", "*=killers:builder")
    deaths = 0
    deadline = threading.Event()
    timer = threading.Timer(MOST_S, deadline.set)
    timer.start()
    try:
        while not deadline.is_set():
            worker.start()
            if ended_by_itself(worker, env, kill_after_s):
                assert worker.stop() == 0
                return deaths
            deaths += 1
    finally:
        timer.cancel()
        worker.close()
    raise TimeoutError(f"not all is settled after {MOST_S:g} s and {deaths} deaths")


def ended_by_itself(worker: WorkerProcess, env: KafkaEnv, kill_after_s: float | None) -> bool:
    """Watch one life; True when all is settled, False when it died or was killed."""
    with memory_limit(worker):
        try:
            worker.wait_for("worker.ready", timeout_s=60)
        except RuntimeError:
            return False
        settled = False

        def over() -> bool:
            nonlocal settled
            settled = env.settled()
            return settled or not worker.running_now

        try:
            wait_until(over, timeout_s=kill_after_s or MOST_S, what="its end", every_s=0.2)
        except TimeoutError:
            if kill_after_s is None:
                raise
            worker.kill()
    return settled and worker.running_now


@contextmanager
def memory_limit(worker: WorkerProcess) -> Iterator[None]:
    """End the worker with -9 when it takes more memory than it may, as a container's limit does."""
    over = threading.Event()
    status = Path(f"/proc/{worker.pid}/statm")
    page_bytes = os.sysconf("SC_PAGE_SIZE")

    def watch() -> None:
        while not over.wait(0.02):
            try:
                used = int(status.read_text().split()[1]) * page_bytes
            except (OSError, IndexError):
                return
            if used > MEMORY_LIMIT_BYTES and worker.running_now:
                worker.kill()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def judged(env: KafkaEnv, plans: list[Plan], events: list[WorkflowEvent], deaths: int) -> int:
    """Check every promise; return how many innocents were condemned."""
    evidence = gather(env.bootstrap_servers, env.topics)
    assert judge(evidence).findings == []
    condemned = crashed(evidence)
    names = {sent.event_id: number for number, sent in enumerate(events)}
    killers = {number for number, plan in enumerate(plans) if plan.kills}
    assert killers <= {names[event_id] for event_id in condemned}
    innocents = {names[event_id] for event_id in condemned} - killers
    attempts(env, plans, innocents, deaths)
    exhausted = {n for n, plan in enumerate(plans) if plan.failures > RETRIES} - innocents
    given_up = [letter for letter in letters(env) if letter.reason is Reason.RETRIES_EXHAUSTED]
    ended = {names[event_id_of(letter)] for letter in given_up}
    # A failure that its process did not live to note counts as a crash, and leaves one more try.
    assert ended <= exhausted
    assert len(exhausted - ended) <= deaths * IN_FLIGHT
    assert all(letter.retry_count == RETRIES for letter in given_up)
    return len(innocents)


def crashed(evidence: Evidence) -> set[str]:
    found = [DeadLetter.model_validate_json(record.value or b"") for record in evidence.letters]
    condemned = [letter for letter in found if letter.reason is Reason.CRASHED]
    assert all(letter.kind is Kind.POISON for letter in condemned)
    assert all(f"died {CRASHES} times" in letter.error.message for letter in condemned)
    return {event_id_of(letter) for letter in condemned}


def event_id_of(letter: DeadLetter) -> str:
    assert letter.original_event is not None
    return str(letter.original_event["event_id"])


def letters(env: KafkaEnv) -> list[DeadLetter]:
    records = read_topic(env.bootstrap_servers, env.topics.dlq)
    return [DeadLetter.model_validate_json(record.value or b"") for record in records]


def attempts(env: KafkaEnv, plans: list[Plan], innocents: set[int], deaths: int) -> None:
    """Nodes ran as often as they had to, plus those in flight at a death, within the policy."""
    begun = Counter(
        (int(line.split()[0].removeprefix("run-")), line.split()[1])
        for line in (env.folder / "executions.log").read_text().splitlines()
    )
    failed = Counter(int(path.name.split(".")[1].removeprefix("run-")) for path in failures(env))
    # Those of the policy, and those that were counted as crashes: one more of these condemns.
    assert max(failed.values(), default=0) <= RETRIES + 1 + (CRASHES - 1)
    assert sum(count > RETRIES + 1 for count in failed.values()) <= deaths * IN_FLIGHT
    for number, plan in enumerate(plans):
        executed = sum(begun[number, node] for node in NODES)
        if plan.kills:
            at = NODES.index(next(iter(plan.kills)))
            assert at < executed <= at + CRASHES
        elif number not in innocents:
            assert plan.least_executions <= executed <= plan.most_executions + CRASHES
    spared = [n for n, plan in enumerate(plans) if not plan.kills and n not in innocents]
    executed = sum(begun[number, node] for number in spared for node in NODES)
    least = sum(plans[number].least_executions for number in spared)
    assert executed - least <= deaths * IN_FLIGHT


def failures(env: KafkaEnv) -> list[Path]:
    return list(env.folder.glob("failed.*"))
