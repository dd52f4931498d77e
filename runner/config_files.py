"""Configuration files: where they are found, and from where they are refused."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from runner.errors import UserError, nearest
from runner.shipped import shipped


def find_config(argument: str) -> str:
    """Replaces the name of a shipped config by its path where the current folder has no such file.

    Args:
        argument: any argument of the command line; `configs/x.yaml`, `x.yaml` and `--config=x.yaml` are looked at.
    """
    option, equals, path = argument.rpartition("=")
    if not path.endswith((".yaml", ".yml")) or Path(path).exists():
        return argument
    found = here_or_shipped(Path(path), "configs")
    return argument if found is None else f"{option}{equals}{found}"


def here_or_shipped(path: Path, kind: str) -> Path | None:
    """The path if it exists, else the shipped file that it names, if any.

    Args:
        path: of a file.
        kind: "configs" or "sweeps".
    """
    if path.exists():
        return path
    candidate = shipped(kind) / path.name
    return candidate if path.parent in (Path("."), Path(kind)) and candidate.is_file() else None


def find_file(path: Path, kind: str, what: str) -> Path:
    """The same of a file that has to be there.

    Args:
        path: of a file.
        kind: "configs" or "sweeps".
        what: the error calls it.

    Raises:
        UserError: there is none.
    """
    found = here_or_shipped(path, kind)
    if found is not None and found.is_file():
        return found
    files = [*path.parent.glob("*.y*ml"), *shipped(kind).glob("*.yaml")]
    raise UserError(f"there is no {what} {path}.{nearest(path.name, [file.name for file in files])}")


def named_configs(arguments: Sequence[str]) -> list[Path]:
    """The configuration files among the arguments that exist."""
    paths = [Path(argument.rpartition("=")[2]) for argument in arguments]
    return [path for path in paths if path.suffix in (".yaml", ".yml", ".json") and path.is_file()]


def refuse_urls(arguments: Sequence[str]) -> None:
    """Refuses configs from the network.

    Raises:
        UserError: a config is an address. Configs name classes to build: they are code.
    """
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        address = value if option in ("-c", "--config") else option.partition("--config=")[2]
        if re.match(r"[a-z0-9+]+://", address, re.IGNORECASE):
            raise UserError(f"--config {address}: configs run code and are not read from addresses; save the file.")


def as_typed(arguments: Sequence[str]) -> str:
    """The command line to show to the user: `litspaces ...` if that was typed, `python run.py ...` otherwise."""
    program = ["litspaces"] if Path(sys.argv[0]).stem == "litspaces" else ["python", "run.py"]
    return shlex.join([*program, *arguments])
