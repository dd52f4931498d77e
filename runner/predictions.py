"""What `predict` leaves behind: each batch's predictions as a file of the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from callbacks.prediction_lines import PredictionLines


class PredictionFiles(Callback):
    """Writes what `predict_step` returns to `predictions/batch-0000000.pt`, with the rank in a run of several.

    A batch at a time: memory does not grow with the data. A module whose `predict_step` returns nothing writes its
    own output. Where another callback writes the predictions, `PredictionLines` or any `BasePredictionWriter`, this
    one does nothing.
    """

    def __init__(self) -> None:
        self._folder = Path()
        self._others_write = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds the run's folder, the same on all ranks."""
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "predictions"
        others = (PredictionLines, BasePredictionWriter)
        self._others_write = any(isinstance(other, others) for other in trainer.callbacks)  # type: ignore[attr-defined]

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes one batch: tensors, and what else can be loaded with `weights_only=True`."""
        if outputs is None or self._others_write:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        rank = f"-rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        path = self._folder / f"batch-{batch_idx:07d}{rank}.pt"
        temporary = path.with_suffix(".part")
        torch.save(outputs, temporary)
        temporary.replace(path)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says where they are."""
        if trainer.is_global_zero and self._folder.exists():
            print(f"predictions  {self._folder}")
