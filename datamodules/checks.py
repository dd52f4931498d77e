"""Checks of arguments whose messages name the argument and the nearest right value."""

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns "; did you mean ...?" with the known word that is nearest to `word`, or nothing where none is near."""
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), folded, n=1)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Raises ValueError unless `value` is one of the allowed ones."""
    if value not in allowed:
        hint = nearest(str(value), map(str, allowed))
        raise ValueError(f"{name} is {value!r}, but has to be {' or '.join(map(repr, allowed))}{hint}")


def at_least(name: str, value: float | None, least: float) -> None:
    """Raises ValueError where `value` is below `least`; None passes."""
    if value is not None and value < least:
        raise ValueError(f"{name} is {value}, but has to be at least {least}")
