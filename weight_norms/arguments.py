"""Names and arguments of kinds, checked with the nearest right one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from typing import Any

import torch


def nearest(name: str, there: Iterable[str]) -> str:
    """Up to three of the names that are there and like ``name``; if none is, the first eight."""
    names = sorted(set(there) - {""})
    return ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:8])


def settings_of(kinds: dict[str, Any], kind: str, kind_args: dict[str, Any] | None) -> dict[str, Any]:
    """All arguments of a kind but the weight and its dimension, with their defaults.

    Args:
        kinds: class by name, made as ``cls(weight, dim, **arguments)``.
        kind: a name.
        kind_args: the arguments that are given.

    Raises:
        ValueError: there is no such kind, it has no such argument, or a value is out of its range.
    """
    if kind not in kinds:
        raise ValueError(f"unknown kind {kind!r}; the nearest: {nearest(kind, kinds)}")
    parameters = list(inspect.signature(kinds[kind]).parameters.values())[2:]
    defaults = {parameter.name: parameter.default for parameter in parameters}
    for name in kind_args or {}:
        if name not in defaults:
            has = f"it has {nearest(name, defaults)}" if defaults else "it has none"
            raise ValueError(f"kind {kind!r} has no argument {name!r} in kind_args; {has}")
    settings = defaults | (kind_args or {})
    try:
        with torch.random.fork_rng(devices=[]):
            kinds[kind](torch.ones(2, 2), 0, **settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"kind {kind!r}: {error}") from error
    return settings
