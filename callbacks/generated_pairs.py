"""A table of questions and answers that a module writes about passages."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch import Callback

from callbacks.protocols import SupportsAsking, require
from callbacks.rank_zero import on_rank_zero
from callbacks.sampling import evaluating, forked_rng
from callbacks.tables import Cell, publish_table, run_folder

_COLUMNS = ("passage", "question", "answer", "score")


class GeneratedPairs(Callback):
    """Writes a table of generated questions and answers after each validation.

    A row has a passage, a question, its answer and its score; a passage of which nothing is asked has one row without
    them. The module writes with the averaged weights if there is an `ExponentialMovingAverage`, on rank 0 only, and
    its mode and the random state stay as they are. `callbacks.tables.publish_table` says where the table, "pairs",
    goes.

    Args:
        passages: about which the module writes; by default the first ones of the validation, on rank 0, of batches
            that have "records" with a `passage`, as PassageDataModule's.
        num_passages: number of passages where `passages` is None.
        n: number of pairs for each, at most.
        seed: of the random state, the same after each validation.

    Raises:
        ValueError: an argument is out of its range, or (after a validation) its batches have no passages.
        TypeError: (when training starts) the module cannot `ask`.
    """

    def __init__(self, passages: list[str] | None = None, num_passages: int = 8, n: int = 4, seed: int = 0) -> None:
        if num_passages < 1 or n < 1:
            raise ValueError(f"num_passages and n must be at least 1, got {num_passages} and {n}")
        if passages is not None and not passages:
            raise ValueError("passages must have one at least, or be null for those of the validation")
        self.passages = passages
        self.num_passages = num_passages
        self.n = n
        self.seed = seed
        self._seen: list[str] = []
        self._folder = Path()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that the module can ask."""
        require(pl_module, SupportsAsking, self)
        self._folder = run_folder(trainer)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the passages of an earlier validation."""
        self._seen = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note the first passages."""
        if self.passages is None and not dataloader_idx and len(self._seen) < self.num_passages:
            # Several questions may be asked about one.
            self._seen = list(dict.fromkeys([*self._seen, *_passages(batch)]))[: self.num_passages]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the table, while averaged weights are still in place."""
        if not trainer.sanity_checking:
            on_rank_zero(trainer, partial(self._publish, trainer, pl_module))

    def _publish(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        passages = self.passages or self._seen
        if not passages:
            raise ValueError("GeneratedPairs: the validation's batches have no records with a passage: name passages")
        asking: Any = pl_module
        with evaluating(pl_module), forked_rng(pl_module.device, self.seed):
            found = asking.ask(passages, n=self.n, seed=self.seed)
        table = [row for passage, pairs in zip(passages, found, strict=True) for row in _rows(passage, pairs)]
        publish_table(trainer, self._folder, "pairs", _COLUMNS, table)


def _passages(batch: Any) -> Iterable[str]:
    records = batch.get("records", ()) if isinstance(batch, dict) else ()
    return (record.passage for record in records if hasattr(record, "passage"))


def _rows(passage: str, pairs: Iterable[Any]) -> list[list[Cell]]:
    """Those of a passage."""
    rows: list[list[Cell]] = [[passage, pair.question, pair.answer, round(pair.score, 3)] for pair in pairs]
    return rows or [[passage, "", "", ""]]
