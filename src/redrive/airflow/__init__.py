"""redrive for Airflow: start a graph from a task and get its result back.

    from redrive.airflow import LangGraphOperator, trigger_langgraph_workflow

Names are imported when they are asked for: Airflow itself loads slowly, and need not be there for
the rest of redrive.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from redrive.errors import MissingExtraError

if TYPE_CHECKING:
    from redrive.airflow.decorators import langgraph_task, trigger_langgraph_workflow
    from redrive.airflow.operators import LangGraphOperator
    from redrive.airflow.run_errors import FinalLangGraphRunError, LangGraphRunError
    from redrive.airflow.triggers import LangGraphResultTrigger

__all__ = [
    "FinalLangGraphRunError",
    "LangGraphOperator",
    "LangGraphResultTrigger",
    "LangGraphRunError",
    "langgraph_task",
    "trigger_langgraph_workflow",
]

_HOMES = {
    "FinalLangGraphRunError": "run_errors",
    "LangGraphOperator": "operators",
    "LangGraphResultTrigger": "triggers",
    "LangGraphRunError": "run_errors",
    "langgraph_task": "decorators",
    "trigger_langgraph_workflow": "decorators",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{home}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "airflow":
            raise MissingExtraError(module="apache-airflow", extra="airflow") from error
        raise
    found: object = getattr(module, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
