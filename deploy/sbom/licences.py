"""The licences of a bill of materials, as a table: `make sbom` runs it on what a worker has.

Usage: python deploy/sbom/licences.py sbom/worker.cdx.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["licence_of", "table"]

_NOT_STATED = "not stated"


def licence_of(component: Mapping[str, Any]) -> str:
    """Return a component's licence: by SPDX where it states that, else in its own words."""
    by_spdx: list[str] = []
    in_words: list[str] = []
    for stated in component.get("licenses") or ():
        licence = stated.get("license", {})
        if found := stated.get("expression") or licence.get("id"):
            by_spdx.append(found)
        elif name := licence.get("name"):
            in_words.append(name.rpartition("::")[2].strip())
    return " AND ".join(by_spdx or in_words) or _NOT_STATED


def table(bill: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table in Markdown: name, version, licence."""
    yield "| package | version | licence |"
    yield "|---|---|---|"
    for component in sorted(bill["components"], key=lambda one: one["name"].lower()):
        yield f"| {component['name']} | {component['version']} | {licence_of(component)} |"


if __name__ == "__main__":
    sys.stdout.write("\n".join(table(json.loads(Path(sys.argv[1]).read_text("utf-8")))) + "\n")
