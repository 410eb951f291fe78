"""Which service a real error of a real library names: the host that was asked, or its client.

Errors of the table, from services of this machine: each library's own ways to be refused, not to
be reached, to be left without an answer, and to be cut off.
"""

from __future__ import annotations

import re
from importlib import import_module

import pytest
from tests.rows import try_each
from tests.unit.real_errors.conftest import Service

from redrive.retry import dependency_of

FILES = ("http_clients", "models", "services")
HOST_AND_PORT = r"127\.0\.0\.1:\d+"
_CASES = ("429-seconds", "refused", "hung-up", "silent")
NAMES = {
    **{
        f"{library}-{case}": HOST_AND_PORT
        for library in (
            *("httpx", "httpx2", "requests", "aiohttp", "openai", "anthropic"),
            *("langchain_openai", "google.genai", "ollama", "botocore"),
        )
        for case in _CASES
    },
    **{
        f"{library}-cut": HOST_AND_PORT
        for library in ("httpx", "httpx2", "requests", "aiohttp", "openai", "anthropic", "ollama")
    },
    "openai-stream-rate_limit_exceeded-tokens": HOST_AND_PORT,
    "anthropic-stream-rate_limit_error": HOST_AND_PORT,
    "google.genai-async-silent": HOST_AND_PORT,
    "botocore-400-ThrottlingException": HOST_AND_PORT,
    "grpc-call-RESOURCE_EXHAUSTED": HOST_AND_PORT,
    "grpc-call_stream-UNAVAILABLE1500": HOST_AND_PORT,
    "grpc-refused": HOST_AND_PORT,
    # Behind a proxy it is still the service that was called.
    "requests-proxy-refused": r"127\.0\.0\.2",
    # A frame of a stream says nothing but what it holds.
    "google.genai-stream-429": "google.genai",
    "ollama-stream": "ollama",
    "botocore-stream-throttlingException": "botocore",
    # Neither the error nor the call that raised it says whom it asked.
    "grpc-call_async-RESOURCE_EXHAUSTED": "None",
    # Nobody was asked.
    "httpx-unsupported-protocol": "None",
    "requests-missing-schema": "None",
    "aiohttp-invalid-url": "None",
}


def test_an_error_of_a_library_names_whom_it_had_asked(service: Service) -> None:
    table = {
        str(row): row
        for file in FILES
        for row in import_module(f"tests.unit.real_errors.{file}").ROWS
    }

    def check(wanted: tuple[str, str]) -> None:
        name, pattern = wanted
        with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own classes
            table[name].fail(service)

        assert re.fullmatch(pattern, str(dependency_of(caught.value)))

    try_each(((name, (name, pattern)) for name, pattern in NAMES.items()), check)
