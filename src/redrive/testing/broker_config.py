"""How a local broker is set up: one node, small topics of its own, two free ports."""

from __future__ import annotations

import contextlib
import secrets
import socket
from pathlib import Path

__all__ = ["HOST", "broker_properties", "free_ports"]

HOST = "127.0.0.1"

# Below the range from which systems take the ports of outgoing connections: the broker's port
# must still be free when it comes back.
_FIRST_PORT, _LAST_PORT = 20000, 32000


def broker_properties(data: Path, ports: tuple[int, int]) -> dict[str, str]:
    """Return server.properties of a broker with its controller, for its two ports."""
    client, controller = ports
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"PLAINTEXT://{HOST}:{client},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{client}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data),
        # A misspelt topic must be an error in a test, not a new topic.
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # After a kill the controller keeps the seat of the dead broker for this long (9 s by
        # default), and the same broker cannot come back before.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
    }


def free_ports() -> tuple[int, int]:
    """Return two ports on which nothing listens just now."""
    with contextlib.ExitStack() as held:
        first, second = (_free_port(held) for _ in range(2))
    return first, second


def _free_port(held: contextlib.ExitStack) -> int:
    # Held until both are found, so that they differ.
    while True:
        port = _FIRST_PORT + secrets.randbelow(_LAST_PORT - _FIRST_PORT)
        listener = held.enter_context(socket.socket())
        with contextlib.suppress(OSError):
            listener.bind((HOST, port))
            return port
