"""What all callbacks share that judge the vectors of items: when, on which process, and how values are logged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch import Callback
from torch import Tensor

from callbacks.items import read_vectors
from callbacks.protocols import SupportsItemVectors, require
from callbacks.rank_zero import on_rank_zero
from callbacks.tables import run_folder


class ItemEvaluation(Callback, ABC):
    """Judges the vectors of items after each validation; a subclass says how.

    The vectors are the module's `item_vectors()`, with the averaged weights if there is an
    `ExponentialMovingAverage`. Rank 0 does the work and tells the others; modes and random states stay as they are.
    Vectors with NaN or infinity stop the run.
    """

    folder = Path()

    @abstractmethod
    def measure(self, trainer: pl.Trainer, items: list[str], vectors: Tensor) -> dict[str, float]:
        """What is logged as val/NAME; called on rank 0 only, so without anything collective.

        Args:
            trainer: the trainer.
            items: the N items.
            vectors: (N, d) float32, on the module's device.

        Raises:
            ValueError: these items cannot be judged; all ranks raise it.
        """

    def check(self, items: list[str]) -> None:
        """Refuse, before anything is trained, items that cannot be judged.

        Raises:
            ValueError: as `measure` would.
        """
        return

    def shown(self, name: str) -> bool:
        """Whether the progress bar shows a value."""
        return True

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that the module has vectors."""
        require(pl_module, SupportsItemVectors, self)
        self.folder = run_folder(trainer)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the items, which the module knows by now."""
        on_rank_zero(trainer, lambda: self.check(read_vectors(pl_module, self)[0]))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge and log, while averaged weights are still in place."""
        if trainer.sanity_checking:
            return
        values = trainer.strategy.broadcast(on_rank_zero(trainer, partial(self._judge, trainer, pl_module)))
        assert values is not None
        for name, value in values.items():
            pl_module.log(f"val/{name}", value, prog_bar=self.shown(name), sync_dist=True, batch_size=1)

    def _judge(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, float]:
        items, vectors = read_vectors(pl_module, self)
        return self.measure(trainer, items, vectors)
