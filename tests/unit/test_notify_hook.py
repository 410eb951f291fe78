"""`on_dead_letter`: called with each letter, and whatever it does harms nobody."""

from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs
from tests.unit.test_notify_wording import LETTER

from redrive.errors import SettingsError
from redrive.notify import LetterNotice
from redrive.notify.hook import MOST_WAITING, Hook, OnDeadLetter
from redrive.testing.worker_process import wait_until


def started(function: OnDeadLetter) -> Hook:
    hook = Hook(function)
    hook.start()
    return hook


def test_it_is_called_with_each_letter_in_order() -> None:
    got: list[LetterNotice] = []
    hook = started(got.append)

    letters = [LETTER for _ in range(5)]
    for letter in letters:
        hook.offer(letter)
    hook.close()

    assert hook.join(5.0) == 0
    assert got == letters
    assert (hook.called, hook.failed, hook.dropped) == (5, 0, 0)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt()])
def test_what_it_raises_is_counted_and_logged_once(error: BaseException) -> None:
    def raises(_: LetterNotice) -> None:
        raise error

    with capture_logs() as logs:
        hook = started(raises)
        for _ in range(10):
            hook.offer(LETTER)
        hook.close()
        hook.join(5.0)

    assert (hook.called, hook.failed) == (0, 10)
    assert [log["event"] for log in logs] == ["notify.hook_failed"]


@pytest.mark.invariant("P11", "P7")
def test_one_that_hangs_loses_what_its_queue_does_not_hold_and_stops_nobody() -> None:
    go_on, entered = threading.Event(), threading.Event()

    def hangs(_: LetterNotice) -> None:
        entered.set()
        go_on.wait()

    with capture_logs() as logs:
        hook = started(hangs)
        hook.offer(LETTER)
        entered.wait(5)
        for _ in range(MOST_WAITING + 7):
            hook.offer(LETTER)
        hook.close()
        missed = hook.join(0.05)

    assert missed == MOST_WAITING + 1
    assert hook.dropped == 7
    assert [log["event"] for log in logs] == ["notify.hook_too_slow"]
    go_on.set()
    wait_until(lambda: hook.idle, timeout_s=5, what="the end of the hook")


def test_an_async_function_is_refused() -> None:
    async def tell(_: LetterNotice) -> None:
        pass

    with pytest.raises(SettingsError, match="make it a plain one"):
        Hook(tell)
