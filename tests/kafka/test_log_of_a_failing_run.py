"""The log of a run that is tried, retried and given up, as somebody reads it at night."""

import json
from collections.abc import Callable

from tests.kafka.dlq_commands import letters

from redrive.testing.kafka_env import KafkaEnv, event

SCREEN_LINES = 24
SECRET = "sk-live-0123456789abcdef0123456789abcdef"  # noqa: S105 - made up
SENT = {"fate": "fail", "question": "what ails the customer", "api_key": SECRET}
STORY = [
    "worker.starting",
    "worker.ready",
    "partition.assigned",
    "run.retry_scheduled",
    "run.retry_scheduled",
    "run.retry_scheduled",
    "run.dead_lettered",
    "worker.draining",
    "worker.drained",
    "partition.away",
    "worker.stopped",
]


def test_the_log_of_a_whole_failing_run_fits_one_screen_and_names_all_to_go_on_with(
    make_stage: Callable[..., KafkaEnv],
) -> None:
    env = make_stage(partitions=1, REDRIVE_RETRY__INITIAL_DELAY="50ms")
    sent = event(SENT)
    env.send([sent])

    with env.worker("--worker-id", "w1", "--graph", "*=fates:builder").running() as worker:
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0

    text = worker.log_file.read_text()
    assert len(text.splitlines()) <= SCREEN_LINES
    assert [line["event"] for line in worker.events()] == STORY
    of_the_run = [line for line in worker.events() if str(line["event"]).startswith("run.")]
    assert [line["attempt"] for line in of_the_run] == [1, 2, 3, 4]
    (letter,) = letters(env)
    for line in of_the_run:
        assert (line["event_id"], line["partition"], line["offset"]) == (sent.event_id, 0, 0)
        assert (line["node"], line["kind"]) == ("work", "transient")
        assert line["thread_id"] == f"{sent.event_id}/0/0"
        assert line["rule"] == "class:builtins.ConnectionError"
    given_up = of_the_run[-1]
    assert (given_up["dlq_id"], given_up["fingerprint"]) == (letter.dlq_id, letter.fingerprint)
    assert given_up["reason"] == "retries_exhausted"
    assert SENT["question"] not in text
    assert SECRET not in json.dumps(text)
