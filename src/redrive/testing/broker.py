"""A real Kafka broker for tests: Apache Kafka in KRaft mode, one node, on loopback, in seconds.

It can be stopped, killed, frozen and brought back with its data. Fetching Kafka is `kafka_jars`,
its properties and ports are `broker_config`, the process underneath is `broker_process`.
"""

from __future__ import annotations

import base64
import logging
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from redrive.clock import SYSTEM, Clock
from redrive.testing.broker_config import (
    HOST,
    Ports,
    broker_properties,
    free_ports,
    joined_properties,
    password_properties,
)
from redrive.testing.broker_process import BrokerProcess, tail
from redrive.testing.kafka_jars import class_archive, find_tool, kafka_jars

__all__ = ["BrokerError", "LocalBroker"]

_FORMAT_TIMEOUT_S = 60.0
_DROPPED = re.compile(
    r"Replayed RemoveTopicRecord for topic (?P<removed>\S+) "
    r"|find leader endpoint for partitions \w*\((?P<dropped>[^)]*)\).* likely deleted already"
)
_PORT_TRIES = 5
# A short-lived JVM on a busy machine: start fast, stay small.
_JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


class BrokerError(RuntimeError):
    """The local broker did not do what it was told. The message carries the end of its log."""


class LocalBroker:
    """A broker of one's own; `with LocalBroker() as broker` starts it and cleans up.

    Its data and its port outlive `stop`, `kill` and `restart`, and go with `close`. No topic is
    created on demand. Not for use from several threads at once.

    Args:
        properties: Lines of server.properties that are added, or replace ours.
        users: Passwords by name, for clients that come by `servers_with_passwords`.
        port: Where it listens; by default on a free port.
        start_timeout: How long a start may take.
        stop_timeout: How long a clean stop may take; past it, the broker is killed.
        clock: The waits go through it.
    """

    def __init__(
        self,
        properties: Mapping[str, str] | None = None,
        *,
        users: Mapping[str, str] | None = None,
        port: int | None = None,
        start_timeout: timedelta = timedelta(seconds=60),
        stop_timeout: timedelta = timedelta(seconds=15),
        clock: Clock = SYSTEM,
    ) -> None:
        self._extra = dict(properties or {})
        self._users = dict(users or {})
        self._port = port
        self._start_timeout_s = start_timeout.total_seconds()
        self._stop_timeout_s = stop_timeout.total_seconds()
        self._clock = clock
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._ports = Ports(0, 0, 0)
        self._process: BrokerProcess | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def bootstrap_servers(self) -> str:
        """The address, `127.0.0.1:port`; the same from the first start to `close`."""
        if self._folder is None:
            raise BrokerError("the local broker has no address yet: start it first")
        return f"{HOST}:{self._ports.client}"

    @property
    def servers_with_passwords(self) -> str:
        """The address for its users: SASL_PLAINTEXT, mechanism PLAIN."""
        if self._folder is None or not self._users:
            raise BrokerError("the local broker has no users, or is not started yet")
        return f"{HOST}:{self._ports.passwords}"

    @property
    def dropped_markers(self) -> frozenset[str]:
        """Topics where it left a transaction without an end, as a single broker may: `FREEZABLE`.

        What was in that transaction is lost or stays undecided, and no client can mend that: the
        run says nothing about them. Topics that were deleted before are not meant.
        """
        return _topics_without_markers(self.log_file.read_text(errors="replace"))

    @property
    def log_file(self) -> Path:
        """Where the broker writes its log."""
        if self._folder is None:
            raise BrokerError("the local broker has no log yet: start it first")
        return Path(self._folder.name) / "broker.log"

    @property
    def data(self) -> Path:
        """Where its logs lie, a folder for each partition."""
        return self.log_file.parent / "data"

    @property
    def running(self) -> bool:
        """Whether its process lives, frozen or not."""
        return self._process is not None and self._process.alive

    def start(self) -> None:
        """Start it, on the data it had before, and return when it answers.

        Raises:
            BrokerError: It did not come up in time.
            SettingsError: Java is missing, or Maven when Kafka has to be fetched.
        """
        if self.running:
            return
        self._forget_process()
        if self._folder is not None:
            self._launch()
            return
        self._folder = tempfile.TemporaryDirectory(
            prefix="redrive-kafka-", ignore_cleanup_errors=True
        )
        for left in reversed(range(_PORT_TRIES)):
            self._ports = free_ports(client=self._port)
            self._format()
            try:
                self._launch()
            except BrokerError as failed:
                if left and self._port is None and "Address already in use" in str(failed):
                    continue
                raise
            return

    def stop(self) -> None:
        """End it as an operator would (SIGTERM); killed when it does not end in time."""
        if self._process is not None:
            self._process.stop(self._stop_timeout_s)
        self._forget_process()

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
        self._forget_process()

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nothing answers."""
        self._living().pause()

    def resume(self) -> None:
        """Let a frozen one go on (SIGCONT)."""
        self._living().resume()

    def close(self) -> None:
        """End it, at once, and remove its data."""
        self.kill()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def joined(self) -> LocalBroker:
        """Return one more broker of this cluster, not started yet; this one stays the controller.

        Its number is 2. What is to lie on it must be assigned to it.
        """
        return _JoinedBroker(self, self._ports)

    def _living(self) -> BrokerProcess:
        if self._process is None or not self._process.alive:
            raise BrokerError("the local broker is not running")
        return self._process

    def _forget_process(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None

    def _java(self, *arguments: str) -> list[str]:
        jars = str(kafka_jars() / "*")
        return [find_tool("java"), *_JVM, *self._class_options(), "-cp", jars, *arguments]

    def _class_options(self) -> list[str]:
        archive = class_archive()
        return [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []

    def _properties(self, data: Path) -> dict[str, str]:
        lines = broker_properties(data, self._ports)
        if self._users:
            lines |= password_properties(lines, self._ports, self._users)
        return lines | self._extra

    def _cluster_id(self) -> str:
        return base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")

    def _format(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        config = self.log_file.parent / "server.properties"
        lines = self._properties(self.data)
        config.write_text("".join(f"{k}={v}\n" for k, v in lines.items()), encoding="utf-8")
        # An id that begins with a dash would be read as an option.
        cluster = f"--cluster-id={self._cluster_id()}"
        tool = ["kafka.tools.StorageTool", "format", cluster, "-c", str(config)]
        with self.log_file.open("ab") as log:
            done = subprocess.run(  # noqa: S603 - a fixed command, found on the PATH
                self._java(*tool), stdout=log, stderr=log, timeout=_FORMAT_TIMEOUT_S, check=False
            )
        if done.returncode != 0:
            raise self._failed(f"the storage tool ended with {done.returncode}")

    def _launch(self) -> None:
        config = self.log_file.parent / "server.properties"
        self._process = BrokerProcess(self._java("kafka.Kafka", str(config)), self.log_file)
        deadline = self._clock.monotonic() + self._start_timeout_s
        while not _answers(self.bootstrap_servers):
            if not self._process.alive:
                failed = self._failed(f"its process ended with {self._process.returncode}")
                self._forget_process()
                raise failed
            if self._clock.monotonic() > deadline:
                failed = self._failed(f"no answer in {self._start_timeout_s:g} s")
                self.kill()
                raise failed
            self._clock.block(0.1)

    def _failed(self, what: str) -> BrokerError:
        return BrokerError(
            f"the local Kafka broker at {self.bootstrap_servers} did not start: {what}. "
            f"The end of its log:\n{tail(self.log_file)}"
        )


class _JoinedBroker(LocalBroker):
    """A second broker of a cluster: what is on it has no leader while it is away."""

    def __init__(self, first: LocalBroker, ports: Ports) -> None:
        super().__init__()
        self._first, self._controller = first, ports.controller

    def _properties(self, data: Path) -> dict[str, str]:
        ports = self._ports._replace(controller=self._controller)
        return joined_properties(data, ports)

    def _cluster_id(self) -> str:
        admin = AdminClient({"bootstrap.servers": self._first.bootstrap_servers}, logger=_QUIET)
        return str(admin.list_topics(timeout=10).cluster_id)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        # A bare connection first: librdkafka would log each refusal and back off.
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    try:
        admin = AdminClient({"bootstrap.servers": address}, logger=_QUIET)
        return bool(admin.list_topics(timeout=5).brokers)
    except KafkaException:
        return False


_QUIET = logging.getLogger("redrive.testing.broker")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


def _topics_without_markers(told: str) -> frozenset[str]:
    """Return the topics of dropped markers, from what a broker logged."""
    removed, dropped = set[str](), set[str]()
    for found in _DROPPED.finditer(told):
        if found["removed"]:
            removed.add(found["removed"])
        else:
            topics = {part.rpartition("-")[0] for part in found["dropped"].split(", ")}
            dropped |= topics - removed
    return frozenset(dropped)
