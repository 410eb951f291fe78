"""A graph that tells what it was given; its node fails once, then dies with its worker once."""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore

from redrive import TransientError, current, idempotency_key

SEEN = Path("seen.jsonl")


@dataclass
class User:
    user_id: str


class State(TypedDict, total=False):
    told: dict[str, Any]


async def charge(_: State, config: RunnableConfig, runtime: Runtime[User]) -> State:
    attempt = current()
    assert runtime.store is not None
    await runtime.store.aput(("any",), "key", {"value": 1})
    told = {
        "key": idempotency_key("charge"),
        "attempt": attempt.attempt,
        "thread": attempt.thread_id,
        "tenant": attempt.headers.get("x-tenant"),
        "user": runtime.context.user_id,
        "model": config["configurable"].get("model"),
        "secret": config["configurable"].get("secret"),
        "trace": config["metadata"]["event_id"] == attempt.event_id,
    }
    with SEEN.open("a", encoding="utf-8") as file:  # noqa: ASYNC230 - a line
        file.write(json.dumps(told) + "\n")
    times = len(SEEN.read_text(encoding="utf-8").splitlines())  # noqa: ASYNC240 - as above
    if times == 1:
        raise TransientError("the bank is away")
    if times == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"told": told}


graph: Any = StateGraph(State, context_schema=User)
graph.add_node("charge", charge)
graph.add_edge(START, "charge")
agent = graph.compile(store=InMemoryStore())
