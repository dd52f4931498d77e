"""What cuts a line of text into tokens."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterable
from importlib import import_module
from types import ModuleType
from typing import Any

from datamodules.checks import nearest

Segmenter = Callable[[str], Iterable[str]]

_NAMED = ("whitespace", "chinese")


def find_segmenter(segmenter: str | Segmenter) -> Segmenter:
    """Returns the function that cuts a line into tokens.

    Args:
        segmenter: "whitespace"; "chinese" (rjieba: dictionary and hidden Markov model, at about 5 million characters
            a second); the import path of a function of one string, or of a class without arguments whose instances
            are such functions; or the function itself.

    Raises:
        ValueError: there is none of this name, or it cannot be called.
    """
    if not isinstance(segmenter, str):
        if not callable(segmenter):
            raise ValueError(f"segmenter is {segmenter!r}, but has to be a name, an import path or a function")
        return segmenter
    if segmenter == "whitespace":
        return str.split
    if segmenter == "chinese":
        # A dictionary that takes a moment to load, and that few need.
        import rjieba

        return rjieba.cut
    found = getattr(*_locate(segmenter))
    if isinstance(found, type) and any("__call__" in vars(base) for base in found.__mro__):
        found = found()
    if not callable(found):
        raise ValueError(f"segmenter {segmenter!r} is no function, nor a class whose instances are")
    return found


def segmenter_key(segmenter: str | Segmenter) -> list[Any] | None:
    """Returns what a named segmenter's tokens hang on beside the text, JSON-plain; None for a function itself."""
    if not isinstance(segmenter, str):
        return None
    if segmenter == "whitespace":
        return [segmenter]
    if segmenter == "chinese":
        return [segmenter, importlib.metadata.version("rjieba")]
    module, _ = _locate(segmenter)
    if (path := getattr(module, "__file__", None)) is None:
        return [segmenter]
    status = os.stat(path)
    return [segmenter, status.st_size, status.st_mtime_ns]


def _locate(path: str) -> tuple[ModuleType, str]:
    """Returns the module of an import path, and the name in it."""
    module_name, _, name = path.rpartition(".")
    if not module_name:
        named = ", ".join(map(repr, _NAMED))
        raise ValueError(
            f"segmenter is {path!r}, but has to be {named} or an import path as package.function{nearest(path, _NAMED)}"
        )
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ValueError(f"segmenter {path!r} cannot be imported: {error}") from None
    if not hasattr(module, name):
        hint = nearest(name, vars(module))
        raise ValueError(f"segmenter {path!r} cannot be imported: {module_name} has no {name!r}{hint}")
    return module, name
