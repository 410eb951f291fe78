"""A graph whose one node calls a service that limits its rate; and one that calls nobody."""

import json
import os
import time
from pathlib import Path
from typing import TypedDict

import httpx
from langgraph.graph import END, START, StateGraph

SERVICE = os.environ.get("SERVICE", "http://127.0.0.1:9")
DIARY = Path(os.environ.get("DIARY", "diary.jsonl"))


class State(TypedDict, total=False):
    name: str
    after: str


def write_down(what: str, name: str) -> None:
    descriptor = os.open(DIARY, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    line = json.dumps({"what": what, "name": name, "at": time.monotonic()})
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


async def call(state: State) -> State:
    write_down("began", state["name"])
    async with httpx.AsyncClient() as client:
        answer = await client.get(SERVICE, params={"after": state.get("after", "")}, timeout=10)
    write_down(f"answered {answer.status_code}", state["name"])
    answer.raise_for_status()
    return {}


async def rest(state: State) -> State:
    write_down("ended", state["name"])
    return {}


limited = StateGraph(State)
limited.add_node("call", call)
limited.add_edge(START, "call")
limited.add_edge("call", END)

free = StateGraph(State)
free.add_node("rest", rest)
free.add_edge(START, "rest")
free.add_edge("rest", END)
