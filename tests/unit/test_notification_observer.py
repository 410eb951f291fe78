"""From the accounts of a worker to notices: letters only, their facts, and bounded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from redrive.clock import SYSTEM
from redrive.consumer.outcome import Account, Ending
from redrive.events import ErrorInfo
from redrive.graphs.attempt_ends import GraphVersion
from redrive.kafka.log import TopicPartition
from redrive.notify import LetterNotice
from redrive.notify.notify_settings import NotifySettings
from redrive.retry.kinds import Kind, Reason
from redrive.settings import Settings
from redrive.testing.webhook import Webhook
from redrive.testing.worker_process import wait_until
from redrive.wiring.notification_observer import NotificationObserver

INFO = ErrorInfo(
    kind=Kind.TIMEOUT,
    type="TimeoutError",
    message="too slow",
    reason=Reason.RETRIES_EXHAUSTED,
    node="write",
    fingerprint="v1:5d41",
    attempts=4,
    exhausted=True,
    dlq_id="letter-1",
)
PLACE = TopicPartition("events", 0)


def account(ending: Ending, *, error: ErrorInfo | None = INFO, name: str = "flow") -> Account:
    return Account(
        PLACE,
        7,
        ending,
        workflow_id=name,
        event_id="event-1",
        attempts=4,
        redrive_count=2,
        error=error,
        graph=GraphVersion("flow", "3f2"),
    )


async def heard_of(accounts: Sequence[Account]) -> list[LetterNotice]:
    heard: list[LetterNotice] = []
    telling = NotificationObserver(Settings(), heard.append, worker="w1", clock=SYSTEM)
    telling.start()
    telling.settled(accounts)
    await telling.end(limit_s=5.0)
    return heard


async def test_a_letter_is_told_with_its_facts() -> None:
    (notice,) = await heard_of([account(Ending.DEAD_LETTERED)])

    assert notice == LetterNotice(
        dlq_id="letter-1",
        at=notice.at,
        kind=Kind.TIMEOUT,
        reason=Reason.RETRIES_EXHAUSTED,
        worker="w1",
        event_id="event-1",
        workflow_id="flow",
        node="write",
        fingerprint="v1:5d41",
        error_type="TimeoutError",
        message="too slow",
        attempts=4,
        redrive_count=2,
        graph_version="3f2",
    )


async def test_nothing_else_is_told() -> None:
    endings = [ending for ending in Ending if ending is not Ending.DEAD_LETTERED]

    assert await heard_of([account(ending) for ending in endings]) == []


@pytest.mark.invariant("P11")
async def test_a_name_of_a_megabyte_is_cut() -> None:
    (notice,) = await heard_of([account(Ending.DEAD_LETTERED, name="x" * 10**6)])

    assert len(notice.workflow_id or "") == 500


async def test_after_the_end_nothing_is_told_and_nothing_breaks() -> None:
    heard: list[LetterNotice] = []
    telling = NotificationObserver(Settings(), heard.append, worker="w1", clock=SYSTEM)
    telling.start()
    await telling.end(limit_s=5.0)

    telling.settled([account(Ending.DEAD_LETTERED)])
    telling.spooled(None)
    await telling.end(limit_s=5.0)

    assert heard == []


async def test_letters_that_are_spooled_or_cannot_be_are_told_of() -> None:
    with Webhook() as webhook:
        notify = NotifySettings.model_validate({"urls": {"team": webhook.url}})
        telling = NotificationObserver(Settings(notify=notify), None, worker="w1", clock=SYSTEM)
        telling.start()

        telling.spooled(None)
        telling.spooled("the spool is full")

        wait_until(lambda: len(webhook.received) == 2, timeout_s=30, what="both")
        await telling.end(limit_s=5.0)
    bodies = (str(message["message"]) for message in webhook.received)
    assert {body.splitlines()[1] for body in bodies} == {"Worker: w1", "the spool is full"}
