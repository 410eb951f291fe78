"""A package's source as trees, for the scripts that read it; nothing of it is imported."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["Function", "SourceTree"]

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class SourceTree:
    """All modules below the folder of a package."""

    folder: Path

    @cached_property
    def files(self) -> dict[str, Path]:
        """The files by the dotted names of their modules."""
        found = {}
        for file in sorted(self.folder.rglob("*.py")):
            parts = file.relative_to(self.folder.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
        return found

    @cached_property
    def modules(self) -> dict[str, ast.Module]:
        """What they hold."""
        return {
            name: ast.parse(file.read_text(encoding="utf-8")) for name, file in self.files.items()
        }

    @cached_property
    def nodes(self) -> dict[str, list[ast.AST]]:
        """Every node of each module; walking a tree is slow, so it is done once."""
        return {name: list(ast.walk(tree)) for name, tree in self.modules.items()}

    @cached_property
    def functions(self) -> Mapping[str, list[tuple[str, Function]]]:
        """All functions and methods by their last names, with their modules."""
        found: dict[str, list[tuple[str, Function]]] = defaultdict(list)
        for module, nodes in self.nodes.items():
            for node in nodes:
                if isinstance(node, Function):
                    found[node.name].append((module, node))
        return found

    @cached_property
    def texts(self) -> set[tuple[str, str]]:
        """Each text in the code with its module; docstrings are none."""
        found = set()
        for module, nodes in self.nodes.items():
            docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
            texts = (n for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))
            found |= {(module, str(n.value)) for n in texts if id(n) not in docstrings}
        return found

    def texts_that_match(
        self, pattern: re.Pattern[str], *, without: tuple[str, ...] = ()
    ) -> set[str]:
        """Return the texts that are the pattern as a whole, outside of some packages."""
        return {
            text
            for module, text in self.texts
            if pattern.fullmatch(text) and not module.startswith(without)
        }

    def exported(self, module: str) -> list[str]:
        """Return the names in a module's `__all__`."""
        for node in self.modules[module].body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                names: list[str] = ast.literal_eval(node.value)
                return names
        return []

    def definition(self, module: str, name: str) -> tuple[str, ast.stmt] | None:
        """Find where a name is defined, through the imports that lead there."""
        if module not in self.modules:
            return None
        for node in _top_level(self.modules[module]):
            if name in _defined(node):
                return module, node
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self.definition(node.module, alias.name)
        return None

    def keys(self, mapping: ast.expr, module: str) -> set[str]:
        """Read the keys of a mapping that is given with `**`; `...` for those that code makes."""
        if isinstance(mapping, ast.Dict):
            found: set[str] = set()
            for key, value in zip(mapping.keys, mapping.values, strict=True):
                if key is None:
                    found |= self.keys(value, module)
                else:
                    found.add(str(key.value) if isinstance(key, ast.Constant) else "...")
            return found
        if isinstance(mapping, ast.Call) and ast.unparse(mapping.func) == "dict":
            return {one.arg or "..." for one in mapping.keywords}
        if isinstance(mapping, ast.Constant) and mapping.value is None:
            return set()
        behind = self._behind(mapping, module)
        return set().union(*(self.keys(value, at) for at, value in behind)) or {"..."}

    def _behind(self, mapping: ast.expr, module: str) -> list[tuple[str, ast.expr]]:
        """Return what a mapping is made of: both sides, what a function returns, an assignment."""
        match mapping:
            case ast.BinOp():
                return [(module, mapping.left), (module, mapping.right)]
            case ast.IfExp():
                return [(module, mapping.body), (module, mapping.orelse)]
            case ast.Call(func=ast.Name(id=name)):
                at = self.definition(module, name)
                return _returned(*at) if at and isinstance(at[1], Function) else []
            case ast.Call(func=ast.Attribute(attr=name)) if len(self.functions[name]) == 1:
                return _returned(*self.functions[name][0])
            case ast.Name(id=name):
                return [
                    (module, node.value)
                    for node in self.nodes[module]
                    if isinstance(node, ast.stmt) and name in _defined(node)
                    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
                ]
            case _:
                return []


def _defined(node: ast.stmt) -> list[str]:
    """Return the names that a statement defines."""
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return [node.name]
        case ast.Assign():
            return [ast.unparse(target) for target in node.targets]
        case ast.AnnAssign():
            return [ast.unparse(node.target)]
        case _:
            return []


def _returned(module: str, function: ast.AST) -> list[tuple[str, ast.expr]]:
    returns = [node for node in ast.walk(function) if isinstance(node, ast.Return)]
    return [(module, node.value) for node in returns if node.value is not None]


def _top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield a module's statements, those below `if TYPE_CHECKING:` too."""
    for node in tree.body:
        if isinstance(node, ast.If):
            yield from node.body
        else:
            yield node
