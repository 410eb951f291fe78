"""List every name of redrive that users see: `python -m scripts.visible_names` writes the list.

The list lies in tests/house/visible_names.txt, one fact a line, and a test compares it with the
code. So no flag, setting, header, metric or log event is renamed by accident, and a commit that
changes one shows it. What commands print with `--json` is not in it: the commands' tests hold that.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from scripts.source_tree import Function, SourceTree

from redrive.airflow.provider_info import get_provider_info
from redrive.cli.app import whole_command
from redrive.cli.exits import ExitCode
from redrive.consumer.outcome import Ending
from redrive.dead_letter.audit_chain import AuditRecord
from redrive.dead_letter.record import DeadLetter
from redrive.dead_letter.states import LetterState
from redrive.events import EventHeaders, WorkflowEvent, WorkflowResultEvent
from redrive.redriving.deciding import Refusal
from redrive.retry.kinds import Kind, Reason
from redrive.settings import Settings
from redrive.settings_report import written_as
from redrive.settings_sources import KNOWN_NAMES, inner_type, variable
from redrive.telemetry.metrics import LETTER_FIGURES, WORKER_FIGURES

__all__ = ["LIST", "log_events", "public_names", "visible_names"]

ROOT = Path(__file__).parents[1]
LIST = ROOT / "tests" / "house" / "visible_names.txt"
SOURCE = ROOT / "src" / "redrive"

FRONT_DOORS = ("redrive", "redrive.airflow", "redrive.errors", "redrive.retry", "redrive.testing")
"""All that these modules export is public; of others, what the documentation imports."""
RECORDS: dict[str, type[BaseModel]] = {
    "event": WorkflowEvent,
    "result": WorkflowResultEvent,
    "letter": DeadLetter,
    "state": LetterState,
    "audit": AuditRecord,
}
CODES: dict[str, type[Enum]] = {
    "kind": Kind,
    "reason": Reason,
    "ending": Ending,
    "refusal of a redrive": Refusal,
}
LOG_LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
# The kit and the demo keep files and names of their own; teams do not build on them.
_OF_THE_KIT = ("redrive.testing", "redrive.demo")
_EVENT = re.compile(r"[a-z]+(\.[a-z_]+)+")
_FILE_NAME = re.compile(r"[\w.-]+\.(db|jsonl?|toml|sock)|-(wal|shm|journal)")

_SHOWN_METHODS = {"__init__", "__call__", "__enter__", "__aenter__", "__iter__", "__aiter__"}
_Nodes = list[ast.AST]
_OF_PYDANTIC = {"model_config", "settings_customise_sources"}


def visible_names() -> str:
    """Return the whole list."""
    source = SourceTree(SOURCE)
    sections: dict[str, Iterable[str]] = {
        "commands": _commands(whole_command(), "redrive"),
        "exit codes": (f"{code.value} {code.name}" for code in ExitCode),
        "settings": _settings(Settings, ()),
        "environment variables": _environment(source),
        "record fields": _record_fields(),
        "record headers": _headers(source),
        "codes": (f"{name}: {one.value}" for name, codes in CODES.items() for one in codes),
        "metrics": _metrics(),
        "alerts": re.findall(r"- alert: (\w+)", _text("deploy/prometheus/alerts.yml")),
        "log events": log_events(source),
        "HTTP paths": _http_paths(source),
        "files": source.texts_that_match(_FILE_NAME, without=_OF_THE_KIT),
        "names in checkpoints and configs": _stored_names(source),
        "names of threads and clients": _thread_names(source),
        "Python": _python(source),
        "packaging": _packaging(),
        "Airflow provider": _flat(get_provider_info(), ""),
    }
    head = (
        "# Every name that users see. Made by `python -m scripts.visible_names`; do not edit.\n"
        "# A line that changes here changes for users: say so in CHANGELOG.md.\n"
    )
    return head + "".join(
        f"\n[{name}]\n" + "".join(f"{line}\n" for line in sorted(set(lines)))
        for name, lines in sections.items()
    )


# -- the command line


def _commands(command: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - typer's own copy of click
    hidden = " (hidden)" if command.hidden else ""
    yield f"{path}{hidden}"
    for one in command.params:
        if one.name == "help":
            continue
        is_argument = one.param_type_name == "argument"
        names = f"argument {one.name}" if is_argument else ", ".join(one.opts + one.secondary_opts)
        form = "flag" if getattr(one, "is_flag", False) else f"<{_type_of_flag(one)}>"
        several = "..." if one.nargs != 1 or getattr(one, "multiple", False) else ""
        yield f"{path} {names} {form}{several}{_default_of_flag(one)}"
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, f"{path} {name}")


def _type_of_flag(one: Any) -> str:  # noqa: ANN401 - as above
    annotation = one.type_descriptor.annotation
    return _choices(annotation).strip(" ()") or one.metavar or annotation.__name__


def _default_of_flag(one: Any) -> str:  # noqa: ANN401 - as above
    told = " (hidden)" if getattr(one, "hidden", False) else ""
    if one.required:
        return f" required{told}"
    if one.default in (None, False, (), [], {}) or callable(one.default):
        return told
    return f" = {getattr(one.default, 'value', one.default)}{told}"


# -- settings and the environment


def _settings(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[str]:
    known: dict[str, object] = {}
    for name, field in model.model_fields.items():
        here = (*path, name)
        inner = inner_type(field.annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            form = get_origin(field.annotation)
            middle = ["NAME"] if form is dict else ["[]"] if form is tuple else []
            yield from _settings(inner, (*here, *middle))
            continue
        default = "required"
        if not field.is_required():
            known[name] = field.get_default(call_default_factory=True, validated_data=known)
            default = str(written_as(field, known[name]))
        env = "" if "[]" in here else f" {variable(here)}"
        yield f"{'.'.join(here)}{env} = {default}{_choices(field.annotation)}"


def _choices(annotation: object) -> str:
    """Tell the values of a closed choice, wherever it stands in a type."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return f" ({'|'.join(str(one.value) for one in annotation)})"
    if get_origin(annotation) is Literal:
        return f" ({'|'.join(map(str, get_args(annotation)))})"
    return "".join(map(_choices, get_args(annotation)))


def _environment(source: SourceTree) -> Iterator[str]:
    yield from (f"{name} = {key}" for name, key in KNOWN_NAMES.items())
    for name in source.texts_that_match(re.compile(r"REDRIVE_[A-Z_]*[A-Z]"), without=_OF_THE_KIT):
        if "__" not in name:  # those with it are settings
            yield name


# -- records, metrics, logs


def _record_fields() -> Iterator[str]:
    for name, model in RECORDS.items():
        schema = model.model_json_schema(mode="serialization")
        yield from _fields(schema, name, schema.get("$defs", {}))


def _fields(schema: dict[str, Any], path: str, models: dict[str, Any]) -> Iterator[str]:
    for name, one in schema.get("properties", {}).items():
        needed = " required" if name in schema.get("required", ()) else ""
        yield f"{path}.{name}: {_json_type(one, models)}{needed}"
        for where, inner in _inner_models(one, models):
            yield from _fields(inner, f"{path}.{name}{where}", models)


def _json_type(one: dict[str, Any], models: dict[str, Any]) -> str:
    if "$ref" in one:
        return _json_type(models[one["$ref"].rpartition("/")[2]], models)
    if "anyOf" in one:
        return " or ".join(_json_type(each, models) for each in one["anyOf"])
    if "enum" in one:
        return "|".join(map(str, one["enum"]))
    if "const" in one:
        return str(one["const"])
    if one.get("type") == "array" and "items" in one:
        return f"array of {_json_type(one['items'], models)}"
    return str(one.get("type", "anything"))


def _inner_models(
    one: dict[str, Any], models: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    if "$ref" in one:
        yield "", models[one["$ref"].rpartition("/")[2]]
    for each in one.get("anyOf", ()):
        yield from _inner_models(each, models)
    if isinstance(items := one.get("items"), dict):
        yield from ((f"[]{where}", model) for where, model in _inner_models(items, models))


def _headers(source: SourceTree) -> Iterator[str]:
    names = {f.replace("_", "-") for f in EventHeaders.__dataclass_fields__}
    yield from (f"redrive-{name}" if name != "traceparent" else name for name in names)
    yield from source.texts_that_match(
        re.compile(r"redrive-(codec|fingerprint|kind|reason|record|signature)")
    )


def _metrics() -> Iterator[str]:
    for of, metrics in (("worker", WORKER_FIGURES), ("letters", LETTER_FIGURES)):
        for one in metrics:
            bounds = f" buckets {' '.join(f'{b:g}' for b in one.bounds)}" if one.bounds else ""
            yield (
                f"{one.name}{{{', '.join(one.labels)}}} {one.type.value} of {of}, "
                f"unit {one.unit or '-'}, several: {one.merge.value}{bounds}"
            )


def log_events(source: SourceTree) -> Iterator[str]:
    """Yield every event with its level, logger and fields; of several calls, all their fields."""
    fields: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for module, nodes in source.nodes.items():
        for call, levels in _log_calls(nodes):
            for event in _events(call.args[0], nodes):
                given = fields[event, levels, _logger(nodes, module)]
                for one in call.keywords:
                    given.update({one.arg} if one.arg else source.keys(one.value, module))
    for (event, level, logger), given in fields.items():
        yield f"{event} {level} {logger}: {', '.join(sorted(given)) or '-'}"


def _log_calls(nodes: _Nodes) -> Iterator[tuple[ast.Call, str]]:
    """Yield each call that logs, with its level; also `tell = log.info if … else log.warning`."""
    aliases: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and (levels := sorted(_levels(node.value))):
            aliases[ast.unparse(node.targets[0])] = " or ".join(levels)
    for call in nodes:
        if isinstance(call, ast.Call) and call.args:
            levels = sorted(_levels(call.func))
            if level := " or ".join(levels) or aliases.get(ast.unparse(call.func)):
                yield call, level


def _levels(node: ast.expr) -> set[str]:
    """Read which methods of a logger an expression is: `log.info` is one."""
    match node:
        case ast.IfExp():
            return _levels(node.body) | _levels(node.orelse)
        case ast.Attribute(attr=level) if level in LOG_LEVELS:
            logger = ast.unparse(node.value).removeprefix("self.").lstrip("_")
            return {"error" if level == "exception" else level} if logger == "log" else set()
        case _:
            return set()


def _events(argument: ast.expr, nodes: _Nodes) -> Iterator[str]:
    """Read an event's name, also where a variable or the function's caller holds it."""
    if not isinstance(argument, ast.Name):
        for node in ast.walk(argument):
            if isinstance(node, ast.Constant) and _EVENT.fullmatch(str(node.value)):
                yield str(node.value)
        return
    for node in nodes:
        match node:
            case ast.Assign() if ast.unparse(node.targets[0]) == argument.id:
                yield from _events(node.value, nodes)
            case ast.FunctionDef():
                names = [one.arg for one in node.args.args if one.arg != "self"]
                if argument.id in names:
                    yield from _given(node.name, names.index(argument.id), nodes)


def _given(function: str, number: int, nodes: _Nodes) -> Iterator[str]:
    """Read the names of events that callers in the module give as an argument."""
    for call in nodes:
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(f".{function}"):
            for argument in call.args[number : number + 1]:
                if isinstance(argument, ast.Constant):
                    yield from _events(argument, nodes)


def _logger(nodes: _Nodes, module: str) -> str:
    for node in nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("get_logger"):
            name = ast.unparse(node.args[0]) if node.args else "-"
            return module if name == "__name__" else name.strip("'")
    return "given"


# -- HTTP, files, stored names


def _http_paths(source: SourceTree) -> Iterator[str]:
    for module, nodes in source.nodes.items():
        if module.startswith(_OF_THE_KIT):
            continue
        for node in nodes:
            if isinstance(node, ast.Dict):
                keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
                if keys and all(re.fullmatch(r"/[a-z/]*", str(key)) for key in keys):
                    yield from map(str, keys)


def _stored_names(source: SourceTree) -> set[str]:
    """Return names of tables, columns, and keys of LangGraph's configs."""
    metrics = {one.name for one in (*WORKER_FIGURES, *LETTER_FIGURES)}
    found = {
        name
        for module, text in source.texts
        if not module.startswith(_OF_THE_KIT)
        for name in re.findall(r"\bredrive_[a-z_]*[a-z]\b", text)
    }
    return found - metrics - set(EventHeaders.__dataclass_fields__)


def _thread_names(source: SourceTree) -> set[str]:
    ours = re.compile(r"redrive-[a-z-]+")
    return source.texts_that_match(ours, without=_OF_THE_KIT) - set(_headers(source))


# -- Python


def public_names(source: SourceTree) -> list[tuple[str, str]]:
    """Return module and name of all that is public."""
    public = {(door, name) for door in FRONT_DOORS for name in source.exported(door)}
    return sorted(one for one in public | set(_documented()) if one[0] in source.modules)


def _python(source: SourceTree) -> Iterator[str]:
    told: dict[int, str] = {}
    for module, name in public_names(source):
        found = source.definition(module, name)
        first = told.setdefault(id(found[1]), f"{module}.{name}") if found else ""
        if first in ("", f"{module}.{name}"):
            yield from _described(source, module, name)
        else:
            yield f"{module}.{name}: the same as {first}"


def _documented() -> Iterator[tuple[str, str]]:
    """Yield what the pages import, or name as `redrive.module:Name`."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for module, names in re.findall(r"from (redrive[\w.]*) import (\([^)]*\)|[^\n]*)", text):
            yield from ((module, name) for name in re.findall(r"\w+", names.partition("#")[0]))
        yield from re.findall(r"\b(redrive\.[a-z_.]+):([A-Z]\w+)", text)


def _described(source: SourceTree, module: str, name: str) -> Iterator[str]:
    found = source.definition(module, name)
    path = f"{module}.{name}"
    if found is None:
        yield path
        return
    home, node = found
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            same = [one for at, one in source.functions[node.name] if at == home]
            yield from (_signature(path, one) for one in same)
        case ast.ClassDef():
            bases = [base for base in map(ast.unparse, node.bases) if not base.startswith("_")]
            yield f"{path}: class of {', '.join(bases) or 'its own'}"
            yield from _members(source, home, node, path, set())
        case _:
            yield f"{path}: a value"


def _members(
    source: SourceTree, module: str, node: ast.ClassDef, path: str, seen: set[str]
) -> Iterator[str]:
    """Yield public fields and methods, those of our own base classes too."""
    seen |= _OF_PYDANTIC
    for one in node.body:
        match one:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                name = one.name
                shown = not name.startswith("_") or name in _SHOWN_METHODS
                if shown and name not in seen:
                    seen.add(name)
                    yield _signature(f"{path}.{name}", one)
            case ast.AnnAssign() | ast.Assign():
                target = one.target if isinstance(one, ast.AnnAssign) else one.targets[0]
                name = ast.unparse(target)
                if name.isidentifier() and not name.startswith("_") and name not in seen:
                    seen.add(name)
                    kind = f": {ast.unparse(one.annotation)}" if hasattr(one, "annotation") else ""
                    yield f"{path}.{name}{kind}" + (
                        f" = {ast.unparse(one.value)}" if one.value else ""
                    )
    for base in node.bases:
        found = source.definition(module, ast.unparse(base))
        if found is not None and isinstance(found[1], ast.ClassDef):
            yield from _members(source, found[0], found[1], path, seen)


def _signature(path: str, node: Function) -> str:
    decorators = {ast.unparse(one) for one in node.decorator_list}
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    if "property" in decorators:
        return f"{path}{returns} (property)"
    marks = sorted(decorators & {"classmethod", "overload", "staticmethod"})
    marks += ["async"] if isinstance(node, ast.AsyncFunctionDef) else []
    told = f" ({', '.join(marks)})" if marks else ""
    return f"{path}({ast.unparse(node.args)}){returns}{told}"


# -- packaging


def _packaging() -> Iterator[str]:
    project = tomllib.loads(_text("pyproject.toml"))["project"]
    yield f"requires Python {project['requires-python']}"
    yield from (f"extra {name}" for name in project["optional-dependencies"])
    yield from (f"script {name} = {at}" for name, at in project["scripts"].items())
    for group, points in project["entry-points"].items():
        yield from (f"entry point {group} {name} = {at}" for name, at in points.items())


def _flat(value: object, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from _flat(inner, f"{path}[]")
    else:
        yield f"{path} = {value}"


def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


if __name__ == "__main__":
    LIST.write_text(visible_names(), encoding="utf-8")
    sys.stdout.write(f"wrote {LIST.relative_to(ROOT)}\n")
