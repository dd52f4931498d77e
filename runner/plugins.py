"""Short names for classes, by entry points: the project's own and those of third-party packages alike.

A package that declares, say, `[project.entry-points."litspaces.callbacks"] Confetti = "party:Confetti"` has
`Confetti` in configs and in `run.py list` as soon as it is installed. Nothing is imported before a config names
it, and nothing joins a Trainer without being named (with Lightning's own group `callbacks_factory` it does).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUPS = {
    "modules": "litspaces.lit_modules",
    "datamodules": "litspaces.datamodules",
    "callbacks": "litspaces.callbacks",
    "optimizers": "litspaces.optimizers",
}


class PluginError(Exception):
    """A registered class that cannot be imported; the message names it, its package and the reason."""


@dataclass(frozen=True)
class Plugin:
    """One registered class: its short `name`, its `kind` (a key of GROUPS) and where it lives."""

    name: str
    kind: str
    entry_point: EntryPoint

    @property
    def class_path(self) -> str:
        """The dotted path by which a config could name it in full."""
        return self.entry_point.value.replace(":", ".")

    @property
    def distribution(self) -> str:
        """The installed package that registered it."""
        return self.entry_point.dist.name if self.entry_point.dist else "unknown package"

    def load(self) -> Any:
        """Imports the class.

        Raises:
            PluginError: whatever went wrong in the import, since it is code that is not ours; or the class has another
                name, by which alone jsonargparse would find it.
        """
        where = f"{self.name} ({self.class_path}, from {self.distribution})"
        try:
            found = self.entry_point.load()
        except Exception as error:
            raise PluginError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
        if not inspect.isclass(found) or found.__name__ != self.name:
            raise PluginError(f"{where} is not a class of that name: its entry point should have the class's own.")
        return found


@cache
def registered(kind: str) -> tuple[Plugin, ...]:
    """All plugins of one kind, sorted by name; one that two metadata folders declare alike counts once."""
    found = {(point.name, point.value): point for point in entry_points(group=GROUPS[kind])}
    return tuple(Plugin(name, kind, point) for (name, _), point in sorted(found.items()))


def all_registered() -> tuple[Plugin, ...]:
    """The plugins of all kinds."""
    return tuple(plugin for kind in GROUPS for plugin in registered(kind))


def import_named(texts: Iterable[str]) -> dict[str, PluginError]:
    """Imports the registered classes whose short names stand in `texts` (configs and arguments).

    jsonargparse finds a class by its short name only among those that are imported. Only what is named is
    imported, so that no run pays for, or fails with, a plugin that it does not use.

    Returns:
        The plugins that could not be imported, by short name.
    """
    words = {word for text in texts for word in re.findall(r"[A-Za-z_]\w*", text)}
    failures: dict[str, PluginError] = {}
    for plugin in all_registered():
        if plugin.name in words:
            try:
                plugin.load()
            except PluginError as error:
                failures[plugin.name] = error
    return failures
