"""Whether payloads leave for LangSmith: as its own client decides it, said at the start."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from langsmith import utils
from structlog.testing import capture_logs
from tests.rows import rows

from redrive.errors import SettingsError
from redrive.graphs.tracing import Tracing, tracing_in
from redrive.settings import Settings
from redrive.wiring.kafka_consumer import LangGraphKafkaConsumer

HOSTED = "https://api.smith.langchain.com"

ENVIRONMENTS = [
    {},
    {"LANGSMITH_TRACING": "true"},
    {"LANGCHAIN_TRACING_V2": "true"},
    {"LANGCHAIN_TRACING": "true"},
    {"LANGSMITH_TRACING_V2": "true"},
    {"LANGSMITH_TRACING": "false"},
    {"LANGSMITH_TRACING": "True"},
    {"LANGSMITH_TRACING": "1"},
    {"LANGSMITH_TRACING": "  ", "LANGCHAIN_TRACING": "true"},
    {"LANGSMITH_TRACING": "true", "LANGCHAIN_TRACING_V2": "false"},
    {"LANGSMITH_TRACING_V2": "false", "LANGCHAIN_TRACING_V2": "true"},
]


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name in list(os.environ):
        if name.startswith(("LANGSMITH_", "LANGCHAIN_")):
            monkeypatch.delenv(name)
    yield monkeypatch
    forget()


def forget() -> None:
    # The client remembers what it has read.
    vars(utils)["get_env_var"].cache_clear()


@rows("given", ENVIRONMENTS, ids=str)
def test_it_is_on_where_langsmiths_own_client_traces(
    environ: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    with environ.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        forget()

        assert (tracing_in(os.environ) is not None) == bool(utils.tracing_is_enabled())


def test_it_says_what_leaves_and_to_where() -> None:
    on = {"LANGSMITH_TRACING": "true"}
    own = {"LANGCHAIN_ENDPOINT": "https://a:hunter2@trace.example.com"}
    hides = {"LANGSMITH_HIDE_INPUTS": "true"}

    assert tracing_in(on) == Tracing("LANGSMITH_TRACING", HOSTED, ())
    assert tracing_in(on | own) == Tracing(
        "LANGSMITH_TRACING", "https://a:[redacted:password]@trace.example.com", ()
    )
    found = tracing_in(on | hides)
    assert found is not None
    assert found.leaves == "outputs, errors and metadata"


@pytest.mark.invariant("P15")
async def test_a_worker_says_at_its_start_that_payloads_leave(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("LANGSMITH_TRACING", "true")
    worker = LangGraphKafkaConsumer(Settings(), {})

    with capture_logs() as logged, pytest.raises(SettingsError):
        await worker.start()

    (line,) = [line for line in logged if line["event"] == "worker.payloads_leave"]
    assert (line["to"], line["by"]) == (HOSTED, "LANGSMITH_TRACING")
    assert line["log_level"] == "warning"
