"""Graphs with what teams have in theirs: routers, breakpoints, subgraphs, nodes that exit.

Each node writes its name to a file before it does anything. What fails does so once: the file
`<node>.failed` tells that it has.
"""

import operator
import os
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph

from redrive import PermanentError, TransientError


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


def ran(name: str) -> None:
    with Path("executions.log").open("a", encoding="ascii") as file:
        file.write(f"{name}\n")


def once(name: str) -> bool:
    try:
        os.close(os.open(f"{name}.failed", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def node(name: str, error: BaseException | None = None) -> Any:  # noqa: ANN401 - LangGraph's
    async def run(_: Log) -> Log:
        ran(name)
        if error is not None and once(name):
            raise error
        return {"log": [name]}

    return run


def line(*nodes: tuple[str, BaseException | None]) -> Any:  # noqa: ANN401 - LangGraph's
    graph: Any = StateGraph(Log)
    before = START
    for name, error in nodes:
        graph.add_node(name, node(name, error)).add_edge(before, name)
        before = name
    return graph


async def _route(_: Log) -> str:
    ran("route")
    if once("route"):
        raise TransientError("the model that routes is away")
    return "routed"


routed = line(("plan", None))
routed.add_node("routed", node("routed"))
routed.add_conditional_edges("plan", _route, ["routed"])

gate = line(("asks", None), ("charges", None)).compile(interrupt_before=["charges"])

exits = line(("before", None), ("exits", KeyboardInterrupt()))
closes = line(("closes", GeneratorExit()))

_inner = line(
    ("order", None), (os.environ.get("CARD_NODE", "card"), PermanentError("the card is refused"))
)
nested = StateGraph(Log)
nested.add_node("pay", _inner.compile()).add_edge(START, "pay")
nested.add_node("ship", node("ship")).add_edge("pay", "ship")
