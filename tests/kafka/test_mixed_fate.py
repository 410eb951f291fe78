"""Ten thousand events of mixed fate through a real worker: one answer each, whole letters."""

import random
from collections.abc import Callable

import pytest

from redrive.testing.judging import gather, judge
from redrive.testing.stage import Stage, event

EVENTS = 10_000
SEED = 20_261_124

UNREADABLE = (
    None,
    b"",
    b"\xff\xfe not UTF-8",
    b"{not JSON",
    b"[1, 2]",
    b'{"event_id": "5e0cc1a8-5ad6-4a3c-8bb3-4e38f0d4c9b0", "payload": 7}',
)


@pytest.mark.invariant("P1", "P2", "P3", "P6")
def test_each_of_ten_thousand_events_of_mixed_fate_ends_once(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(
        partitions=8, REDRIVE_CHECKPOINTS__URL="none", REDRIVE_RETRY__INITIAL_DELAY="100ms"
    )
    dice = random.Random(SEED)
    fates = dice.choices(
        ["success", "transient", "permanent", "unreadable"], [85, 8, 5, 2], k=EVENTS
    )
    stage.send(
        dice.choice(UNREADABLE) if fate == "unreadable" else event({"fate": fate}) for fate in fates
    )

    with stage.worker("--worker-id", "w1", "--graph", "*=fates:builder").running() as worker:
        stage.wait_settled(timeout_s=200)
        assert worker.stop() == 0

    verdict = judge(gather(stage.bootstrap_servers, stage.topics))
    assert verdict.findings == []
    assert verdict.results["success"] == fates.count("success") + fates.count("transient")
    assert verdict.letters["permanent"] == fates.count("permanent")
    assert verdict.letters["unreadable"] == fates.count("unreadable")
