"""Which lives of workers are members of the group now: asked without waiting for an answer.

A worker's consumer bears its incarnation in its `client.id`, which the group tells of each member.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from concurrent.futures import Future

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not marked as exported
    AdminClient,
    ConsumerGroupDescription,
)

__all__ = ["GroupMembers", "client_id_of"]

log = structlog.get_logger("redrive.kafka")

_CALL_S = 3.0
_INCARNATION = re.compile(r"\.([0-9a-f]{16})$")


def client_id_of(name: str, incarnation: int) -> str:
    """Return the `client.id` of one life of a worker."""
    return f"{name}.{incarnation:016x}"


class GroupMembers:
    """Asks a group for its members; belongs to the poll thread.

    Args:
        make_admin: Makes the client that asks, at the first question.
        group_id: The group.
    """

    def __init__(self, make_admin: Callable[[], AdminClient], group_id: str) -> None:
        self._make_admin = make_admin
        self._group_id = group_id
        self._admin: AdminClient | None = None
        self._asked: frozenset[int] = frozenset()
        self._answer: Future[ConsumerGroupDescription] | None = None

    def ask(self, about: Collection[int]) -> tuple[frozenset[int], frozenset[int]] | None:
        """Ask, unless a question is under way; return what the last one came to, once.

        Returns:
            Who was in doubt when it was asked, and the incarnations that are members.
        """
        said: tuple[frozenset[int], frozenset[int]] | None = None
        if self._answer is not None:
            if not self._answer.done():
                return None
            try:
                members = self._answer.result().members
            except KafkaException as error:
                log.warning("group.members_unknown", error=str(error))
            else:
                told = (_INCARNATION.search(member.client_id or "") for member in members)
                said = self._asked, frozenset(int(one[1], 16) for one in told if one)
            self._answer = None
        if about:
            self._admin = self._admin or self._make_admin()
            self._asked = frozenset(about)
            asked = self._admin.describe_consumer_groups([self._group_id], request_timeout=_CALL_S)
            self._answer = asked[self._group_id]
        return said
