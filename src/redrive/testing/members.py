"""The workers of a run under faults, each behind a proxy of its own, and what is done to them."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from redrive.testing.broker import LocalBroker
from redrive.testing.faults import (
    CutWorker,
    Fault,
    FreezeBroker,
    FreezeWorker,
    HoldWorker,
    JoinMember,
    KillBroker,
    KillWorker,
    LeaveMember,
    LoseAnswer,
    ResetWorker,
    SlowWorker,
    StopBroker,
    TermWorker,
)
from redrive.testing.proxy import Proxy
from redrive.testing.stage import Stage
from redrive.testing.worker import WorkerProcess

__all__ = ["Members"]

_STARTS_WITHIN_S = 120.0
_STOPS_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class _Member:
    process: WorkerProcess
    proxy: Proxy


class Members:
    """All workers of one run; for one thread.

    Args:
        stage: Where they work.
        broker: What stands behind all proxies.
        graph: Of all events, as `redrive worker --graph` takes it.
        named: Whether those that are there from the begin have ids.
        program: See `WorkerProcess`.
    """

    def __init__(
        self,
        stage: Stage,
        broker: LocalBroker,
        *,
        graph: str,
        named: bool,
        program: tuple[str, ...],
    ) -> None:
        self._stage = stage
        self._broker = broker
        self._graph = graph
        self._named = named
        self._program = program
        self._members: list[_Member] = []
        self._guests: list[_Member] = []
        self._leaving: list[_Member] = []
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
        return [log for name in sorted(names) for log in self._stage.folder.glob(f"{name}.*.log")]

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
                self._broker.stop()
            case KillBroker():
                self._broker.kill()
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
            case _:
                assert_never(fault)

    def end(self, fault: Fault) -> None:
        """Let it be over."""
        match fault:
            case KillWorker(worker) | TermWorker(worker):
                self._start_again(self._members[worker])
            case FreezeWorker(worker):
                self._signal(self._members[worker], signal.SIGCONT)
            case CutWorker(worker) | HoldWorker(worker) | SlowWorker(worker) | LoseAnswer(worker):
                self._members[worker].proxy.mend()
            case StopBroker() | KillBroker():
                self._broker.start()
            case FreezeBroker():
                self._broker.resume()
            case ResetWorker() | JoinMember() | LeaveMember():
                pass
            case _:
                assert_never(fault)

    def heal(self) -> None:
        """Let everything be well, whatever has happened."""
        self._broker.start()
        for member in self._everyone():
            member.proxy.mend()
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

    def _everyone(self) -> tuple[_Member, ...]:
        return (*self._members, *self._guests, *self._leaving)

    def _started(self, name: str, *arguments: str) -> _Member:
        proxy = Proxy(self._broker.bootstrap_servers).__enter__()
        process = self._stage.worker(
            *arguments,
            "--graph",
            self._graph,
            # Their journal.
            "--log-level",
            "debug",
            name=name,
            environ={"REDRIVE_KAFKA__BOOTSTRAP_SERVERS": proxy.address},
            program=self._program,
        )
        process.start()
        return _Member(process, proxy)

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
