"""The page docs/cli.md: every command with its flags, made from the code.

`python -m redrive.cli.reference` prints it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

from redrive.cli.app import whole_command
from redrive.cli.exits import ExitCode

__all__ = ["cli_reference"]

_HEAD = """\
# Commands

<!-- Made by `python -m redrive.cli.reference`; do not edit. -->

`redrive COMMAND --help` shows the same. Data goes to stdout, everything else to stderr; `--json`
prints JSON, for use in programs.
`redrive --install-completion` installs completion of commands and flags in your shell.
Settings come from `redrive.toml`, the environment and flags: see [Settings](settings.md).

"""


def cli_reference() -> str:
    """Return the page."""
    parts = [_HEAD, "| exit code | meaning |\n|---|---|\n"]
    parts += [f"| {code.value} | {code.meaning} |\n" for code in ExitCode]
    parts += _commands(whole_command(), "redrive")
    return "".join(parts)


def _commands(command: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - click's classes, which typer brings in a copy of its own
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        if hasattr(inner, "commands"):
            if inner.invoke_without_command:
                yield from _page(inner, f"{path} {name}")
            yield from _commands(inner, f"{path} {name}")
        elif not inner.hidden:
            yield from _page(inner, f"{path} {name}")


def _page(command: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - as above
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    names = "".join(f" {_argument(one)}" for one in arguments)
    yield f"\n## `{path}`\n\n```text\n{path}{names}{' [flags]' if options else ''}\n```\n\n"
    yield _text(command.help) + "\n\n"
    yield "| flag | default | meaning |\n|---|---|---|\n"
    for one in arguments:
        yield f"| `{_argument(one)}` | {_default(one)} | {_cell(one.help)} |\n"
    for one in options:
        if one.name != "help" and not one.hidden:
            yield f"| {_flags(one)} | {_default(one)} | {_cell(one.help)} |\n"


def _argument(one: Any) -> str:  # noqa: ANN401 - as above
    name = (one.metavar or one.name.upper()).strip("{}[]")
    several = "..." if one.nargs != 1 else ""
    return f"{name}{several}" if one.required else f"[{name}]{several}"


def _flags(one: Any) -> str:  # noqa: ANN401 - as above
    value = "" if one.is_flag else f" {one.metavar or one.name.upper()}"
    return ", ".join(f"`{flag}{value}`" for flag in [*one.opts, *one.secondary_opts])


def _default(one: Any) -> str:  # noqa: ANN401 - as above
    if one.required:
        return "required"
    if one.default in (None, False, (), [], {}) or callable(one.default):
        return ""
    return f"`{getattr(one.default, 'value', one.default)}`"


def _cell(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").replace("|", "\\|")


def _text(text: str | None) -> str:
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text or ""))
    return "\n\n".join(re.sub(r"\s+", " ", one) for one in paragraphs)


if __name__ == "__main__":
    sys.stdout.write(cli_reference())
