"""What a model wrote and cannot be used, by every method to ask for it; and what was only input."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Literal, TypedDict

import anthropic
import openai
from langchain_core.messages import AIMessage, ToolCall
from langchain_core.output_parsers import PydanticToolsParser
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel, SecretStr
from tests.unit.real_errors.conftest import PATIENCE_S, Row, Service

from redrive.retry import Kind

Method = Literal["function_calling", "json_mode", "json_schema"]
RAISED_BY = ("pydantic_core", "langchain_core", "langchain_openai", "openai", "langgraph")


class _Person(BaseModel):
    name: str
    age: int


class _Talk(TypedDict):
    messages: Annotated[list[AIMessage], add_messages]


def _completion(message: dict[str, object], finish: str = "stop") -> dict[str, object]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


def _text(text: str | None, **more: object) -> dict[str, object]:
    return _completion({"content": text, **more})


def _calls(arguments: str, name: str = "_Person") -> dict[str, object]:
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    return _completion({"content": None, "tool_calls": [call]}, "tool_calls")


def _asks(method: Method, answer: dict[str, object]) -> Callable[[Service], object]:
    def fail(service: Service) -> object:
        model = ChatOpenAI(
            model="gpt-4o",
            api_key=SecretStr("none"),
            base_url=service.answers_with(200, {}, json.dumps(answer).encode()),
            max_retries=0,
            timeout=PATIENCE_S,
        )
        return model.with_structured_output(_Person, method=method).invoke("x")

    return fail


def _structured_row(case: str, kind: Kind, method: Method, answer: dict[str, object]) -> Row:
    return Row("langchain_openai", f"{method}-{case}", _asks(method, answer), kind, None, RAISED_BY)


def _openai_parse(service: Service) -> None:
    answer = json.dumps(_text('{"name": "A", "age": "forty"}')).encode()
    url = service.answers_with(200, {}, answer)
    with openai.OpenAI(api_key="none", base_url=url, max_retries=0) as client:
        client.chat.completions.parse(
            model="m", messages=[{"role": "user", "content": "x"}], response_format=_Person
        )


def _anthropic_parse(service: Service) -> None:
    answer = {
        "id": "x",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": '{"name": "A", "age": "forty"}'}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    url = service.answers_with(200, {}, json.dumps(answer).encode())
    with anthropic.Anthropic(api_key="none", base_url=url, max_retries=0) as client:
        client.messages.parse(
            model="m",
            max_tokens=9,
            messages=[{"role": "user", "content": "x"}],
            output_format=_Person,
        )


@tool
def _double(number: int) -> int:
    """Double it."""
    return 2 * number


@tool
def _reads_its_input(text: str) -> str:
    """Read a person."""
    return _Person.model_validate_json(text).name


def _wrong_arguments() -> ToolCall:
    return ToolCall(name="_double", args={"number": "many"}, id="c", type="tool_call")


def _tool_node(_service: Service) -> object:
    graph = StateGraph(_Talk)
    graph.add_node("tools", ToolNode([_double], handle_tool_errors=False))
    graph.add_edge(START, "tools")
    graph.add_edge("tools", END)
    message = AIMessage("", tool_calls=[_wrong_arguments()])
    return graph.compile().invoke({"messages": [message]})


def _tools_parser(_service: Service) -> object:
    call = ToolCall(name="_Person", args={"name": "A", "age": "forty"}, id="c", type="tool_call")
    return PydanticToolsParser(tools=[_Person]).invoke(AIMessage("", tool_calls=[call]))


class _State(BaseModel):
    at: int


def _state_of_a_graph(_service: Service) -> object:
    graph = StateGraph(_State)
    graph.add_node("node", lambda state: {"at": state.at})
    graph.add_edge(START, "node")
    return graph.compile().invoke({"at": "nowhere"})  # type: ignore[call-overload] # so it is


def _models_own_options(_service: Service) -> object:
    return ChatOpenAI(model="m", api_key=SecretStr("none"), temperature="hot")


_METHODS: tuple[Method, ...] = ("function_calling", "json_mode", "json_schema")
_WRONG = {
    "wrong-type": '{"name": "A", "age": "forty"}',
    "field-missing": '{"name": "A"}',
    "not-json": '{"name": "A",',
}


def _written(method: Method, text: str) -> dict[str, object]:
    return _calls(text) if method == "function_calling" else _text(text)


ROWS = [
    # One rule: it may write better, once.
    *(
        _structured_row(case, Kind.UNKNOWN, method, _written(method, text))
        for method in _METHODS
        for case, text in _WRONG.items()
        # LangChain gives None for the call of a tool that is no JSON.
        if (method, case) != ("function_calling", "not-json")
    ),
    _structured_row("prose", Kind.UNKNOWN, "json_mode", _text("Sure, here you go")),
    _structured_row("prose", Kind.UNKNOWN, "json_schema", _text("Sure, here you go")),
    _structured_row("unknown-tool", Kind.UNKNOWN, "function_calling", _calls("{}", "other")),
    Row("openai", "parse", _openai_parse, Kind.UNKNOWN, raised_by=("pydantic_core",)),
    Row("anthropic", "parse", _anthropic_parse, Kind.UNKNOWN, raised_by=("pydantic_core",)),
    Row("langgraph", "tool-arguments", _tool_node, Kind.UNKNOWN, raised_by=RAISED_BY),
    Row("langchain_core", "tools-parser", _tools_parser, Kind.UNKNOWN, raised_by=RAISED_BY),
    Row(
        "langchain_core",
        "tool-arguments",
        lambda _: _double.invoke(_wrong_arguments()),
        Kind.UNKNOWN,
        raised_by=RAISED_BY,
    ),
    # It will refuse again, and the limit will cut it again.
    _structured_row("refusal", Kind.PERMANENT, "json_schema", _text(None, refusal="I cannot")),
    _structured_row(
        "filtered", Kind.PERMANENT, "json_schema", _completion({"content": ""}, "content_filter")
    ),
    _structured_row(
        "cut", Kind.PERMANENT, "json_schema", _completion({"content": '{"name"'}, "length")
    ),
    # What the input was, stays.
    Row("langgraph", "state", _state_of_a_graph, Kind.PERMANENT, raised_by=("pydantic_core",)),
    Row(
        "langchain_openai",
        "options",
        _models_own_options,
        Kind.PERMANENT,
        raised_by=("pydantic_core",),
    ),
    Row(
        "langchain_core",
        "tools-own-input",
        lambda _: _reads_its_input.invoke({"text": "{}"}),
        Kind.PERMANENT,
        raised_by=("pydantic_core",),
    ),
]
