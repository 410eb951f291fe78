"""TaskFlow: `@task.langgraph` and the ready-made `trigger_langgraph_workflow`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from redrive.airflow.compat import (
    Context,
    DecoratedOperator,
    TaskDecorator,
    XComArg,
    task_decorator,
)
from redrive.airflow.operators import NO_RETRIES, LangGraphOperator
from redrive.units import named_duration

__all__ = ["langgraph_task", "trigger_langgraph_workflow"]


@dataclass(frozen=True, slots=True)
class _Call:
    """What `trigger_langgraph_workflow` asks for, over the operator's own arguments."""

    data: object
    workflow_id: str | None
    timeout: timedelta


class _LangGraphDecoratedOperator(DecoratedOperator, LangGraphOperator):
    """Calls the function for the graph's input, then does what `LangGraphOperator` does."""

    # Not `data`: what the function returns is data, never a template.
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in LangGraphOperator.template_fields if name != "data"),
    )
    custom_operator_name = "@task.langgraph"

    def __init__(
        self,
        *,
        workflow_id: str | None = None,
        retries: int = NO_RETRIES,
        **kwargs: Any,
    ) -> None:
        super().__init__(workflow_id=workflow_id, data={}, retries=retries, **kwargs)

    def execute(self, context: Context) -> object:
        """Call the function, send the event and wait for its result."""
        merged = {**context, **self.op_kwargs}
        returned = self.python_callable(*self.op_args, **self.determine_kwargs(merged))
        if isinstance(returned, _Call):
            return self._run(
                context,
                workflow_id=returned.workflow_id or self.workflow_id,
                data=returned.data,
                timeout=returned.timeout,
            )
        return self._run(context, workflow_id=self.workflow_id, data=returned)


def langgraph_task(
    python_callable: Callable[..., object] | None = None,
    *,
    multiple_outputs: bool = False,
    **kwargs: Any,
) -> TaskDecorator:
    """Make a task of a function that returns a graph's input; used as `@task.langgraph`.

    Takes the arguments of `LangGraphOperator` except `data`; `workflow_id` is the DAG's id by
    default. The task's value is the graph's result.
    """
    # `multiple_outputs` would be guessed from the function's annotation, but what the function
    # returns goes into the graph; what comes out is the graph's.
    return task_decorator(
        python_callable,
        multiple_outputs=multiple_outputs,
        operator=_LangGraphDecoratedOperator,
        arguments=kwargs,
    )


@langgraph_task()
def trigger_langgraph_workflow(
    task_data: dict[str, Any] | XComArg,
    workflow_id: str | None = None,
    timeout: float | str | timedelta = 300,
) -> dict[str, Any]:
    """Run a graph with `task_data` as its input and return its result; call it inside a DAG.

    `workflow_id` is the DAG's id by default. For other settings:
    `trigger_langgraph_workflow.override(kafka_conn_id="other", deferrable=False)(...)`.
    """
    return _Call(task_data, workflow_id, named_duration("timeout", timeout))  # type: ignore[return-value]  # what callers of the task get is the graph's result
