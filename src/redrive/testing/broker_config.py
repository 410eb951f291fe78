"""How a local broker is set up: one node, small topics of its own, free ports."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "FREEZABLE",
    "HOST",
    "Ports",
    "broker_properties",
    "free_ports",
    "joined_properties",
    "password_properties",
]

HOST = "127.0.0.1"

# Below the range from which systems take the ports of outgoing connections: the broker's port
# must still be free when it comes back.
_FIRST_PORT, _LAST_PORT = 20000, 32000


FREEZABLE = {"broker.session.timeout.ms": "60000"}
"""What a broker needs that is to be frozen for longer than three seconds, and not to be killed.

A single broker that its controller fences meanwhile has no leaders for a moment after it wakes, and
then drops the markers of transactions that end in it: "partitions are likely deleted already". What
they hold stays undecided, and the group's offsets cannot be read any more. In a cluster, another
broker leads by then.
"""


class Ports(NamedTuple):
    """Where a broker listens."""

    client: int
    controller: int
    passwords: int
    """For clients with a password, where there are users."""


def broker_properties(data: Path, ports: Ports) -> dict[str, str]:
    """Return server.properties of a broker with its controller."""
    client, controller = ports.client, ports.controller
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
        # A group of the new protocol may have a session as short as a classic one's; 45 s and 5 s
        # by default.
        "group.consumer.min.session.timeout.ms": "6000",
        "group.consumer.min.heartbeat.interval.ms": "1000",
        # After a kill the controller keeps the seat of the dead broker for this long (9 s by
        # default), and the same broker cannot come back before.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # What is to be compacted is looked for every 15 s by default.
        "log.cleaner.backoff.ms": "500",
    }


def joined_properties(data: Path, ports: Ports) -> dict[str, str]:
    """Return server.properties of a second broker; `ports` names the first one's controller."""
    listener = f"PLAINTEXT://{HOST}:{ports.client}"
    return broker_properties(data, ports) | {
        "process.roles": "broker",
        "node.id": "2",
        "listeners": listener,
        "advertised.listeners": listener,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }


def password_properties(
    given: Mapping[str, str], ports: Ports, users: Mapping[str, str]
) -> dict[str, str]:
    """Return what is different with users: a listener for passwords (SASL/PLAIN), and rights.

    Who comes without a password may do anything, a user only what an ACL grants.
    """
    names = "".join(f' user_{name}="{password}"' for name, password in users.items())
    also = f",PASSWORDS://{HOST}:{ports.passwords}"
    return {
        "listeners": given["listeners"] + also,
        "advertised.listeners": given["advertised.listeners"] + also,
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PASSWORDS:SASL_PLAINTEXT"
        ),
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.passwords.plain.sasl.jaas.config": (
            f"org.apache.kafka.common.security.plain.PlainLoginModule required{names};"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }


def free_ports(*, client: int | None = None) -> Ports:
    """Return ports on which nothing listens just now; `client` is taken as it is given."""
    with contextlib.ExitStack() as held:
        return Ports(client or _free_port(held), _free_port(held), _free_port(held))


def _free_port(held: contextlib.ExitStack) -> int:
    # Held until all are found, so that they differ.
    while True:
        port = _FIRST_PORT + secrets.randbelow(_LAST_PORT - _FIRST_PORT)
        listener = held.enter_context(socket.socket())
        with contextlib.suppress(OSError):
            listener.bind((HOST, port))
            return port
