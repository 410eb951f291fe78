"""A graph's version: a hash of what it looks like, the same in every process. Calls no server."""

from __future__ import annotations

import hashlib
import json

from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel

from redrive.graphs.loading import CompiledGraph

__all__ = ["version_of"]

_MOST_NESTED = 10


def version_of(compiled: CompiledGraph) -> str:
    """Hash names and edges as they are drawn; of a graph that cannot be drawn, its structure.

    A subgraph on a server (`RemoteGraph`) counts as the node that calls it: only the server could
    draw it, and it has versions of its own.
    """
    shape: object
    try:
        drawing = _drawable(compiled).get_graph(xray=True)
        edges = [(e.source, e.target, e.conditional, str(e.data)) for e in drawing.edges]
        shape = [sorted(drawing.nodes), sorted(edges)]
    except Exception:  # noqa: BLE001 - LangGraph's drawing runs code of the graph
        shape = _structure(compiled, _MOST_NESTED)
    return hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:12]


def _drawable(compiled: CompiledGraph) -> CompiledGraph:
    """Return the graph, without those of its subgraphs that are not in this process."""
    changed = {}
    for name, node in compiled.nodes.items():
        inner = node.subgraphs[0] if node.subgraphs else None
        if inner is None:
            continue
        if not isinstance(inner, Pregel):
            changed[name] = node.copy({"subgraphs": []})
        elif (drawable := _drawable(inner)) is not inner:
            changed[name] = node.copy({"subgraphs": [drawable]})
    return compiled.copy({"nodes": {**compiled.nodes, **changed}}) if changed else compiled


def _structure(compiled: CompiledGraph, depth: int) -> object:
    """Return the nodes, what triggers each, what is inside of it, and the edges."""
    nodes = [
        [
            name,
            sorted(node.triggers),
            [
                _structure(inner, depth - 1)
                for inner in node.subgraphs
                if isinstance(inner, Pregel) and depth
            ],
        ]
        for name, node in sorted(compiled.nodes.items())
    ]
    if not isinstance(compiled, CompiledStateGraph):
        return nodes
    builder = compiled.builder
    branches = [
        (source, name, sorted(map(str, branch.ends or ())))
        for source, named in builder.branches.items()
        for name, branch in named.items()
    ]
    joins = [(sorted(sources), target) for sources, target in builder.waiting_edges]
    return [nodes, sorted(builder.edges), sorted(joins), sorted(branches)]
