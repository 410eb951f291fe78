"""The workers of a run under faults, each behind a proxy of its own, and what is done to them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from redrive.clock import SYSTEM
from redrive.testing.broker import LocalBroker
from redrive.testing.event_log import EventLog
from redrive.testing.faults import (
    AddPartitions,
    CompactLog,
    CutLog,
    CutWorker,
    Fault,
    FreezeBroker,
    FreezeWorker,
    HoldWorker,
    JoinMember,
    KillBroker,
    KillWorker,
    LeaveMember,
    LimitProducers,
    LimitWorker,
    LoseAnswer,
    LoseLeader,
    MirrorOffsets,
    OrphanWorker,
    RemakeTopic,
    ResetWorker,
    SlowWorker,
    StopBroker,
    TermWorker,
    TrimLog,
)
from redrive.testing.kafka_env import KafkaEnv
from redrive.testing.proxy import Proxy
from redrive.testing.quota import limit_producers
from redrive.testing.worker_process import WorkerProcess

__all__ = ["Members"]

_STARTS_WITHIN_S = 120.0
_STOPS_WITHIN_S = 60.0
_QUIET_S = 0.5
_CLIENT_ID = "redrive"


@dataclass(frozen=True, slots=True)
class _Member:
    process: WorkerProcess
    proxy: Proxy
    arguments: tuple[str, ...] = ()


class Members:
    """All workers of one run; for one thread.

    Args:
        env: Where they work.
        broker: What stands behind all proxies.
        graph: Of all events, as `redrive worker --graph` takes it.
        named: Whether those that are there from the begin have ids.
        program: See `WorkerProcess`.
        second: A broker that may be lost; `LoseLeader` needs one.
    """

    def __init__(
        self,
        env: KafkaEnv,
        broker: LocalBroker,
        *,
        graph: str,
        named: bool,
        program: tuple[str, ...],
        second: LocalBroker | None = None,
    ) -> None:
        self._env = env
        self._second = second
        self.log = EventLog(env)
        """Where events are sent, and what is done to it."""
        self._broker = broker
        self._graph = graph
        self._named = named
        self._program = program
        self._members: list[_Member] = []
        self._guests: list[_Member] = []
        self._leaving: list[_Member] = []
        self._parents: list[WorkerProcess] = []
        self._orphans: dict[int, str] = {}
        self.exits: list[int] = []
        """Exit codes of those that ended by themselves or when asked to."""

    def join(self) -> None:
        """Start one that stays."""
        name = f"w{len(self._members) + 1}"
        named = ("--worker-id", name) if self._named else ()
        self._members.append(self._started(name, *named))

    def wait_until_at_work(self) -> None:
        """Return once each is in the group."""
        for member in self._members:
            member.process.wait_for("partition.assigned", timeout_s=_STARTS_WITHIN_S)

    def living(self) -> list[WorkerProcess]:
        """Return the processes of those that live."""
        members = (*self._members, *self._guests)
        return [member.process for member in members if member.process.running_now]

    @property
    def logs(self) -> list[Path]:
        """The logs of all lives of all that ever were here."""
        names = {member.process.name for member in self._everyone()}
        names |= {parent.name for parent in self._parents}
        return [log for name in sorted(names) for log in self._env.folder.glob(f"{name}.*.log")]

    def begin(self, fault: Fault) -> None:  # noqa: C901, PLR0912 - one line for each
        """Let something go wrong."""
        match fault:
            case KillWorker(worker):
                self._kill(self._members[worker])
            case TermWorker(worker):
                self._signal(self._members[worker], signal.SIGTERM)
            case FreezeWorker(worker):
                self._signal(self._members[worker], signal.SIGSTOP)
            case CutWorker(worker):
                self._members[worker].proxy.cut()
            case HoldWorker(worker, ways=ways):
                self._members[worker].proxy.hold(*ways)
            case ResetWorker(worker):
                self._members[worker].proxy.reset()
            case SlowWorker(worker, delay_s=delay_s, slice_bytes=size):
                self._members[worker].proxy.slow(delay_s=delay_s, slice_bytes=size)
            case LoseAnswer(worker, request=request):
                self._members[worker].proxy.lose_answer(request)
            case StopBroker():
                self._between_transactions(self._broker.stop)
            case KillBroker():
                self._between_transactions(self._broker.kill)
            case FreezeBroker():
                self._broker.pause()
            case JoinMember():
                ever = len(self._guests) + len(self._leaving)
                self._guests.append(self._started(f"guest{ever}"))
                self._guests[-1].process.wait_for("worker.ready", timeout_s=_STARTS_WITHIN_S)
            case LeaveMember():
                if self._guests:
                    self._leaving.append(self._guests.pop())
                    self._signal(self._leaving[-1], signal.SIGTERM)
            case CutLog(records=records):
                self.log.cut(self._broker, records)
            case LoseLeader():
                self._second_broker().kill()
            case LimitWorker(worker, bytes_per_s=rate):
                self._members[worker].proxy.limit(rate)
            case LimitProducers(bytes_per_s=rate):
                limit_producers(self._broker.bootstrap_servers, _CLIENT_ID, rate)
            case MirrorOffsets(back):
                for member in self._everyone():
                    self._kill(member)
                self.log.move_back(back)
            case OrphanWorker(worker):
                self._orphan(self._members[worker])
            case RemakeTopic() | TrimLog() | CompactLog() | AddPartitions():
                self.log.begin(fault)
            case _:
                assert_never(fault)

    def end(self, fault: Fault) -> None:  # noqa: C901 - one line for each
        """Let it be over."""
        match fault:
            case KillWorker(worker) | TermWorker(worker):
                self._start_again(self._members[worker])
            case FreezeWorker(worker):
                self._signal(self._members[worker], signal.SIGCONT)
            case (
                CutWorker(worker)
                | HoldWorker(worker)
                | SlowWorker(worker)
                | LoseAnswer(worker)
                | LimitWorker(worker)
            ):
                self._members[worker].proxy.mend()
            case StopBroker() | KillBroker() | CutLog() | OrphanWorker():
                self._broker.start()
            case FreezeBroker():
                self._broker.resume()
            case LoseLeader():
                self._second_broker().start()
            case LimitProducers():
                limit_producers(self._broker.bootstrap_servers, _CLIENT_ID, None)
            case MirrorOffsets():
                self.replace_dead()
            case RemakeTopic() | TrimLog() | CompactLog() | AddPartitions():
                self.log.end(fault)
            case ResetWorker() | JoinMember() | LeaveMember():
                pass
            case _:
                assert_never(fault)

    def heal(self) -> None:
        """Let everything be well, whatever has happened."""
        self._broker.start()
        if self._second is not None:
            self._second.start()
        self._mend_links()
        self.replace_dead()

    def replace_dead(self) -> None:
        """Start those again that have ended, and should not have."""
        for member in (*self._members, *self._guests):
            if not member.process.running_now:
                self._start_again(member)

    def stop(self) -> None:
        """Ask all to end, and wait until they have."""
        # To who leaves already, a second signal would mean to end at once.
        for member in (*self._members, *self._guests):
            self._signal(member, signal.SIGTERM)
        for member in self._everyone():
            self.exits.append(member.process.wait(timeout_s=_STOPS_WITHIN_S))

    def close(self) -> None:
        """End what is left of them, and their proxies."""
        for member in self._everyone():
            member.process.close()
            member.proxy.__exit__()
        for parent in self._parents:
            parent.close()
        for pid in self._orphans:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _between_transactions(self, end: Callable[[], None]) -> None:
        """End the broker once it has done what it was asked to; its answers are lost.

        A single broker that ends amid the end of a transaction may leave it without one: see
        `LocalBroker.dropped_markers`. What is open then stays open.
        """
        for member in self._everyone():
            member.proxy.hold()
        SYSTEM.block(_QUIET_S)
        end()
        self._mend_links()

    def _mend_links(self) -> None:
        for member in self._everyone():
            member.proxy.mend()

    def orphans(self) -> Iterator[str]:
        """Say which children of parents that were killed still run."""
        for pid, name in self._orphans.items():
            if _runs(pid):
                yield f"orphan: {name} (process {pid}) still runs, and its parent was killed"

    def _everyone(self) -> tuple[_Member, ...]:
        return (*self._members, *self._guests, *self._leaving)

    def _started(self, name: str, *arguments: str) -> _Member:
        proxy = Proxy(self._broker.bootstrap_servers).__enter__()
        member = _Member(self._worker(name, arguments, proxy), proxy, arguments)
        member.process.start()
        return member

    def _worker(
        self, name: str, arguments: tuple[str, ...], proxy: Proxy, *, supervised: bool = False
    ) -> WorkerProcess:
        return self._env.worker(
            *arguments,
            "--graph",
            self._graph,
            # Their journal.
            "--log-level",
            "debug",
            name=name,
            environ={"REDRIVE_KAFKA__BOOTSTRAP_SERVERS": proxy.address},
            program=self._program,
            supervised=supervised,
        )

    def _orphan(self, member: _Member) -> None:
        """Leave a child without a parent that waits for the broker, and start its successor."""
        self._kill(member)
        self._broker.stop()
        name = f"{member.process.name}-parent{len(self._parents) + 1}"
        parent = self._worker(name, member.arguments, member.proxy, supervised=True)
        self._parents.append(parent)
        parent.start()
        parent.wait_for("broker.waiting", timeout_s=_STARTS_WITHIN_S)
        self._orphans[parent.child_pid] = name
        parent.kill()
        member.process.start()

    def _second_broker(self) -> LocalBroker:
        if self._second is None:
            raise ValueError("a leader can be lost only where there is a second broker")
        return self._second

    def _start_again(self, member: _Member) -> None:
        code = member.process.wait(timeout_s=_STOPS_WITHIN_S)
        if code != -signal.SIGKILL:
            self.exits.append(code)
        member.process.start()

    def _kill(self, member: _Member) -> None:
        if member.process.running_now:
            member.process.kill()

    def _signal(self, member: _Member, number: signal.Signals) -> None:
        if member.process.running_now:
            member.process.signal(number)


def _runs(pid: int) -> bool:
    """Say whether a process is there that has not ended: nobody may have asked for its end."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
