"""Measure the shape of the code: `python -m scripts.shape`, or `--static` without a broker.

Prints how much code there is, how finely it is cut, and through how much of it one event, one
redrive and one Airflow task pass. Nothing of it is a law; it shows what a change of the structure
has changed. What each figure means is in docs/decisions/0076-what-the-shape-is-measured-by.md.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.source_tree import Function, SourceTree

__all__ = ["Shape", "code_lines", "lines_of", "noqa_rules", "shape_of"]

ROOT = Path(__file__).parents[1]
LINTED = ("src", "tests", "benchmarks", "deploy", "scripts", "mkdocs_hooks.py")
_NOQA = re.compile(r"#\s*noqa:\s*([A-Z]+[0-9]+(?:\s*,\s*[A-Z]+[0-9]+)*)")
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """How a package is cut.

    Args:
        files: How many modules it has.
        code_lines: Lines that hold code.
        functions: Functions and methods.
        private_functions: Those whose name begins with one underscore.
        called_once: Of the private ones, those that one call in their module is all that names.
        classes: Class names that several modules define, with the modules.
        file_names: File names that several packages have, with the modules.
    """

    files: int
    code_lines: int
    functions: int
    private_functions: int
    called_once: int
    classes: Mapping[str, list[str]]
    file_names: Mapping[str, list[str]]


def shape_of(source: SourceTree) -> Shape:
    """Measure a package."""
    functions = [name for name, found in source.functions.items() for _ in found]
    stems: dict[str, list[str]] = defaultdict(list)
    for module, file in source.files.items():
        if not file.stem.startswith("__"):
            stems[file.name].append(module)
    classes: dict[str, list[str]] = defaultdict(list)
    for module, tree in source.modules.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(module)
    return Shape(
        files=len(source.files),
        code_lines=sum(
            code_lines(file.read_text(encoding="utf-8")) for file in source.files.values()
        ),
        functions=len(functions),
        private_functions=sum(map(_is_private, functions)),
        called_once=sum(len(_called_once(nodes)) for nodes in source.nodes.values()),
        classes={name: at for name, at in sorted(classes.items()) if len(at) > 1},
        file_names={name: at for name, at in sorted(stems.items()) if len(at) > 1},
    )


def code_lines(text: str) -> int:
    """Count the lines that hold code: no blank ones, no comments, no texts that stand alone."""
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in _NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def noqa_rules(texts: Iterable[str]) -> Counter[str]:
    """Count the rules that comments switch off; a comment that names two counts for both."""
    return Counter(
        rule
        for text in texts
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
        for named in _NOQA.findall(token.string)
        for rule in re.split(r"\s*,\s*", named)
    )


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _called_once(nodes: list[ast.AST]) -> set[str]:
    """Return private functions of a module of which one call is the only mention."""
    defined = Counter(node.name for node in nodes if isinstance(node, Function))
    mentions: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for node in nodes:
        mentions[_name(node)] += 1
        if isinstance(node, ast.Call):
            calls[_name(node.func)] += 1
    return {
        name
        for name, times in defined.items()
        if _is_private(name) and times == 1 and calls[name] == mentions[name] == 1
    }


def _name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def lines_of(shape: Shape, noqa: Counter[str], noqa_in_source: Counter[str]) -> Iterator[str]:
    """Tell the figures that need no running."""
    share = 100 * shape.called_once / (shape.functions or 1)
    yield f"files: {shape.files}"
    yield f"code lines: {shape.code_lines}"
    yield f"functions: {shape.functions}, of them private: {shape.private_functions}"
    yield f"private functions called once: {shape.called_once} ({share:.0f} % of all functions)"
    yield f"class names with two or more meanings: {len(shape.classes)}"
    yield from (f"  {name}: {', '.join(at)}" for name, at in shape.classes.items())
    yield f"file names with two or more meanings: {len(shape.file_names)}"
    yield from (f"  {name}: {', '.join(at)}" for name, at in shape.file_names.items())
    yield f"noqa: {noqa.total()}, of them in src: {noqa_in_source.total()}"
    for rule, count in noqa.most_common():
        yield f"  {rule}: {count}, of them in src: {noqa_in_source[rule]}"


def _python_files(*names: str) -> Iterator[str]:
    for name in names:
        at = ROOT / name
        for file in sorted(at.rglob("*.py")) if at.is_dir() else [at]:
            yield file.read_text(encoding="utf-8")


def _main() -> None:
    parser = argparse.ArgumentParser(description="Measure the shape of the code.")
    parser.add_argument("--static", action="store_true", help="run nothing, read the code only")
    static = parser.parse_args().static
    shape = shape_of(SourceTree(ROOT / "src" / "redrive"))
    noqa = noqa_rules(_python_files(*LINTED))
    for line in lines_of(shape, noqa, noqa_rules(_python_files("src"))):
        sys.stdout.write(line + "\n")
    if not static:
        from scripts.crossings import crossings  # noqa: PLC0415 - needs a broker and Airflow

        for line in crossings():
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    _main()
