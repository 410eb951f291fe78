"""Events that share a thread run one after the other; all others do not wait for them."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import pytest
from langgraph.graph import END, START, StateGraph

from redrive.graphs.graph_settings import CheckpointSettings
from redrive.settings import RetrySettings, Settings
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.wiring import LangGraphKafkaConsumer

SHARE_A_THREAD = 6
FAILS_ONCE = 2
OTHERS = 20
PARTITION = 1


class State(TypedDict, total=False):
    name: str
    seen: list[str]


class Diary:
    """A graph of one node that writes down when it begins and ends; one event fails at first."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.failed = False

    async def work(self, state: State) -> State:
        name = state["name"]
        self.entries.append(f"{name} begins")
        await asyncio.sleep(0.02)
        if name == f"turn {FAILS_ONCE}" and not self.failed:
            self.failed = True
            self.entries.append(f"{name} fails")
            raise ConnectionError("the model's service closed the connection")
        self.entries.append(f"{name} ends")
        return {"seen": [*state.get("seen", []), name]}

    def builder(self) -> StateGraph[State, None, State, State]:
        builder = StateGraph(State)
        builder.add_node("work", self.work)
        builder.add_edge(START, "work")
        builder.add_edge("work", END)
        return builder


@pytest.mark.invariant("P7", "P9")
async def test_events_of_one_thread_take_turns_through_a_retry_and_others_do_not_wait(
    make_stage: Callable[..., KafkaEnv], tmp_path: Path
) -> None:
    env, diary = make_stage(), Diary()
    settings = Settings(
        kafka=env.kafka_settings(),
        checkpoints=CheckpointSettings(url=f"sqlite:///{tmp_path}/checkpoints.db"),
        retry=RetrySettings.model_validate({"initial_delay": "2s", "jitter": False}),
    )
    turns = [event({"name": f"turn {number}"}) for number in range(SHARE_A_THREAD)]
    others = [event({"name": f"other {number}"}) for number in range(OTHERS)]
    # The others lie behind those that share a thread, on the same partition.
    env.send(turns, headers={"redrive-thread": "conversation-7"}, partition=PARTITION)
    env.send(others, partition=PARTITION)

    async with LangGraphKafkaConsumer(settings, {"*": diary.builder()}):
        await asyncio.to_thread(env.wait_settled, timeout_s=30)

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": SHARE_A_THREAD + OTHERS}
    in_turn = [f"turn {n} {what}" for n in range(SHARE_A_THREAD) for what in ("begins", "ends")]
    first_try = [f"turn {FAILS_ONCE} begins", f"turn {FAILS_ONCE} fails"]
    in_turn[2 * FAILS_ONCE : 2 * FAILS_ONCE] = first_try
    assert [entry for entry in diary.entries if entry.startswith("turn")] == in_turn
    # While the retry was held for 2 s, every other event came to its end.
    retried = _last(diary.entries, f"turn {FAILS_ONCE} begins")
    assert sum(e.startswith("other") and e.endswith("ends") for e in diary.entries[:retried]) == (
        OTHERS
    )


def _last(entries: list[str], entry: str) -> int:
    return len(entries) - 1 - entries[::-1].index(entry)
