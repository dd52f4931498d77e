"""What all callbacks share that draw: when to draw, with which weights, and where the pictures go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch import Callback
from PIL import Image

from callbacks.ema import averaged_weights
from callbacks.rank_zero import on_rank_zero
from callbacks.sampling import evaluating, forked_rng
from callbacks.tables import run_folder, write_whole


class Pictures(Callback, ABC):
    """Draws after each validation or every so many steps; a subclass says what.

    The pictures are made in evaluation mode, with the averaged weights if there is an
    `ExponentialMovingAverage`, on rank 0 only, and leave no trace in the module or in the random state.

    Files: `media/KEY-step=0000123.png` in the trainer's `log_dir` (or `default_root_dir`), numbered by
    `trainer.global_step`. Loggers: those with a `log_image(key, images, step)`, as W&B's, or an experiment
    with `add_image`, as TensorBoard's.

    Args:
        every_n_steps: steps from one picture to the next; None draws one at the end of each validation.
        seed: seed of the random state under which is drawn, the same at every step.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, every_n_steps: int | None = None, seed: int = 0) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.seed = seed
        self._global_step = 0

    @abstractmethod
    def draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Image.Image]:
        """The pictures of this step by their keys; called on rank 0 only.

        Raises:
            ValueError: what there is cannot be drawn; all ranks raise it.
        """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count from where the run stands: a resumed one doesn't start at 0."""
        self._global_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw if the step has passed a multiple of `every_n_steps`."""
        before, self._global_step = self._global_step, trainer.global_step
        if self.every_n_steps and before // self.every_n_steps < self._global_step // self.every_n_steps:
            with averaged_weights(trainer, pl_module):
                self._publish(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw after a validation, while averaged weights are still in place."""
        if self.every_n_steps is None and not trainer.sanity_checking:
            self._publish(trainer, pl_module)

    def _publish(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        folder = run_folder(trainer) / "media"
        for key, picture in self._drawn(trainer, pl_module).items():
            path = folder / f"{key}-step={trainer.global_step:07d}.png"
            write_whole(path, partial(picture.save, format="PNG"))
            for logger in trainer.loggers:
                _log(logger, key, picture, trainer.global_step)

    def _drawn(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Image.Image]:
        """The pictures on rank 0, none on the others."""

        def draw() -> dict[str, Image.Image]:
            with evaluating(pl_module), forked_rng(pl_module.device, self.seed):
                return self.draw(trainer, pl_module)

        return on_rank_zero(trainer, draw) or {}


def validation_batches(trainer: pl.Trainer) -> Iterator[Any]:
    """This process's batches of the first validation loader, from the first one on, on the module's device.

    They are read anew and not kept from a validation, so that they are there from the first step on, also in
    a resumed run. There are none as long as the trainer has no validation loaders.
    """
    loaders = trainer.val_dataloaders
    for batch in (loaders[0] if isinstance(loaders, list) else loaders) or ():
        # Runs the datamodule's transfer hooks, such as a normalization on the device.
        yield trainer.strategy.batch_to_device(batch)


def _log(logger: Any, key: str, picture: Image.Image, step: int) -> None:
    # W&B's logger takes the step as a value of its own axis and so never drops a picture for coming late.
    if hasattr(logger, "log_image"):
        logger.log_image(key=key, images=[picture], step=step)
    elif hasattr(getattr(logger, "experiment", None), "add_image"):
        pixels = np.asarray(picture.convert("RGB"))
        logger.experiment.add_image(key, pixels, global_step=step, dataformats="HWC")
