"""Hostile events on a real worker: none gets at a thread or a run that is not its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.kafka.conftest import MakeStage
from tests.kafka.test_redriving import Story, drive, ends, letters, reasons, records, settled

from redrive.events import ResultStatus, WorkflowEvent, WorkflowResultEvent
from redrive.graphs.graph_settings import CheckpointSettings, ThreadSettings
from redrive.redriving.selection import Selection
from redrive.retry.kinds import Reason
from redrive.settings import Settings
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.wiring import LangGraphKafkaConsumer

THEIRS = "what the other one said"
# Five of the events that are asked for below, the one that fails at first, and a restart.
RUNS = 7
CHAT = {"redrive-thread": "chat-7"}


def asked(text: str, *, tenant: str | None = None, **more: object) -> WorkflowEvent:
    told = json.loads(event({"text": text}, workflow_id="chat").to_bytes())
    metadata = {} if tenant is None else {"tenant": tenant}
    return WorkflowEvent.from_bytes(json.dumps(told | {"metadata": metadata} | more).encode())


def answers(env: KafkaEnv) -> list[WorkflowResultEvent]:
    """Return the results by the offsets of the events that they answer."""
    found = [WorkflowResultEvent.from_bytes(one.value) for one in records(env, "results")]
    return sorted(found, key=lambda one: one.answers.offset if one.answers else -1)


def seen(answer: WorkflowResultEvent) -> Any:  # noqa: ANN401 - JSON
    """Return the steps and the text of a success, or the reason of an error."""
    if answer.status is ResultStatus.SUCCESS:
        return len(answer.result["steps"]), answer.result["text"]
    assert answer.error_info is not None
    return answer.error_info.reason


@pytest.mark.invariant("P2", "P4", "P15")
async def test_no_event_gets_at_a_thread_or_a_run_that_is_not_its_own(
    make_stage: MakeStage,
) -> None:
    env, story = make_stage(partitions=1), Story()
    settings = Settings(
        kafka=env.kafka_settings(),
        checkpoints=CheckpointSettings(url=f"sqlite:///{env.folder}/checkpoints.db"),
        threads=ThreadSettings(scope="metadata.tenant"),
    )
    theirs = asked(THEIRS)
    spying = asked("spy", event_id=theirs.event_id)
    async with LangGraphKafkaConsumer(settings, {"*": story.graph()}):
        env.send([asked("first", tenant="acme")], headers=CHAT)
        env.send([asked("spy", tenant="evil")], headers=CHAT)
        env.send([asked("spy", tenant="acme", workflow_id="spy"), asked("spy")], headers=CHAT)
        env.send([asked("second", tenant="acme")], headers=CHAT)
        env.send([theirs, spying, theirs])
        own = f"{theirs.event_id.upper()}/0/0 "
        env.send([asked("spy", tenant="acme")], headers={"redrive-thread": own})
        await settled(env)
        found, stored = [seen(one) for one in answers(env)], letters(env)

        story.failing.add("write")
        env.send([asked("third", tenant="acme")], headers=CHAT)
        await settled(env)
        story.failing.clear()
        last = Selection(reason=Reason.PERMANENT)
        (resumed,) = await ends(env, await drive(env, last))

        refused = await drive(env)
        mine = Selection(reason=Reason.OTHER_INPUT)
        (again,) = await ends(env, await drive(env, mine, mode="restart"))
        await settled(env)

    assert found == [
        (3, "first"),
        (3, "spy"),
        Reason.THREAD_OF_ANOTHER,
        Reason.UNREADABLE,
        (6, "second"),
        (3, THEIRS),
        Reason.OTHER_INPUT,
        (3, THEIRS),
        (3, "spy"),
    ]
    assert {letter.reason for letter in stored} == set(found[2:4]) | {Reason.OTHER_INPUT}
    assert [(one.checkpoint, one.node) for one in stored] == [(None, None)] * len(stored)
    assert all(THEIRS.encode() not in letter.to_bytes() for letter in stored)
    # A letter of a scoped thread goes on there, from where it stopped.
    assert seen(resumed.answer) == (9, "third")
    assert story.ran == {"plan": RUNS, "work": RUNS, "write": RUNS + 1}
    # Resumed, neither could go any further; restarted, the other event begins a thread of its own.
    assert sorted(reasons(refused)) == ["other_input", "thread_of_another"]
    assert seen(again.answer) == (3, "spy")
    assert judge(gather(env.bootstrap_servers, env.topics)).findings == []
