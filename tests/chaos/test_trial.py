"""A run says nothing when its broker has lost something itself: it is set aside, and done again."""

from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest
from tests.chaos import trial
from tests.chaos.trial import UnsoundBrokerError, try_seed

from redrive.testing.chaos import Chaos, Report
from redrive.testing.judging import Verdict


class Broker:
    def __init__(self, *, dropped_markers: bool) -> None:
        self.dropped_markers = frozenset({"results"} if dropped_markers else ())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def play(
    monkeypatch: pytest.MonkeyPatch,
    sound: list[bool],
    run: Callable[[Broker], list[str]],
) -> None:
    """Let brokers be as they are said to be, and `run` tell the findings of runs on them."""
    brokers = iter([Broker(dropped_markers=not one) for one in sound])

    def run_chaos(broker: Broker, _folder: Path, chaos: Chaos) -> Report:
        return Report(chaos, Verdict(run(broker)), 10, 0, 0, (), 1.0)

    monkeypatch.setattr(trial, "fresh", lambda: next(brokers))
    monkeypatch.setattr(trial, "run_chaos", run_chaos)


def finds(broker: Broker) -> list[str]:
    return ["lost: something"] if broker.dropped_markers else []


def fails(broker: Broker) -> list[str]:
    if broker.dropped_markers:
        raise TimeoutError("offsets cannot be read")
    return []


@pytest.mark.parametrize("wrong", [finds, fails])
def test_what_went_wrong_on_an_unsound_broker_is_told_and_done_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: Callable[[Broker], list[str]]
) -> None:
    play(monkeypatch, [False, True], wrong)

    found = try_seed(Chaos(1), tmp_path)

    assert found.report.verdict.ok
    (told,) = found.set_aside
    assert "something" in told or "cannot be read" in told
    assert (tmp_path / "broker-1" / "fates.py").exists()


def test_what_went_wrong_on_a_sound_broker_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    play(monkeypatch, [True], lambda _: ["lost: something"])

    found = try_seed(Chaos(1), tmp_path)

    assert found.report.verdict.lost == 1
    assert found.set_aside == ()


def test_a_failure_on_a_sound_broker_is_raised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(_: Broker) -> list[str]:
        raise TimeoutError("not within 60 s")

    play(monkeypatch, [True], fail)

    with pytest.raises(TimeoutError, match="60 s"):
        try_seed(Chaos(1), tmp_path)


def test_a_good_run_stands_whatever_its_broker_dropped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    play(monkeypatch, [False], lambda _: [])

    assert try_seed(Chaos(1), tmp_path).report.verdict.ok


def test_no_broker_was_sound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    play(monkeypatch, [False, False, False], finds)

    with pytest.raises(UnsoundBrokerError, match="3 brokers"):
        try_seed(Chaos(1), tmp_path)
