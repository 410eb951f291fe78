"""The demo's graph: research, then write, then review. Runs in the worker's process.

A stand-in for an agent: no model, no network, short sleeps so that one can watch. Hiccups are asked
for in the input, as `trouble`; what the reviewer refuses says a file.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph

from redrive.demo.executions import count_execution
from redrive.demo.refused_topics import is_refused
from redrive.errors import PermanentError

__all__ = ["ReviewState", "graph"]

_STEP_S = 0.3
_HICCUPS = 2

_hiccups: Counter[str] = Counter()


class ReviewState(TypedDict, total=False):
    """What goes in (`topic`, `trouble`) and what the nodes add."""

    topic: str
    trouble: str
    notes: list[str]
    draft: str
    verdict: str


async def research(state: ReviewState, config: RunnableConfig) -> ReviewState:
    """Collect notes; always works, and is what nobody wants to pay for twice."""
    await _work("research", config)
    topic = state.get("topic", "nothing in particular")
    return {"notes": [f"what is known about {topic}", f"what is asked about {topic}"]}


async def write(state: ReviewState, config: RunnableConfig) -> ReviewState:
    """Write a draft; the service it calls closes the connection twice when `hiccups` are due."""
    thread = await _work("write", config)
    if state.get("trouble") == "hiccups" and _hiccups[thread] < _HICCUPS:
        _hiccups[thread] += 1
        raise ConnectionError("the model's service closed the connection")
    return {"draft": " and ".join(state["notes"])}


async def review(state: ReviewState, config: RunnableConfig) -> ReviewState:
    """Judge the draft; refuses it for good when the policy refuses its topic."""
    await _work("review", config)
    if is_refused(state.get("topic", "")):
        raise PermanentError("the reviewer refuses this topic")
    return {"verdict": f"{len(state['draft'].split())} words, fine"}


async def _work(node: str, config: RunnableConfig) -> str:
    thread = str(config["configurable"]["thread_id"])
    count_execution(node, thread_id=thread)
    await asyncio.sleep(_STEP_S)
    return thread


graph = StateGraph(ReviewState)
graph.add_node("research", research)
graph.add_node("write", write)
graph.add_node("review", review)
graph.add_edge(START, "research")
graph.add_edge("research", "write")
graph.add_edge("write", "review")
graph.add_edge("review", END)
