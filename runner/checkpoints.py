"""Checkpoints of a run: `checkpoints/last.ckpt`, always whole and exact, and the best one by a metric."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from runner.exact_resume import ExactResume
from runner.run_folder import CHECKPOINTS, LAST


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its name, then renames: a kill at any moment leaves the old file or the new one.

    Lightning's own transaction writes to the system's temporary folder, and where that is another file system
    (often) the last step is a copy, which a kill cuts in two.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Saves `checkpoint` at `path`; remote addresses (`s3://...`) go Lightning's way."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.part")
        with temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)


class RunCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/last.ckpt` of the run's folder, and the best checkpoint by `monitor`.

    Args:
        monitor: logged name of the metric that decides which checkpoint is the best; none: only the last is kept.
        mode: whether a small or a large value is good.
        every_n_steps: how often last.ckpt is written, in optimizer steps; also after each validation and at the end.
    """

    def __init__(
        self, monitor: str | None = None, mode: Literal["min", "max"] = "min", every_n_steps: int = 100
    ) -> None:
        if every_n_steps < 1:
            raise ValueError(f"checkpoint.every_n_steps must be at least 1, not {every_n_steps}.")
        super().__init__(
            filename="best-{step}",
            monitor=monitor,
            mode=mode,
            save_top_k=1 if monitor else 0,
            every_n_epochs=1,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self.every_n_steps = every_n_steps

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds the run's folder, the same on all ranks.

        Raises:
            ValueError: the strategy would write folders, which nothing else here reads.
        """
        if getattr(trainer.strategy, "_save_distributed_checkpoint", False):
            raise ValueError("a run's checkpoints are files: set trainer.strategy.save_distributed_checkpoint to false")
        self.dirpath = str(Path(trainer.log_dir or trainer.default_root_dir).resolve() / CHECKPOINTS)
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes last.ckpt at every n-th step and at the last one.

        The end of training is too late for the last one: by then the loops have closed an epoch that a longer run
        would go on with.
        """
        step = trainer.global_step
        if step % self.every_n_steps == 0 or step == trainer.max_steps:
            self.save_last_checkpoint(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the best checkpoint if this is it, then last.ckpt."""
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == "fit":
            self.save_last_checkpoint(trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores all of it; Lightning forgets the current score."""
        super().load_state_dict(state_dict)
        self.current_score = state_dict["current_score"]

    def save_last_checkpoint(self, trainer: Trainer) -> None:
        """Writes last.ckpt, if this is a moment that a run can go on from exactly (all ranks call this together)."""
        if trainer.sanity_checking or not _at_boundary(trainer):
            return
        assert self.dirpath is not None
        self.last_model_path = str(Path(self.dirpath).parent / LAST)
        trainer.save_checkpoint(self.last_model_path, weights_only=False)


def _at_boundary(trainer: Trainer) -> bool:
    return all(
        callback.at_boundary for callback in getattr(trainer, "callbacks", []) if isinstance(callback, ExactResume)
    )
