"""One run under faults: load, faults, heal, drain, judge. Equal seeds do equal things.

Real workers reach a real broker through a proxy each. The judge reads the topics and the commits;
a graph may write a line `<thread> <node>` to `executions.log` for each node that it executes, as
evidence of what was done again. Checkpoints show who wrote to a thread that was another's.

Once all is healed, each partition gets a last few events, so that one that stands still is seen.
What then waits for longer than a stated time is stuck, which is judged like lost.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from confluent_kafka import Producer

from redrive.clock import SYSTEM
from redrive.events import readable_event_id
from redrive.kafka.log import TopicPartition
from redrive.testing.broker import LocalBroker
from redrive.testing.created_topics import create_topics, delete_topics, remake_topic
from redrive.testing.event_log import EventLog, is_filler
from redrive.testing.faults import ALL_FAULTS, LoseLeader, Planned, plan
from redrive.testing.forks import forked_threads
from redrive.testing.journal import (
    Execution,
    left_out,
    read_journal,
    tried_too_often,
    went_back,
)
from redrive.testing.judging import Evidence, Verdict, gather, judge
from redrive.testing.kafka_env import KafkaEnv
from redrive.testing.load import Burst, Make, any_fate, make_load, wrong_endings
from redrive.testing.members import Members
from redrive.testing.reading import committed_offsets
from redrive.testing.settle_history import last_told, read_settled, settled_twice
from redrive.testing.worker_process import wait_until

__all__ = ["Chaos", "Report", "run_chaos"]

_REACHED_WITHIN_S = 60.0
_SENT_WITHIN_S = 150.0
_CALL_S = 30.0
_PARTITIONS = 4
_FIRST_BROKER, _SECOND_BROKER = 1, 2
_LAST = 2
_CHECKPOINTS = "checkpoints.db"
_SETTINGS = {
    "REDRIVE_KAFKA__SESSION_TIMEOUT": "6s",
    "REDRIVE_RETRY__INITIAL_DELAY": "100ms",
    # Kills from outside cannot be told from guilt: innocents would be condemned, and counted.
    "REDRIVE_RETRY__MAX_CRASHES": "1000",
    "REDRIVE_WORKER__IN_FLIGHT": "16",
    # Well within the time after which what waits is stuck.
    "REDRIVE_WORKER__STANDSTILL": "30s",
}


@dataclass(frozen=True, slots=True)
class Chaos:
    """What one run is to be.

    Args:
        seed: Load, faults, and whether workers have ids.
        checkpoints: Whether runs go on from where they were.
        workers: How many there are at the begin.
        events: How many are sent.
        seconds: No burst and no fault begins later than this.
        graph: The graph of all events, as `redrive worker --graph` takes it, in the stage's folder.
        make: Makes events from dice; by default those that `any_fate` makes.
        settings: Further REDRIVE_… variables, for every worker.
        program: What runs instead of `redrive`; see `WorkerProcess`.
        faults: Instead of those of the seed.
        kinds: The kinds of faults that the seed's are chosen from.
        nodes: The graph's nodes, if they run one after the other: with checkpoints, none is to be
            executed again once the next one was.
        most_tries: How often nodes may be executed for one event, by node.
        drain_s: No event may wait for more seconds, once all is healed and sent: else it is stuck.
    """

    seed: int
    checkpoints: bool = True
    workers: int = 2
    events: int = 150
    seconds: float = 12.0
    graph: str = "*=fates:builder"
    make: Make | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = ("-m", "redrive")
    faults: tuple[Planned, ...] | None = None
    kinds: tuple[type, ...] = tuple(ALL_FAULTS)
    nodes: tuple[str, ...] = ()
    most_tries: Mapping[str, int] = field(default_factory=dict)
    drain_s: float = 90.0

    @property
    def planned(self) -> tuple[Planned, ...]:
        """The faults, in the order of their time."""
        if self.faults is not None:
            return self.faults
        return plan(self.seed, workers=self.workers, seconds=self.seconds, kinds=self.kinds)

    @property
    def named(self) -> bool:
        """Whether workers have ids, and so are static members."""
        return random.Random(f"named {self.seed}").choice((True, False))  # noqa: S311 - no secret


@dataclass(frozen=True, slots=True)
class Report:
    """What one run came to.

    Args:
        chaos: What it was to be.
        verdict: What the judge found.
        events: How many records there were to answer.
        executions: How many nodes were executed, if the graph says so.
        repeated: How many of them had been executed before: failures, deaths and moves.
        exits: Exit codes of workers that ended by themselves or when asked to.
        seconds: How long all of it took.
    """

    chaos: Chaos
    verdict: Verdict
    events: int
    executions: int
    repeated: int
    exits: tuple[int, ...]
    seconds: float

    def to_json(self) -> str:
        """Return one line."""
        told = {
            "seed": self.chaos.seed,
            "checkpoints": self.chaos.checkpoints,
            "named": self.chaos.named,
            "faults": [f"{p.at_s:g}s {p.fault}" for p in self.chaos.planned],
            "events": self.events,
            "lost": self.verdict.lost,
            "doubled": self.verdict.doubled,
            "skipped": self.verdict.skipped,
            "stuck": self.verdict.stuck,
            "findings": self.verdict.findings,
            "results": dict(self.verdict.results),
            "letters": dict(self.verdict.letters),
            "executions": self.executions,
            "repeated": self.repeated,
            "exits": list(self.exits),
            "seconds": round(self.seconds, 1),
        }
        return json.dumps(told)


def run_chaos(broker: LocalBroker, folder: Path, chaos: Chaos) -> Report:
    """Do one run; the broker and every worker are left in order.

    Args:
        broker: Started; stopped, killed and frozen as the plan says. A plan with `LoseLeader` has
            it joined by a second one for the run.
        folder: Empty but for the graph's modules: where workers run, with their logs.
        chaos: What to do.
    """
    began = SYSTEM.monotonic()
    env = _env(broker, folder, chaos)
    with ExitStack() as closing:
        second = closing.enter_context(_second(broker, env)) if _loses_leader(chaos) else None
        members = Members(
            env,
            broker,
            graph=chaos.graph,
            named=chaos.named,
            program=chaos.program,
            second=second,
        )
        closing.callback(members.close)
        for _ in range(chaos.workers):
            members.join()
        members.wait_until_at_work()
        sender = _Sender(
            members.log,
            make_load(chaos.seed, events=chaos.events, seconds=chaos.seconds, make=chaos.make),
        )
        sender.start()
        _break(members, chaos.planned, folder / "executions.log")
        members.heal()
        sender.finish()
        sent = chaos.events + _send_last(members.log, chaos)
        drained = _drain(env, members, chaos.drain_s)
        if drained:
            members.stop()
        evidence = members.log.told(gather(env.bootstrap_servers, env.topics))
        executed = read_journal(folder / "executions.log")
        findings = [] if drained else [_not_settled(chaos, members)]
        findings += members.orphans()
    findings += _other_findings(chaos, evidence, executed, sent)
    findings += forked_threads(folder / _CHECKPOINTS)
    findings += settled_twice(read_settled(members.logs), but=_reused(evidence))
    verdict = judge(evidence)
    return Report(
        chaos=chaos,
        verdict=replace(verdict, findings=[*verdict.findings, *findings]),
        events=sent,
        executions=len(executed),
        repeated=len(executed) - len(set(executed)),
        exits=tuple(members.exits),
        seconds=SYSTEM.monotonic() - began,
    )


def _env(broker: LocalBroker, folder: Path, chaos: Chaos) -> KafkaEnv:
    topics = create_topics(broker.bootstrap_servers, partitions=_PARTITIONS)
    url = f"sqlite:///{_CHECKPOINTS}" if chaos.checkpoints else "none"
    settings = {**_SETTINGS, "REDRIVE_CHECKPOINTS__URL": url, **chaos.settings}
    return KafkaEnv(broker.bootstrap_servers, topics, folder, settings)


def _loses_leader(chaos: Chaos) -> bool:
    return any(isinstance(planned.fault, LoseLeader) for planned in chaos.planned)


@contextmanager
def _second(broker: LocalBroker, env: KafkaEnv) -> Iterator[LocalBroker]:
    """Let a second broker join, and lead one more partition of the results topic.

    Clients are told its own address: it is not behind the workers' proxies. The first broker has a
    copy: of a partition that nobody can lead, it drops the ends of transactions.
    """
    results = env.topics.results
    # What the broker keeps for itself must lie on the first one, which stays.
    Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "transactional.id": env.topics.group}
    ).init_transactions(_CALL_S)
    committed_offsets(broker.bootstrap_servers, env.topics.events, env.topics.group)
    with broker.joined() as second:
        first = [_FIRST_BROKER, _SECOND_BROKER]
        remake_topic(
            broker.bootstrap_servers, results, replicas=[*[first] * _PARTITIONS, first[::-1]]
        )
        try:
            yield second
        finally:
            delete_topics(broker.bootstrap_servers, [results])


def _send_last(log: EventLog, chaos: Chaos) -> int:
    """Send some events to each partition, and return how many: nothing may stand still."""
    dice = random.Random(f"last {chaos.seed}")  # noqa: S311 - no secret
    make = chaos.make or any_fate
    for partition in log.partitions():
        log.send([make(dice) for _ in range(_LAST)], partition=partition)
    return _LAST * len(log.partitions())


def _break(members: Members, planned: tuple[Planned, ...], journal: Path) -> None:
    """Begin and end each fault at its time."""
    began = SYSTEM.monotonic()
    for each in planned:
        _block_until(began + each.at_s)
        wait_until(
            lambda each=each: len(read_journal(journal)) >= each.executions,  # type: ignore[misc]  # mypy cannot infer it
            timeout_s=_REACHED_WITHIN_S,
            what=f"{each.executions} executions",
        )
        ends = SYSTEM.monotonic() + each.fault.seconds
        members.begin(each.fault)
        _block_until(ends)
        members.end(each.fault)


def _block_until(when: float) -> None:
    SYSTEM.block(max(when - SYSTEM.monotonic(), 0.0))


def _drain(env: KafkaEnv, members: Members, limit_s: float) -> bool:
    """Wait until all is settled; say whether it was in time."""

    def settled() -> bool:
        # As a parent process would.
        members.replace_dead()
        return env.settled()

    try:
        wait_until(settled, timeout_s=limit_s, what="all events settled", every_s=0.3)
    except TimeoutError:
        return False
    return True


def _not_settled(chaos: Chaos, members: Members) -> str:
    told = "; ".join(last_told(members.logs))
    return f"not all was settled {chaos.drain_s:g} s after all was healed: {told}"


def _reused(evidence: Evidence) -> set[tuple[TopicPartition, int]]:
    """Return the offsets that more than one record has had, or that were to run again."""
    gone = (one.record for one in evidence.gone)
    return {(record.tp, record.offset) for record in (*gone, *evidence.again)}


def _other_findings(
    chaos: Chaos, evidence: Evidence, executed: Sequence[Execution], sent: int
) -> Iterator[str]:
    yield from wrong_endings(evidence)
    stored = sum(not is_filler(record) for record in evidence.accepted)
    if stored != sent:
        yield f"the topic has {stored} events, and {sent} were stored there"
    if chaos.nodes and chaos.checkpoints:
        again = {readable_event_id(record.value) for record in evidence.again}
        once = [one for one in executed if one.thread.partition("/")[0] not in again]
        yield from went_back(once, chaos.nodes)
    yield from left_out(executed, evidence.succeeded, chaos.nodes)
    yield from tried_too_often(executed, chaos.most_tries)


class _Sender:
    """Sends bursts at their times, on a thread: a broker that is away holds it up."""

    def __init__(self, log: EventLog, bursts: tuple[Burst, ...]) -> None:
        self._log = log
        self._bursts = bursts
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Wait until all is sent."""
        self._thread.join(_SENT_WITHIN_S)
        if self._thread.is_alive():
            raise TimeoutError(f"the load was not sent {_SENT_WITHIN_S:g} s after all was healed")
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        began = SYSTEM.monotonic()
        try:
            for burst in self._bursts:
                _block_until(began + burst.at_s)
                self._log.send(burst.values)
        except BaseException as error:  # noqa: BLE001 - a thread's edge: `finish` raises it
            self._error = error
