"""What Airflow reads to know this provider. No Airflow in here: it is read at every start."""

from __future__ import annotations

__all__ = ["get_provider_info"]


def get_provider_info() -> dict[str, object]:
    """Return the provider's description, as Airflow's `provider_info.schema.json` wants it."""
    name = "LangGraph over Kafka"
    return {
        "package-name": "redrive",
        "name": "redrive",
        "description": "Airflow starts LangGraph agent runs over Kafka; redrive makes each one "
        "end, once.",
        "integrations": [{"integration-name": name, "tags": ["service"]}],
        "operators": [{"integration-name": name, "python-modules": ["redrive.airflow.operators"]}],
        "triggers": [{"integration-name": name, "python-modules": ["redrive.airflow.triggers"]}],
        "task-decorators": [
            {"name": "langgraph", "class-name": "redrive.airflow.decorators.langgraph_task"}
        ],
    }
