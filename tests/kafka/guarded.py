"""Users of the broker that asks for passwords, and what they may do."""

from __future__ import annotations

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from redrive.testing.broker import LocalBroker

USERS = dict.fromkeys(("worker", "member", "reader", "nobody", "full"), "secret")


def login(user: str, password: str = "secret") -> dict[str, str]:  # noqa: S107 - of a test's broker
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": user,
        "sasl.password": password,
    }


def grant(
    broker: LocalBroker,
    user: str,
    operation: AclOperation,
    *names: str,
    on: ResourceType = ResourceType.TOPIC,
) -> None:
    rules = [_rule(user, operation, name, on, AclPermissionType.ALLOW) for name in names]
    admin = _admin(broker)
    for future in admin.create_acls(rules).values():
        future.result(timeout=30)


def forbid(broker: LocalBroker, user: str, operation: AclOperation, topic: str) -> None:
    """Forbid what is allowed, until `forbid_no_more`."""
    rule = _rule(user, operation, topic, ResourceType.TOPIC, AclPermissionType.DENY)
    admin = _admin(broker)
    for future in admin.create_acls([rule]).values():
        future.result(timeout=30)


def forbid_no_more(broker: LocalBroker, user: str, operation: AclOperation, topic: str) -> None:
    rule = AclBindingFilter(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        operation,
        AclPermissionType.DENY,
    )
    admin = _admin(broker)
    for future in admin.delete_acls([rule]).values():
        assert len(future.result(timeout=30)) == 1


def _rule(
    user: str, operation: AclOperation, name: str, on: ResourceType, effect: AclPermissionType
) -> AclBinding:
    return AclBinding(on, name, ResourcePatternType.LITERAL, f"User:{user}", "*", operation, effect)


def _admin(broker: LocalBroker) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.bootstrap_servers})
