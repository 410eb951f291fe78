"""What an import path of the settings names, beside the graphs: `module:name`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from redrive.errors import SettingsError

__all__ = ["imported"]


def imported(path: str, *, what: str) -> object:
    """Return what `module:name` names; a module of the working directory is found as well.

    Raises:
        SettingsError: There is no such thing; the message begins with `what`.
    """
    module, _, name = path.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        # As for graphs: a module beside the settings is found.
        sys.path.append(here)
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"{what}: {path!r} does not exist ({error}): write it as module:name"
        ) from error
