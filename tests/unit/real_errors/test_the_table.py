"""The table of real errors as a whole: it is large, and no library of its list is missing."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path

import pytest
from tests.unit.real_errors.conftest import Row

LEAST_ROWS = 150
LIBRARIES = {
    "aiohttp",
    "aiokafka",
    "anthropic",
    "botocore",
    "confluent_kafka",
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


@pytest.fixture(scope="module")
def table() -> list[Row]:
    """Every row of the files beside this one, also when only this one is run."""
    others = (file for file in Path(__file__).parent.glob("test_*.py") if file != Path(__file__))
    return [row for file in sorted(others) for row in runpy.run_path(str(file))["ROWS"]]


def test_the_table_holds_enough_rows(table: list[Row]) -> None:
    assert len(table) >= LEAST_ROWS


def test_every_library_is_in_the_table(table: list[Row]) -> None:
    assert {row.library for row in table} == LIBRARIES


def test_no_two_rows_have_one_name(table: list[Row]) -> None:
    repeated = [name for name, count in Counter(map(str, table)).items() if count > 1]

    assert repeated == []
