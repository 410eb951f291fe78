"""From an import path to what it names: a graph, a function, an error. Needs no LangGraph."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from redrive.errors import SettingsError

__all__ = ["first_line", "import_file", "import_function", "import_target", "importable"]


def importable(*folders: Path) -> None:
    """Let modules of these folders be imported, the first folder first, and before all others."""
    for folder in reversed(folders):
        text = str(folder.resolve())
        if text not in sys.path:
            sys.path.insert(0, text)


def import_target(target: str, *, what: str) -> object:
    """Return what `package.module:attribute` names.

    Raises:
        SettingsError: There is no such thing; the message begins with `what`.
    """
    module_name, colon, attribute = target.partition(":")
    if not (colon and module_name and attribute):
        raise SettingsError(
            f"{what}: {target!r} is not an import path: write it as package.module:attribute"
        )
    return _attribute(_module(module_name, what=what, target=target), attribute, what, target)


def import_file(path: Path, attribute: str, *, root: Path, what: str) -> object:
    """Return an attribute of a Python file, imported under a name that other processes find too.

    A module's name is stored with the checkpoints of its types. So it is the path below `root`,
    with dots; where that name means another module, or cannot be one, it is made of the name of
    `root` and the path, and only the file itself has it.

    Raises:
        SettingsError: The file or the attribute is missing, or it cannot be imported.
    """
    target = f"{path}:{attribute}"
    if not path.is_file():
        raise SettingsError(f"{what}: there is no file {str(path)!r}: correct the path in {root}")
    folder = root if path.is_relative_to(root) else path.parent
    importable(folder)
    parts = path.relative_to(folder).with_suffix("").parts
    name = ".".join(parts)
    with _importing(name, what=what, target=target):
        can_be_named = not any("." in part for part in parts)
        if can_be_named and _leads_to(name, path):
            module = importlib.import_module(name)
        else:
            module = _module_of(path, root=root, what=what)
    return _attribute(module, attribute, what, target)


def import_function(target: str, *, what: str) -> Callable[..., object]:
    """Return the function that `package.module:attribute` names.

    Raises:
        SettingsError: There is none.
    """
    found = import_target(target, what=what)
    if not callable(found):
        raise SettingsError(
            f"{what}: {target!r} is a {type(found).__name__}, which cannot be called: "
            "name a function"
        )
    return found


def _module(name: str, *, what: str, target: str) -> ModuleType:
    with _importing(name, what=what, target=target):
        return importlib.import_module(name)


@contextmanager
def _importing(name: str, *, what: str, target: str) -> Iterator[None]:
    """Turn whatever an import raises into a line that says what to do."""
    try:
        yield
    except SettingsError:
        raise
    except ModuleNotFoundError as error:
        if _is_part(error.name, of=name):
            raise SettingsError(
                f"{what}: there is no module {name!r} ({target}): "
                "start in the folder that holds it, or install its package"
            ) from error
        raise SettingsError(
            f"{what}: {target} cannot be imported ({error}): install what it imports"
        ) from error
    except (Exception, SystemExit) as error:
        raise SettingsError(
            f"{what}: {target} raised while it was imported ({first_line(error)}): fix the module"
        ) from error


def _is_part(missing: str | None, *, of: str) -> bool:
    return missing is not None and (of == missing or of.startswith(f"{missing}."))


def _leads_to(name: str, path: Path) -> bool:
    """Say whether the import of `name` gives this very file, and not another module.

    A package that is installed comes before a folder of the same name without an `__init__.py`.
    """
    loaded = sys.modules.get(name)
    if loaded is not None:
        return _is(getattr(loaded, "__file__", None), path)
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if _is_part(error.name, of=name):
            return False
        raise
    return spec is not None and _is(spec.origin, path)


def _is(file: str | None, path: Path) -> bool:
    return file is not None and Path(file).resolve() == path.resolve()


def _module_of(path: Path, *, root: Path, what: str) -> ModuleType:
    """Import a file under a name of its own."""
    name = f"{_in_a_name(root.name)}__{_in_a_name(os.path.relpath(path.with_suffix(''), root))}"
    loaded = sys.modules.get(name)
    if loaded is not None:
        if _is(loaded.__file__, path):
            return loaded
        raise SettingsError(
            f"{what}: the module name {name!r} is taken by {loaded.__file__}: rename {str(path)!r}"
        )
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SettingsError(
            f"{what}: {str(path)!r} is not a Python file: only graphs in Python can be run"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _in_a_name(text: str) -> str:
    return re.sub(r"\W+", "_", text)


def _attribute(module: object, attribute: str, what: str, target: str) -> object:
    found = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise SettingsError(
                f"{what}: {target} does not exist ({error}): name what the module holds"
            ) from error
    return found


def first_line(error: BaseException) -> str:
    """Return the error's class and the first line of its message; of a group, those inside."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(map(first_line, error.exceptions)))
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
