"""Everything of Airflow that stands elsewhere, or not at all, in some version from 3.0 on.

The rest of `redrive.airflow` takes these names from here and from nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import signature
from typing import Any, cast

from airflow.sdk import BaseOperator, Connection, Context, XComArg
from airflow.sdk.bases.decorator import (
    DecoratedOperator,
    Task,
    TaskDecorator,
    _TaskDecorator,
)
from airflow.triggers.base import BaseTrigger, TriggerEvent

try:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException
except ImportError:  # before 3.2
    from airflow.exceptions import (  # type: ignore[attr-defined,no-redef]
        AirflowException,
        AirflowFailException,
    )

from redrive.errors import SettingsError
from redrive.json_texts import parsed_json

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "BaseOperator",
    "BaseTrigger",
    "Context",
    "DecoratedOperator",
    "Task",
    "TaskDecorator",
    "TriggerEvent",
    "XComArg",
    "connection_extra",
    "connection_extra_async",
    "task_decorator",
]


class _MappedAlike(_TaskDecorator[Any, Any, Any]):
    """A decorator whose mapped tasks keep the default that its operator gives `retries`.

    `.expand()` knows Airflow's own defaults alone, and leaves `retries` to them where neither the
    task nor any `default_args` sets it.
    """

    def _expand(self, *args: Any, **options: Any) -> XComArg:
        mapped: XComArg = super()._expand(*args, **options)
        default = signature(self.operator_class.__init__).parameters["retries"].default
        mapped.operator.partial_kwargs.setdefault("retries", default)  # type: ignore[attr-defined]  # every XComArg of a mapped task has it
        return mapped


def task_decorator(
    python_callable: Callable[..., object] | None,
    *,
    multiple_outputs: bool,
    operator: type[BaseOperator],
    arguments: dict[str, Any],
) -> TaskDecorator:
    """Return what makes tasks of functions, or the task of this one.

    Does what Airflow's `task_decorator_factory` does, and keeps the operator's default retries.
    """

    def decorate(function: Callable[..., object]) -> _MappedAlike:
        return _MappedAlike(
            function=function,
            multiple_outputs=multiple_outputs,
            operator_class=operator,
            kwargs=arguments,
        )

    made = decorate if python_callable is None else decorate(python_callable)
    return cast("TaskDecorator", made)


def connection_extra(conn_id: str) -> dict[str, object]:
    """Return what the connection holds in its extra field.

    Raises:
        SettingsError: It is not a JSON object.
    """
    return _extra(Connection.get(conn_id))


async def connection_extra_async(conn_id: str) -> dict[str, object]:
    """Do what `connection_extra` does, from a trigger's event loop."""
    async_get = getattr(Connection, "async_get", None)
    if async_get is None:  # before 3.1
        return await asyncio.to_thread(connection_extra, conn_id)
    return _extra(await async_get(conn_id))


def _extra(connection: Connection) -> dict[str, object]:
    # `extra_dejson` answers broken JSON with an empty dict, and blocks the triggerer's loop.
    try:
        extra = parsed_json(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise SettingsError(
            f"the extra field of connection {connection.conn_id!r} is not a JSON object: "
            'write librdkafka\'s options there, as {"bootstrap.servers": "host:9092"}'
        )
    return extra
