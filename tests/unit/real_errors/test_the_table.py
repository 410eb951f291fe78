"""Real errors of real libraries, judged: a table in several files, each of which is one test.

The files are imported by their tests: the libraries take seconds to load.
"""

from __future__ import annotations

from collections import Counter
from importlib import import_module

import pytest
from tests.rows import try_each
from tests.unit.real_errors.conftest import Row, Service, check

FILES = (
    *("answers", "graphs_and_system", "http_clients", "kafka_clients", "limits", "models"),
    *("services", "sign_in", "stores", "written"),
)
LEAST_ROWS = 750
LIBRARIES = {
    "aiohttp",
    "aiokafka",
    "anthropic",
    "botocore",
    "confluent_kafka",
    "google.auth",
    "google.genai",
    "grpc",
    "httpx",
    "httpx2",
    "langchain_core",
    "langchain_openai",
    "langgraph",
    "ollama",
    "openai",
    "psycopg",
    "psycopg_pool",
    "pydantic",
    "python",
    "redis",
    "requests",
    "sqlalchemy",
    "sqlite3",
}


def rows_of(file: str) -> list[Row]:
    rows: list[Row] = import_module(f"tests.unit.real_errors.{file}").ROWS
    return rows


@pytest.mark.parametrize("file", FILES)
def test_what_a_library_raises_is_judged_rightly(file: str, service: Service) -> None:
    try_each(((str(row), row) for row in rows_of(file)), lambda row: check(row, service))


def test_the_table_is_large_and_no_library_is_missing_and_no_name_is_there_twice() -> None:
    table = [row for file in FILES for row in rows_of(file)]

    repeated = [name for name, count in Counter(map(str, table)).items() if count > 1]
    assert len(table) >= LEAST_ROWS
    assert {row.library for row in table} == LIBRARIES
    assert repeated == []
