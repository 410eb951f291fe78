"""Whether what runs take and return leaves for LangSmith: said, as its own client would decide it.

Only the environment is read: nothing is asked over the network, and no client is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from redrive.telemetry.redactor import BUILT_IN

__all__ = ["Tracing", "tracing_in"]

# LangSmith's own is read first, then LangChain's of before; a blank one counts as none.
_NAMESPACES = ("LANGSMITH", "LANGCHAIN")
_DEFAULT_ENDPOINT = "https://api.smith.langchain.com"


@dataclass(frozen=True, slots=True)
class Tracing:
    """Runs are traced.

    Attributes:
        by: The variable that turned it on.
        to: The address to which they go.
        hidden: What stays behind: `inputs`, `outputs`.
    """

    by: str
    to: str
    hidden: tuple[str, ...]

    @property
    def leaves(self) -> str:
        """What leaves with each run."""
        shown = [part for part in ("inputs", "outputs") if part not in self.hidden]
        return ", ".join([*shown, "errors and metadata"])


def tracing_in(environ: Mapping[str, str]) -> Tracing | None:
    """Return where traces go with this environment, or None if there are none."""
    named = _named(environ, "TRACING_V2") or _named(environ, "TRACING")
    if named is None or environ[named] != "true":
        return None
    endpoint = _named(environ, "ENDPOINT")
    hidden = [
        part.lower()
        for part in ("INPUTS", "OUTPUTS")
        if (hides := _named(environ, f"HIDE_{part}")) and environ[hides] == "true"
    ]
    to = _DEFAULT_ENDPOINT if endpoint is None else environ[endpoint].strip()
    return Tracing(named, BUILT_IN.mask(to), tuple(hidden))


def _named(environ: Mapping[str, str], name: str) -> str | None:
    names = (f"{namespace}_{name}" for namespace in _NAMESPACES)
    return next((one for one in names if environ.get(one, "").strip()), None)
