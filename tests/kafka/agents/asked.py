"""A graph that gives back what it was asked, and where it ran: for events of hostile producers."""

from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    given: Any
    thread: str
    names: list[str]


async def answer(state: State, config: RunnableConfig) -> State:
    if state.get("given") == "fail":
        raise ValueError("it fails, as it was asked to")
    configurable = config["configurable"]
    names = [name for name in configurable if name.startswith(("tenant", "checkpoint_id"))]
    return {"thread": configurable["thread_id"], "names": names}


builder = StateGraph(State).add_sequence([answer])
builder.add_edge(START, "answer")
builder.add_edge("answer", END)
