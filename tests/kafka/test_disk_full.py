"""A disk that is full under the checkpoints, or under the spool: all waits, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from redrive.kafka.topic_admin import create_topics
from redrive.testing.journal import read_journal
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import committed_offsets, read_topic
from redrive.testing.worker_process import wait_until

GRAPH = ("--graph", "*=fates:builder")
NODES = ("plan", "work", "write")
RUNS = 40
LONG_S = 120.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB: the log of SQLite alone grows to 4."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        why = f"cannot mount a small disk, which needs root: {mounted.stderr}"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room there is; return the file to delete for it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 4096, 1):
            while True:
                try:
                    file.write(b"x" * size)
                except OSError:
                    break
    return filler


@pytest.mark.invariant("P1", "P4", "P6")
def test_runs_wait_while_the_disk_of_their_checkpoints_is_full(
    make_stage: Callable[..., KafkaEnv], small_disk: Path
) -> None:
    env = make_stage(REDRIVE_CHECKPOINTS__URL=f"sqlite:///{small_disk}/checkpoints.db")
    with env.worker(*GRAPH).running() as worker:
        env.send([event({})])
        env.wait_settled(timeout_s=LONG_S)
        filler = fill(small_disk)
        env.send([event({}) for _ in range(RUNS)])
        worker.wait_for("checkpoints.disk_full", timeout_s=LONG_S)
        # Longer than the retries of a failure would take, were it taken for one.
        _outlast(env, seconds=10.0)
        assert list(worker.events("run.retry_scheduled")) == []
        assert read_topic(env.bootstrap_servers, env.topics.dlq) == []
        assert not env.settled()

        filler.unlink()
        env.wait_settled(timeout_s=LONG_S)
        worker.wait_for("checkpoints.disk_has_room", timeout_s=LONG_S)
        assert worker.stop() == 0

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert (verdict.results, verdict.letters) == ({"success": RUNS + 1}, {})
    executions = Counter(read_journal(env.folder / "executions.log"))
    assert set(executions.values()) == {1}
    assert len(executions) == len(NODES) * (RUNS + 1)


@pytest.mark.invariant("P1", "P12")
def test_a_worker_stops_while_the_disk_is_full_and_the_next_one_ends_its_runs(
    make_stage: Callable[..., KafkaEnv], small_disk: Path
) -> None:
    env = make_stage(
        REDRIVE_CHECKPOINTS__URL=f"sqlite:///{small_disk}/checkpoints.db",
        REDRIVE_WORKER__GRACE="2s",
    )
    with env.worker(*GRAPH).running() as worker:
        env.send([event({})])
        env.wait_settled(timeout_s=LONG_S)
        filler = fill(small_disk)
        env.send([event({}) for _ in range(RUNS)])
        worker.wait_for("checkpoints.disk_full", timeout_s=LONG_S)

        assert worker.stop(timeout_s=LONG_S) == 0

    assert read_topic(env.bootstrap_servers, env.topics.dlq) == []
    filler.unlink()
    with env.worker(*GRAPH, name="next").running():
        env.wait_settled(timeout_s=LONG_S)
    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert (verdict.results, verdict.letters) == ({"success": RUNS + 1}, {})


@pytest.mark.invariant("P6")
def test_a_letter_that_the_disk_of_the_spool_does_not_take_raises_the_alarm_and_waits(
    make_stage: Callable[..., KafkaEnv], small_disk: Path
) -> None:
    env = make_stage(
        partitions=1,
        REDRIVE_CHECKPOINTS__URL="none",
        REDRIVE_LETTERS__SPOOL=str(small_disk / "letters.jsonl"),
        REDRIVE_LETTERS__SPOOL_AFTER="2s",
    )
    with env.worker(*GRAPH).running() as worker:
        env.send([event({})])
        env.wait_settled(timeout_s=LONG_S)
        fill(small_disk)
        _delete_letters(env)
        env.send([event({"fate": "permanent"})])
        alarm = worker.wait_for("letter.not_spooled", timeout_s=LONG_S)
        assert "No space left" in str(alarm["error"])
        committed = committed_offsets(env.bootstrap_servers, env.topics.events, env.topics.group)
        assert [one.offset for one in committed.values()] == [1]

        create_topics(env.kafka_settings(), partitions=1)
        env.wait_settled(timeout_s=LONG_S)
        assert worker.stop() == 0

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert (verdict.results, verdict.letters) == ({"success": 1, "error": 1}, {"permanent": 1})


def _outlast(env: KafkaEnv, *, seconds: float) -> None:
    """Look for so long that nothing is given up."""
    looks = 0

    def enough() -> bool:
        nonlocal looks
        looks += 1
        assert read_topic(env.bootstrap_servers, env.topics.dlq) == []
        return looks > seconds

    wait_until(enough, timeout_s=LONG_S, what="it was looked often enough", every_s=1.0)


def _delete_letters(env: KafkaEnv) -> None:
    admin = AdminClient({"bootstrap.servers": env.bootstrap_servers})
    admin.delete_topics([env.topics.dlq])[env.topics.dlq].result(timeout=30)
    wait_until(
        lambda: env.topics.dlq not in admin.list_topics(timeout=10).topics,
        timeout_s=60,
        what="the letters topic is gone",
        every_s=0.2,
    )
