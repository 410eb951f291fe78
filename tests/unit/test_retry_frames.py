"""Telling a bug of the node from an answer that a client could not read: by frames."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from tests.rows import rows

from redrive.retry import Kind, classify
from redrive.retry.rules.frames import CLIENTS, client_of, is_client, origin


class _Person(BaseModel):
    age: int


def _in(module: str, act: Callable[[], object]) -> Callable[[], object]:
    """Return a function of this module that calls the act."""
    space: dict[str, object] = {"__name__": module, "act": act}
    exec("def call(): return act()", space)  # noqa: S102 - a frame of another module
    call = space["call"]
    assert callable(call)
    return call


def _raising(module: str, error: str, **names: object) -> Callable[[], object]:
    """Return a function of this module that raises what the text says."""
    space: dict[str, object] = {"__name__": module, **names}
    exec(f"def call(): raise {error}", space)  # noqa: S102 - as above
    call = space["call"]
    assert callable(call)
    return call


def _caught(act: Callable[[], object]) -> BaseException:
    try:
        act()
    except Exception as error:  # noqa: BLE001 - to be judged
        return error
    raise AssertionError("it did not fail")


@rows(
    ("module", "error", "kind"),
    [
        # In the node's own code they are bugs.
        ("agent.nodes", "AttributeError('choices')", Kind.PERMANENT),
        ("agent.nodes", "ValueError({'code': 429})", Kind.PERMANENT),
        ("pandas.core.frame", "KeyError('price')", Kind.PERMANENT),
        ("langchain_core.prompts.chat", "KeyError('topic')", Kind.PERMANENT),
        # In a client's code they are not.
        ("openai._base_client", "AttributeError('choices')", Kind.UNKNOWN),
        ("langchain_openai.chat_models.base", "TypeError('null')", Kind.UNKNOWN),
        ("langchain_core.language_models.chat_models", "IndexError('empty')", Kind.UNKNOWN),
        ("langchain_anyprovider.chat", "KeyError('choices')", Kind.UNKNOWN),
        ("google.genai.models", "StopIteration()", Kind.UNKNOWN),
        ("litellm.llms.x", "AssertionError()", Kind.UNKNOWN),
        # Unless it is the program that is not whole.
        ("langchain_x.chat", "ImportError('tiktoken')", Kind.PERMANENT),
        ("langchain_x.chat", "NotImplementedError()", Kind.PERMANENT),
        # And their code decides where one can be read.
        ("langchain_openai.chat", "ValueError({'code': 429, 'message': 'x'})", Kind.RATE_LIMITED),
        ("langchain_openai.chat", "ValueError({'error': {'code': 502}})", Kind.TRANSIENT),
        ("langchain_openai.chat", "ValueError({'code': '401'})", Kind.PERMANENT),
        ("langchain_openai.chat", "ValueError({'type': 'overloaded_error'})", Kind.TRANSIENT),
        ("langchain_x.chat", "ValueError('server_error: told')", Kind.TRANSIENT),
        ("langchain_x.chat", "RuntimeError('Error code: 429 - told')", Kind.RATE_LIMITED),
        ("langchain_x.chat", "Exception('HTTP status code 503')", Kind.TRANSIENT),
        ("langchain_x.chat", "Exception('429 RESOURCE_EXHAUSTED. told')", Kind.RATE_LIMITED),
        ("langchain_x.chat", "ValueError('status: 200')", Kind.UNKNOWN),
        ("langchain_x.chat", "ValueError('code: told')", Kind.UNKNOWN),
        # A key that is missing stays missing.
        ("tavily.tavily", "ValueError('No API key provided')", Kind.PERMANENT),
        ("cohere.client", "Exception('The client must be given an api_key; it is missing')", 0),
        ("langchain_x.chat", "ValueError('Did not find x_api_key, please set X_API_KEY')", 0),
        ("mistralai.sdk", "Exception('MISTRAL_API_KEY environment variable not set')", 0),
    ],
)
def test_the_innermost_frame_says_whose_fault_it_is(
    module: str, error: str, kind: Kind | int
) -> None:
    failure = classify(_caught(_in("agent.nodes", _raising(module, error))))

    assert failure.kind is (kind or Kind.PERMANENT)


def test_the_standard_library_and_validators_work_for_their_callers() -> None:
    def parse() -> object:
        return int("no number")

    def validate() -> object:
        return _Person.model_validate({"age": "many"})

    by_client = _caught(_in("agent.nodes", _in("openai.lib", _in("json.decoder", parse))))
    assert origin(by_client) == __name__
    assert classify(_caught(_in("openai.lib", _raising("json", "ValueError()")))).kind is (
        Kind.UNKNOWN
    )
    assert classify(_caught(_in("agent.nodes", _raising("json", "ValueError()")))).kind is (
        Kind.PERMANENT
    )
    assert classify(_caught(validate)).kind is Kind.PERMANENT


@rows(
    ("module", "kind"),
    [
        ("agent.nodes", Kind.PERMANENT),
        ("langgraph.pregel.main", Kind.PERMANENT),
        ("langchain_core.load.serializable", Kind.PERMANENT),
        ("langchain_core.output_parsers.openai_tools", Kind.UNKNOWN),
        ("langchain_core.tools.base", Kind.UNKNOWN),
        ("langchain.agents.structured_output", Kind.UNKNOWN),
        ("openai.lib._parsing._completions", Kind.UNKNOWN),
        ("anthropic.lib._parse", Kind.UNKNOWN),
        ("instructor.processing", Kind.UNKNOWN),
        ("pydantic_ai._output", Kind.UNKNOWN),
        ("mcp.client.session", Kind.UNKNOWN),
    ],
)
def test_text_that_does_not_validate_is_a_models_or_the_input(module: str, kind: Kind) -> None:
    space: dict[str, object] = {"__name__": module, "validate": _Person.model_validate_json}
    exec("def call(): return validate('{}')", space)  # noqa: S102 - as above
    call = space["call"]
    assert callable(call)

    assert classify(_caught(call)).kind is kind


def test_what_stands_behind_a_clients_error_knows_better() -> None:
    error = ValueError("no answer")
    error.__cause__ = TimeoutError()

    raised = _caught(_raising("langchain_openai.chat", "told", told=error))

    assert classify(raised).kind is Kind.TIMEOUT


def test_a_node_that_wraps_a_clients_error_has_no_bug_for_it() -> None:
    def wraps() -> object:
        try:
            return _raising("openai._base_client", "AttributeError('choices')")()
        except AttributeError as error:
            raise ValueError("the model does not answer") from error

    def hides() -> object:
        try:
            return _raising("openai._base_client", "AttributeError('choices')")()
        except AttributeError:
            raise ValueError("the model does not answer") from None

    assert classify(_caught(wraps)).kind is Kind.UNKNOWN
    assert classify(_caught(hides)).kind is Kind.PERMANENT


def test_an_error_that_was_never_raised_has_no_origin() -> None:
    assert origin(ValueError()) is None
    assert client_of(ValueError()) is None
    assert classify(ValueError("code: 429")).kind is Kind.PERMANENT


@pytest.mark.parametrize("client", sorted(CLIENTS))
def test_a_client_is_known_in_all_its_modules_and_nowhere_else(client: str) -> None:
    assert is_client(client) == client
    assert is_client(f"{client}.some.module") == client
    assert is_client(f"my_{client}") is None


@given(st.text())
def test_any_name_is_a_clients_or_none(name: str) -> None:
    found = is_client(name)

    assert found is None or name.startswith(found)
