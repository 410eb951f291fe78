"""What a run is given beside its input: context, configurable, metadata and tags.

All of it comes from the event, so each attempt and each redrive is given the same.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, is_typeddict

from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel, ValidationError

from redrive.errors import PermanentError
from redrive.events import WorkflowEvent
from redrive.graphs.registry import LoadedGraph
from redrive.graphs.reserved_names import TRACE_NAMES, is_reserved

__all__ = ["RunGiven", "json_copy", "run_given", "trace_metadata"]

_SECTION = "langgraph"
# Of an Airflow task; ours in traces -> theirs in the event's metadata.
_OF_THE_TASK = {"dag_id": "dag_id", "airflow_task_id": "task_id"}


@dataclass(frozen=True, slots=True)
class RunGiven:
    """What one attempt's run is given; all of it its own copy, which nodes may change."""

    context: Any = None
    configurable: Mapping[str, object] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, object] = dataclasses.field(default_factory=dict)
    tags: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The names that it adds to the config."""
        return frozenset({*self.configurable, *self.metadata})

    def added_to(self, config: RunnableConfig) -> RunnableConfig:
        """Return the config with it; what is in the config wins."""
        given: RunnableConfig = {**config}
        if self.configurable:
            given["configurable"] = {**self.configurable, **config.get("configurable", {})}
        if self.metadata:
            given["metadata"] = {**self.metadata, **config.get("metadata", {})}
        if self.tags:
            given["tags"] = [*config.get("tags", []), *self.tags]
        return given


def trace_metadata(event: WorkflowEvent, attempt: int) -> dict[str, object]:
    """Return what lets a trace be found by its event, and the other way round."""
    found: dict[str, object] = {
        "event_id": event.event_id,
        "workflow_id": event.workflow_id,
        "workflow_run_id": event.workflow_run_id,
        "attempt": attempt,
    }
    for ours, theirs in _OF_THE_TASK.items():
        value = event.metadata.get(theirs)
        if isinstance(value, str):
            found[ours] = value
    return found


async def run_given(event: WorkflowEvent, loaded: LoadedGraph) -> RunGiven:
    """Take from the event what its graph's run is given.

    | what | where it comes from |
    |---|---|
    | context | the graph's `context` function, else `metadata.langgraph.context`; for a graph with a `context_schema` else `metadata.context` |
    | configurable | the names that `configurable` allows, out of `payload.config` |
    | metadata, tags | `metadata.langgraph.metadata`, `metadata.langgraph.tags` |

    Raises:
        PermanentError: One of them is not what it should be; the message names it.
        BaseException: Whatever the `context` function raises.
    """  # noqa: E501 - a table
    section = event.metadata.get(_SECTION)
    # `metadata` is anybody's: a name that holds something else there was not meant for us.
    section = section if isinstance(section, Mapping) else {}
    return RunGiven(
        context=await _context(event, loaded, section),
        configurable=_configurable(event, loaded, section),
        metadata=_metadata(section),
        tags=_tags(section),
    )


async def _context(event: WorkflowEvent, loaded: LoadedGraph, section: Mapping[str, Any]) -> object:
    schema = loaded.compiled.context_schema
    if loaded.context is not None:
        made = loaded.context(event)
        made = await made if isinstance(made, Awaitable) else made
        return _fitted(made, schema, f"what the context function of graph {loaded.id!r} returned")
    place, given = f"metadata.{_SECTION}.context", section.get("context")
    if given is None and schema is not None:
        place, given = "metadata.context", event.metadata.get("context")
    if given is None:
        return None
    return _fitted(_object(given, place), schema, f"the event's {place}")


def _fitted(given: object, schema: Any, what: str) -> object:  # noqa: ANN401 - any schema
    """Make of a dict what the graph's `context_schema` says, as LangGraph would."""
    if not isinstance(given, dict) or not inspect.isclass(schema):
        return given
    if is_typeddict(schema):
        missing = sorted(vars(schema)["__required_keys__"] - given.keys())
        if missing:
            raise PermanentError(f"{what} does not fit {schema.__name__}: missing {missing}")
        return given
    if not (issubclass(schema, BaseModel) or dataclasses.is_dataclass(schema)):
        return given
    try:
        return schema(**given)
    except ValidationError as error:
        # Without the values: they may be secrets.
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        why = f"{place}: {first['msg']}" if place else first["msg"]
        raise PermanentError(f"{what} does not fit {schema.__name__}: {why}") from None
    except Exception as error:
        raise PermanentError(f"{what} does not fit {schema.__name__}: {error}") from error


def _configurable(
    event: WorkflowEvent, loaded: LoadedGraph, section: Mapping[str, Any]
) -> dict[str, object]:
    if not loaded.configurable:
        return {}
    found: dict[str, object] = {}
    config = (event.payload.model_extra or {}).get("config")
    # The shape of LangGraph's own API has `configurable` inside.
    inner = config.get("configurable") if isinstance(config, Mapping) else None
    for given, place in (
        (section.get("configurable"), f"metadata.{_SECTION}.configurable"),
        (inner, "payload.config.configurable"),
        (config, "payload.config"),
    ):
        if given is not None:
            taken = _object(given, place)
            found |= {name: taken[name] for name in loaded.configurable if name in taken}
    return found


def _metadata(section: Mapping[str, Any]) -> dict[str, object]:
    given, place = section.get("metadata"), f"metadata.{_SECTION}.metadata"
    if given is None:
        return {}
    found = _object(given, place)
    for name in found:
        if is_reserved(name) or name in TRACE_NAMES:
            raise PermanentError(
                f"the event's {place} sets {name!r}, which belongs to LangGraph or redrive: "
                "leave it out"
            )
    return found


def _tags(section: Mapping[str, Any]) -> tuple[str, ...]:
    given = section.get("tags")
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(tag, str) for tag in given):
        raise PermanentError(f"the event's metadata.{_SECTION}.tags is not a list of text")
    return tuple(given)


def _object(given: object, place: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise PermanentError(
            f"the event's {place} is of type {type(given).__name__}, not an object: send {{…}}"
        )
    return {name: json_copy(value) for name, value in given.items()}


def json_copy(value: Any) -> Any:  # noqa: ANN401 - what JSON holds
    """Copy what was read from JSON, so that what a node does to it is not the next attempt's."""
    if type(value) is dict:
        return {name: json_copy(item) for name, item in value.items()}
    if type(value) is list:
        return [json_copy(item) for item in value]
    return value
