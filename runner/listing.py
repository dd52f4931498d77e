"""`run.py list`: everything that has a short name, and the plugins that cannot be imported."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from rich.table import Table

from runner.errors import nearest
from runner.plugins import GROUPS, PluginError, registered
from runner.shipped import shipped
from runner.tables import table_console

KINDS = (*GROUPS, "configs")


def main(arguments: list[str]) -> int:
    """Prints one kind, or all.

    Args:
        arguments: `["list"]` or `["list", kind]`.

    Returns:
        0; 2 for a kind that does not exist.
    """
    wanted = [argument for argument in arguments[1:] if argument != "--debug"]
    if wanted in (["-h"], ["--help"]):
        print(f"usage: run.py list [{' | '.join(KINDS)}]")
        return 0
    if unknown := [kind for kind in wanted if kind not in KINDS]:
        print(f"error: list knows no {unknown[0]!r}.{nearest(unknown[0], KINDS)}", file=sys.stderr)
        return 2
    for kind in wanted or KINDS:
        table_console().print(_configs() if kind == "configs" else _plugins(kind))
    return 0


def _plugins(kind: str) -> Table:
    table = Table("name", "from", "what", title=kind, title_justify="left")
    if not registered(kind):
        table.add_row("none", "", "")
    for plugin in registered(kind):
        try:
            what = (inspect.getdoc(plugin.load()) or "").split("\n")[0]
        except PluginError as error:
            what = f"[red]not usable:[/red] {error}"
        table.add_row(plugin.name, plugin.distribution, what)
    return table


def _configs() -> Table:
    table = Table("config", "what", title="configs", title_justify="left")
    for path in sorted(shipped("configs").glob("*.yaml")):
        table.add_row(f"configs/{path.name}", _first_comment(path))
    return table


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
