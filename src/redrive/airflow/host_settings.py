"""The settings `security.*` of the host that a task runs on: by the variables that a worker has.

Not from the connection: whoever edits connections would choose what code runs here. No Airflow in
here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import BaseModel, Field, ValidationError

from redrive.errors import SettingsError
from redrive.security_settings import SecuritySettings
from redrive.settings_sources import PREFIX, Problem, from_environment

__all__ = ["host_security"]

_TABLE = f"{PREFIX}SECURITY"


class _OfHost(BaseModel):
    security: SecuritySettings = Field(default_factory=SecuritySettings)


def host_security(environ: Mapping[str, str] = os.environ) -> SecuritySettings:
    """Return the settings that `REDRIVE_SECURITY__…` variables say.

    Raises:
        SettingsError: One of them cannot be used.
    """
    ours = {name: text for name, text in environ.items() if name.startswith(_TABLE)}
    tree: dict[str, object] = {}
    for item in from_environment(ours, _OfHost):
        if isinstance(item, Problem):
            raise SettingsError(item.text)
        table = tree
        for name in item.path[:-1]:
            inner = table.setdefault(name, {})
            assert isinstance(inner, dict)  # noqa: S101 - the schema says which keys are tables
            table = inner
        table[item.path[-1]] = item.value
    try:
        return _OfHost.model_validate(tree).security
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise SettingsError(f"{key}, by variables {_TABLE}__…: {first['msg']}") from None
