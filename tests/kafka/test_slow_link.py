"""A link that carries 200 kB a second: batches shrink to what goes through, and nothing waits."""

import asyncio
from collections.abc import Callable
from typing import TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from structlog.testing import capture_logs

from redrive.consumer.worker_settings import DeliveryGuarantee, WorkerSettings
from redrive.graphs.graph_settings import CheckpointSettings
from redrive.settings import Settings
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.proxy import Proxy
from redrive.wiring import LangGraphKafkaConsumer

SLICE_BYTES, DELAY_S = 20_000, 0.1
RESULTS, RESULT_BYTES = 60, 60_000


class State(TypedDict, total=False):
    text: str


async def work(state: State) -> State:
    return {**state, "text": "x" * RESULT_BYTES}


BUILDER = StateGraph(State)
BUILDER.add_node("work", work)
BUILDER.add_edge(START, "work")
BUILDER.add_edge("work", END)


@pytest.mark.nightly
@pytest.mark.invariant("P1", "P2")
@pytest.mark.parametrize("delivery", list(DeliveryGuarantee))
async def test_a_batch_that_the_link_does_not_carry_in_time_comes_back_smaller(
    delivery: DeliveryGuarantee, make_stage: Callable[..., KafkaEnv]
) -> None:
    env = make_stage()
    with Proxy(env.bootstrap_servers) as proxy, capture_logs() as logs:
        kafka = env.kafka_settings().model_copy(update={"bootstrap_servers": proxy.address})
        settings = Settings(
            kafka=kafka,
            checkpoints=CheckpointSettings(url="none"),
            worker=WorkerSettings(delivery=delivery),
        )
        async with LangGraphKafkaConsumer(settings, {"*": BUILDER}):
            proxy.slow(delay_s=DELAY_S, slice_bytes=SLICE_BYTES)
            env.send([event({}) for _ in range(RESULTS)])
            await asyncio.to_thread(env.wait_settled, timeout_s=120)
            proxy.mend()

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.results["success"] >= RESULTS
    if delivery is DeliveryGuarantee.EXACTLY_ONCE:
        assert verdict.findings == []
    assert any(log["event"] == "settle.batches_smaller" for log in logs)
