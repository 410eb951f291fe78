"""What `redrive send` gives a run reaches its node, through a retry and the death of its worker."""

import json
import shutil
from collections.abc import Callable

from tests.kafka.conftest import AGENTS, MakeStage
from tests.kafka.seen_from_outside import Outside, free_port
from typer.testing import CliRunner

from redrive.cli.app import app
from redrive.events import EventHeaders, ResultStatus, WorkflowResultEvent
from redrive.testing.kafka_env import KafkaEnv
from redrive.testing.reading import read_topic

SETTINGS = {
    "REDRIVE_GRAPHS__GIVEN__TARGET": "given:agent",
    "REDRIVE_GRAPHS__GIVEN__CONFIGURABLE": "model",
    "REDRIVE_RETRY__INITIAL_DELAY": "50ms",
}
SENT = (
    *("send", "given", "--json", "--thread", "conversation-7", "--header", "x-tenant=blue"),
    *("--metadata", json.dumps({"langgraph": {"context": {"user_id": "u1"}}})),
    *("--run-config", json.dumps({"model": "small", "secret": "s", "thread_id": "another's"})),
)


def test_a_run_is_given_the_same_by_a_retry_and_after_a_death(
    make_stage: MakeStage, command_at: Callable[[KafkaEnv], None]
) -> None:
    env, outside = make_stage(**SETTINGS), Outside(free_port())
    shutil.copy(AGENTS / "given.py", env.folder)
    command_at(env)

    with env.worker("--worker-id", "w", environ=outside.environ, supervised=True).running():
        sent = CliRunner().invoke(app, SENT)
        assert sent.exit_code == 0, sent.output
        env.wait_settled(timeout_s=90)

    (event,) = read_topic(env.bootstrap_servers, env.topics.events)
    (record,) = read_topic(env.bootstrap_servers, env.topics.results)
    result = WorkflowResultEvent.from_bytes(record.value)
    seen = [json.loads(line) for line in (env.folder / "seen.jsonl").read_text().splitlines()]
    assert event.key == b"conversation-7"
    assert EventHeaders.read(event.headers).thread == "conversation-7"
    assert result.status is ResultStatus.SUCCESS
    assert [told.pop("attempt") for told in seen] == [1, 2, 2]
    assert result.result["told"].pop("attempt") == 2
    assert len({told["key"] for told in seen}) == 1
    assert seen == [seen[0]] * 3
    assert (
        result.result["told"]
        == seen[0]
        == {
            "key": seen[0]["key"],
            "thread": "conversation-7",
            "tenant": "blue",
            "user": "u1",
            "model": "small",
            "secret": None,
            "trace": True,
        }
    )
