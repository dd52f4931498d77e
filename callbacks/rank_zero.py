"""Work that one process does for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import lightning.pytorch as pl

from callbacks.non_finite_guard import NonFiniteError

T = TypeVar("T")


def on_rank_zero(trainer: pl.Trainer, work: Callable[[], T]) -> T | None:
    """What `work` gives, on rank 0; None on the others, which wait for it.

    Raises:
        ValueError, NonFiniteError: on all ranks, where `work` raises it. One process that stopped alone would leave
            the others waiting for it.
    """
    result: T | None = None
    refusal: Exception | None = None
    if trainer.is_global_zero:
        try:
            result = work()
        except (ValueError, NonFiniteError) as error:
            refusal = error
    told = trainer.strategy.broadcast(None if refusal is None else (type(refusal), str(refusal)))
    if refusal is not None:
        raise refusal
    if told is not None:
        kind, message = told
        raise (NonFiniteError if issubclass(kind, NonFiniteError) else ValueError)(message)
    return result
