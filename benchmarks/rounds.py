"""Timing contestants so that a machine whose speed drifts treats them alike."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import TypeVar

Measured = TypeVar("Measured")


def in_rounds(
    contestants: Mapping[str, Callable[[], Measured]], rounds: int, advance: Callable[[], object] = lambda: None
) -> dict[str, list[Measured]]:
    """What each contestant gives in each round; all take their turn in a round, and a first one warms up.

    Args:
        contestants: by name.
        rounds: that count.
        advance: called after each turn, those of the first round too.
    """
    results: dict[str, list[Measured]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, measure in contestants.items():
            # Trainers leave cycles behind, which no other contestant's time should hold.
            gc.collect()
            measured = measure()
            if number > 0:
                results[name].append(measured)
            advance()
    return results
