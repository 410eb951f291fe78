"""Every page: its links lead somewhere, its examples run, its commands are commands that exist.

A Python block is compiled, and what it imports of redrive is there. One that is opened as
"```python run" is executed as well. Commands stand in `sh` blocks: those of `redrive` are parsed by
the command line itself, without running; targets of `make` and scripts must exist.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.rows import rows

from redrive.cli.app import whole_command

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
PICTURE = re.compile(r"!\[[^\]]+\]\(([^)\s]+)\)")
# A path of the machine that made the picture, or a font that has to be fetched.
MACHINE = re.compile(r"/(?:tmp|home|root|work|usr)/|site-packages|@font-face")
# Programs that are not ours: their flags are theirs.
FOREIGN = {
    "airflow",
    "export",
    "git",
    "kafka-console-consumer.sh",
    "kafka-consumer-groups.sh",
    "mkdir",
    "pip",
    "promtool",
    "py-spy",
}


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            if match[1].partition(" ")[0] in languages:
                found.append(Block(page, line, match[1].strip(), match[2]))
    return found


PYTHON = blocks("python")
RUN = [block for block in PYTHON if block.info == "python run"]
SHELL = blocks("sh", "console", "bash", "shell")


def slugs(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.strip().replace(" ", "-") for title in kept}


def test_no_block_hides_from_these_tests() -> None:
    hidden = [
        page.name
        for page in PAGES
        if len(re.findall(r"^\s*```", page.read_text(encoding="utf-8"), flags=re.MULTILINE))
        != 2 * len(FENCE.findall(page.read_text(encoding="utf-8")))
    ]

    assert hidden == [], "begin blocks at the start of a line, and end them"


@rows("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        target = page if not path else page.parent / path
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in slugs(target)):
            broken.append(link)

    assert broken == []


def test_the_pictures_are_there_and_name_no_machine() -> None:
    shown = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in PICTURE.findall(page.read_text(encoding="utf-8"))
    }

    assert shown == set((ROOT / "docs" / "pictures").iterdir())
    for picture in shown:
        assert MACHINE.findall(picture.read_text(encoding="utf-8")) == [], picture.name


def test_the_index_names_every_page_of_the_documentation() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {
        (index.parent / link.partition("#")[0]).resolve()
        for link in LINK.findall(index.read_text(encoding="utf-8"))
    }

    missing = [page.name for page in (ROOT / "docs").rglob("*.md") if page not in {index, *linked}]

    assert missing == []


@rows("block", PYTHON, ids=str)
def test_a_python_example_imports_names_that_exist(block: Block) -> None:
    tree = compile(
        block.text, str(block), "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    )

    missing = [name for name in imported(tree) if not is_there(name)]

    assert missing == []


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "redrive":
            yield from ((node.module or "", alias.name) for alias in node.names)


def is_there(name: tuple[str, str]) -> bool:
    module, attribute = name
    if module.startswith("redrive.airflow"):
        # Airflow itself loads slowly, and writes into a home: its own tests import these.
        return attribute in importlib.import_module("redrive.airflow").__all__
    return hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("block", RUN, ids=str)
def test_an_example_runs(block: Block, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(block.text, encoding="utf-8")

    ran = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ran.returncode == 0, ran.stderr


def commands(text: str) -> Iterator[list[str]]:
    """Yield each command of a block, also those behind a pipe, as its words."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words:
            end = words.index("|") if "|" in words else len(words)
            command = words[:end]
            words = words[end + 1 :]
            while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):
                command = command[1:]
            if command:
                yield command


@rows("block", SHELL, ids=str)
def test_the_commands_of_a_block_exist(block: Block) -> None:
    for program, *arguments in commands(block.text):
        match Path(program).name:
            case "redrive":
                parse_redrive(arguments)
            case "make":
                makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
                lines = [
                    f"\n{a.partition('=')[0]} ?= " if "=" in a else f"\n{a}: " for a in arguments
                ]
                assert all(line in makefile for line in lines), arguments
            case "python" | "python3":
                check_python(arguments)
            case "pre-commit":
                assert (ROOT / ".pre-commit-config.yaml").exists()
            case name:
                assert name in FOREIGN, f"{block}: nothing here knows {name!r}"


def parse_redrive(arguments: list[str]) -> None:
    """Let the command line read its arguments; it raises for a flag that it does not know."""
    command = whole_command()
    name = "redrive"
    while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        command = command.commands[name]
    if arguments not in (["--help"], ["--version"]):
        command.make_context(name, arguments)


def check_python(arguments: list[str]) -> None:
    if arguments[0] != "-m":
        assert (ROOT / arguments[0]).exists(), arguments
    elif arguments[1].startswith("redrive"):
        assert importlib.util.find_spec(arguments[1]) is not None, arguments
    else:
        assert arguments[1] in {"pytest", "pip"}, arguments
