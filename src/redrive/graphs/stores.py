"""The store that a `langgraph.json` gives its graphs: one of yours, or one in memory."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from langgraph.store.base import BaseStore, IndexConfig
from langgraph.store.memory import InMemoryStore

from redrive.errors import SettingsError
from redrive.graphs.import_paths import import_file, import_target
from redrive.graphs.loading import called, factory_of

__all__ = ["StoreSource", "import_named", "memory_store"]


@dataclass(frozen=True, slots=True, eq=False)
class StoreSource:
    """Where the store is that `store.path` names; opened once for all graphs of the file.

    Args:
        path: As it is written there: `./file.py:attribute`, or `package.module:attribute`.
        root: The folder of the file.
    """

    path: str
    root: Path

    async def opened(self, stack: AsyncExitStack) -> BaseStore:
        """Take the store, call the function that makes it, or enter what it returns.

        Raises:
            SettingsError: There is no such thing, it raised, or it is no store.
        """
        what = "langgraph.json, its store"
        path = self.path
        if ":" not in path:
            # LangGraph writes a store in a module with a dot: package.module.attribute
            path = ":".join(path.rsplit(".", 1))
        found = import_named(path, root=self.root, what=what)
        if not isinstance(found, BaseStore):
            factory = factory_of(found, what=what, target=self.path, config=False)
            found = await called(factory, stack)
        if isinstance(found, BaseStore):
            return found
        raise SettingsError(
            f"{what}: {self.path} is a {type(found).__name__}: "
            "name a BaseStore, or a function that returns or yields one"
        )


def import_named(path: str, *, root: Path, what: str) -> object:
    """Return what `./file.py:attribute` or `package.module:attribute` names.

    Raises:
        SettingsError: There is no such thing.
    """
    place, _, attribute = path.rpartition(":")
    if "/" in place or place.endswith(".py"):
        return import_file((root / place).resolve(), attribute, root=root, what=what)
    return import_target(path, what=what)


def memory_store(index: Mapping[str, object] | None, *, root: Path) -> tuple[BaseStore, str | None]:
    """Make the store that LangGraph's own server has for development.

    Args:
        index: `store.index`: `embed`, `dims` and `fields`; None for a store that searches nothing.
        root: The folder of the `langgraph.json`.

    Returns:
        The store, and why it has no index where it was to have one.

    Raises:
        SettingsError: `embed` names a function that cannot be imported.
    """
    if not index:
        return InMemoryStore(), None
    embed = index.get("embed")
    if isinstance(embed, str) and ".py:" in embed:
        embed = import_named(embed, root=root, what="langgraph.json, store.index.embed")
    try:
        config = IndexConfig(**{**index, "embed": embed})  # type: ignore[typeddict-item]  # theirs
        return InMemoryStore(index=config), None
    except Exception as error:  # noqa: BLE001 - a provider's own, which wants a package or a key
        return InMemoryStore(), str(error).splitlines()[0]
