"""From an import path to what it names: a graph, a function, an error. Needs no LangGraph."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from redrive.errors import SettingsError

__all__ = ["first_line", "import_file", "import_function", "import_target", "importable"]


def importable(folder: Path) -> None:
    """Let modules of `folder` be imported, before others of the same name."""
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

    A module's name is stored with the checkpoints of its types; so it is the path below `root`.

    Raises:
        SettingsError: The file or the attribute is missing, or the module's name is taken.
    """
    target = f"{path}:{attribute}"
    if not path.is_file():
        raise SettingsError(f"{what}: there is no file {str(path)!r}: mend the path in {root}")
    folder = root if path.is_relative_to(root) else path.parent
    importable(folder)
    parts = path.relative_to(folder).with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        raise SettingsError(
            f"{what}: {'/'.join(parts)!r} cannot be imported: "
            "name its folders and the file with letters, digits and underscores"
        )
    module = _module(".".join(parts), what=what, target=target)
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != path.resolve():
        raise SettingsError(
            f"{what}: the module name {'.'.join(parts)!r} is taken by {found}: rename {str(path)!r}"
        )
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


def _module(name: str, *, what: str, target: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise SettingsError(
                f"{what}: there is no module {name!r} ({target}): "
                "start in the folder that holds it, or install its package"
            ) from error
        raise SettingsError(
            f"{what}: {target} cannot be imported ({error}): install what it imports"
        ) from error
    except (Exception, SystemExit) as error:
        raise SettingsError(
            f"{what}: {target} raised while it was imported ({first_line(error)}): mend the module"
        ) from error


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
    """Return the error's class and the first line of its message."""
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
