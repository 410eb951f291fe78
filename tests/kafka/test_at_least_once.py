"""Delivery at least once, when nothing fails: each event of every fate is answered, once."""

from collections.abc import Callable

import pytest

from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event

FATES = ("success", "transient", "permanent", "unreadable")
OF_EACH = 75


@pytest.mark.invariant("P1", "P3", "P6")
def test_at_least_once_answers_every_fate_and_commits_to_the_end(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(
        REDRIVE_CHECKPOINTS__URL="none",
        REDRIVE_RETRY__INITIAL_DELAY="100ms",
        REDRIVE_WORKER__DELIVERY="at_least_once",
    )
    env.send(
        b"{not JSON" if fate == "unreadable" else event({"fate": fate}) for fate in FATES * OF_EACH
    )

    with env.worker("--graph", "*=fates:builder", own_interpreter=True).running() as worker:
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": 2 * OF_EACH, "error": OF_EACH}
    assert verdict.letters == {"permanent": OF_EACH, "unreadable": OF_EACH}
