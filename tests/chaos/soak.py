"""`make soak MINUTES=60`: workers under steady load and random faults, sampled from outside.

One worker lives all the time, and what is done to it is what it survives; the other is killed and
asked to end as well, and guests come and go. Every minute a line; at the end what grew, and the
judge's word. Exits with 1 if tasks, threads or descriptors grew, or anything was lost or doubled.

The broker is frozen, and neither stopped nor killed: a single one may then lose the end of a
transaction, and the soak with it. `make chaos` stops and kills brokers.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.leaks import Sample, trend
from tests.chaos.run import quiet, say
from tests.chaos.steady import MORTAL, STEADY, Breaker, Load
from tests.chaos.trial import FATES

from redrive.clock import SYSTEM
from redrive.testing import judge
from redrive.testing.broker import LocalBroker
from redrive.testing.broker_config import FREEZABLE
from redrive.testing.created_topics import create_topics
from redrive.testing.judging import gather
from redrive.testing.kafka_env import KafkaEnv
from redrive.testing.load import wrong_endings
from redrive.testing.members import Members

NOTHING = "lost 0, doubled 0, other findings 0"
_GRAPH = "*=soaked:builder"
_SAMPLE_S, _LINE_S, _TURN_S = 5.0, 60.0, 0.2
_LONG_S = 600.0
_DRAIN_S = 180.0
_SETTINGS = {
    "REDRIVE_CHECKPOINTS__URL": "sqlite:///checkpoints.db",
    "REDRIVE_KAFKA__SESSION_TIMEOUT": "6s",
    "REDRIVE_RETRY__INITIAL_DELAY": "100ms",
    "REDRIVE_RETRY__MAX_CRASHES": "1000",
    "REDRIVE_WORKER__IN_FLIGHT": "32",
}


Lives = dict[tuple[str, int], list[Sample]]


def sample(members: Members, folder: Path, lives: Lives) -> None:
    """Look at every process that lives and has begun to work."""
    for process in members.living():
        pid = process.pid
        try:
            tasks, runs = (folder / f"tasks-{pid}.log").read_text().splitlines()[-1].split()
            status = Path(f"/proc/{pid}/status").read_text()
            descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except (FileNotFoundError, ProcessLookupError):
            # Not at work yet, or gone meanwhile.
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines())
        lives[process.name, pid].append(
            Sample(
                at_s=SYSTEM.monotonic(),
                tasks=int(tasks),
                threads=int(fields["Threads"]),
                descriptors=descriptors,
                memory_mib=int(fields["VmRSS"].split()[0]) / 1024,
                runs=int(runs),
                abandoned=process.log_file.read_bytes().count(b'"settle.call_abandoned"'),
            )
        )


def minute(began_s: float, members: Members, lives: Lives, load: Load, breaker: Breaker) -> str:
    """Return a line: the workers as they are now."""
    told = [
        f"{one.name}: tasks {last.tasks}, threads {last.threads}, "
        f"descriptors {last.descriptors}, {last.memory_mib:.1f} MiB, {last.runs:,} runs, "
        f"{last.abandoned} calls abandoned"
        for one in members.living()
        for last in lives.get((one.name, one.pid), [])[-1:]
    ]
    minutes = (SYSTEM.monotonic() - began_s) / 60
    return f"{minutes:.0f} min, {load.sent:,} sent, {breaker.done} faults | {' | '.join(told)}"


def soak(broker: LocalBroker, folder: Path, *, seconds: float, rate: int, seed: int) -> bool:
    """Do it, and tell; return whether all is well."""
    servers = broker.bootstrap_servers
    env = KafkaEnv(servers, create_topics(servers), folder, _SETTINGS)
    members = Members(env, broker, graph=_GRAPH, named=False, program=("-m", "redrive"))
    lives: Lives = defaultdict(list)
    with ExitStack() as closing:
        closing.callback(members.close)
        for _ in (STEADY, MORTAL):
            members.join()
        members.wait_until_at_work()
        began_s = SYSTEM.monotonic()
        steady = members.living()[STEADY].pid
        load, breaker = Load(env, rate, seed), Breaker(members, seed)
        load.start()
        watch(began_s, seconds, members, folder, lives, load, breaker)
        breaker.end()
        members.heal()
        load.finish()
        env.wait_settled(timeout_s=_DRAIN_S)
        survived = steady in {process.pid for process in members.living()}
        members.stop()
    grown = tell_trends(lives, min(_LONG_S, 0.8 * seconds), warm_up_s=min(120.0, seconds / 6))
    found = tell_verdict(env)
    if not survived:
        say("w1 did not live all the time, which it should have")
    say(
        f"{seconds / 60:g} min, {load.sent:,} events, {breaker.done} faults: "
        f"{found}; grown: {', '.join(grown) or 'nothing'}"
    )
    return survived and found == NOTHING and not grown


def watch(
    began_s: float,
    seconds: float,
    members: Members,
    folder: Path,
    lives: Lives,
    load: Load,
    breaker: Breaker,
) -> None:
    """Let things go wrong until the time is over, and look at the workers meanwhile."""
    sample_s, line_s = began_s, began_s + _LINE_S
    while SYSTEM.monotonic() < began_s + seconds and load.is_alive():
        breaker.turn()
        if SYSTEM.monotonic() >= sample_s:
            sample_s += _SAMPLE_S
            sample(members, folder, lives)
        if SYSTEM.monotonic() >= line_s:
            line_s += _LINE_S
            say(minute(began_s, members, lives, load, breaker))
        SYSTEM.block(_TURN_S)


def tell_verdict(env: KafkaEnv) -> str:
    """Tell each finding of the judge; return how many there are."""
    evidence = gather(env.bootstrap_servers, env.topics)
    verdict = judge(evidence)
    found = [*verdict.findings, *wrong_endings(evidence)]
    for finding in found:
        say(finding)
    other = len(found) - verdict.lost - verdict.doubled
    return f"lost {verdict.lost}, doubled {verdict.doubled}, other findings {other}"


def tell_trends(lives: Lives, long_s: float, *, warm_up_s: float) -> list[str]:
    """Tell what became of each process that lived for long; return what has grown."""
    grown = []
    for (name, pid), life in lives.items():
        if life[-1].at_s - life[0].at_s < long_s:
            continue
        found = trend(life, warm_up_s=warm_up_s)
        say(f"{name} (process {pid}): {found}")
        grown += [f"{name}: {what}" for what in found.growth]
    return grown


def main() -> int:
    quiet()
    seconds = float(os.environ.get("MINUTES", "60")) * 60
    rate, seed = int(os.environ.get("RATE", "10")), int(os.environ.get("SEED", "1"))
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    for file in (FATES, Path(__file__).parent / "soaked.py"):
        shutil.copy(file, folder)
    with LocalBroker(FREEZABLE) as broker:
        well = soak(broker, folder, seconds=seconds, rate=rate, seed=seed)
    if well:
        shutil.rmtree(folder)
    else:
        say(f"see {folder}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
