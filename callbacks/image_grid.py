"""Pictures of what a generator makes of the same latent vectors as it trains."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from PIL import Image
from torch import Tensor

from callbacks.ema import ExponentialMovingAverage
from callbacks.protocols import SupportsSampleFrom, require
from callbacks.sampling import evaluating, forked_rng

_GAP = 1  # pixels between two images


class ImageGrid(Callback):
    """Writes a grid of decoded latent vectors as PNG and to every logger that takes images.

    The latent rows are `module.latents(rows * columns)` under a random state seeded by `seed` alone: the same
    at every step, in every run and after every resume (on one kind of device; a GPU draws other numbers than
    a CPU). The pictures are made in evaluation mode, with the averaged weights if there is an
    `ExponentialMovingAverage`, on rank 0 only, and leave no trace in the module or in the random state.

    Files: `media/samples-step=0000123.png` in the trainer's `log_dir` (or `default_root_dir`), numbered by
    `trainer.global_step`. Loggers: those with a `log_image(key, images, step)`, as W&B's, or an experiment
    with `add_image`, as TensorBoard's; the key is "samples".

    Args:
        rows: images from top to bottom.
        columns: images from left to right.
        every_n_steps: steps from one picture to the next; None draws one at the end of each validation.
        seed: seed of the latent rows.
        value_range: the pixel values that are shown black and white.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        rows: int = 8,
        columns: int = 8,
        every_n_steps: int | None = None,
        seed: int = 0,
        value_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        if min(rows, columns) < 1 or (every_n_steps is not None and every_n_steps < 1):
            raise ValueError(
                f"rows, columns and every_n_steps must be at least 1, got {rows}, {columns}, {every_n_steps}"
            )
        if not value_range[0] < value_range[1]:
            raise ValueError(f"value_range must be (low, high) with low < high, got {tuple(value_range)}")
        self.rows = rows
        self.columns = columns
        self.every_n_steps = every_n_steps
        self.seed = seed
        self.value_range = value_range
        self._global_step = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that the module decodes latent rows."""
        require(pl_module, SupportsSampleFrom, self)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count from where the run stands: a resumed one doesn't start at 0."""
        self._global_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw if the step has passed a multiple of `every_n_steps`."""
        before, self._global_step = self._global_step, trainer.global_step
        if self.every_n_steps and before // self.every_n_steps < self._global_step // self.every_n_steps:
            with ExitStack() as averaged:
                for callback in trainer.callbacks:  # type: ignore[attr-defined]
                    if isinstance(callback, ExponentialMovingAverage):
                        averaged.enter_context(callback.averaged_weights(pl_module))
                self._draw(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw after a validation, while averaged weights are still in place."""
        if self.every_n_steps is None and not trainer.sanity_checking:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # log_dir is broadcast from rank 0: all ranks have to ask for it.
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "media"
        if not trainer.is_global_zero:
            return
        module: SupportsSampleFrom = require(pl_module, SupportsSampleFrom, self)
        with evaluating(pl_module), forked_rng(pl_module.device, self.seed):
            images = module.decode(module.latents(self.rows * self.columns))
        picture = tile(images, self.columns, self.value_range)
        _save(picture, folder / f"samples-step={trainer.global_step:07d}.png")
        for logger in trainer.loggers:
            _log(logger, picture, trainer.global_step)


def tile(images: Tensor, columns: int, value_range: tuple[float, float] = (-1.0, 1.0)) -> Image.Image:
    """A picture of images (N, C, H, W), C = 1 or 3, row by row; N must be a multiple of `columns`.

    Values are clamped to `value_range`; NaN is shown as its lower end.

    Raises:
        ValueError: the images have another shape.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) % columns:
        raise ValueError(
            f"a grid of {columns} columns takes images (N, 1 or 3, H, W) with N a multiple of {columns},"
            f" got {tuple(images.shape)}"
        )
    low, high = value_range
    shades = ((images.float().nan_to_num(nan=low) - low) / (high - low)).clamp(0, 1)
    shades = F.pad(shades, (0, _GAP, 0, _GAP))
    _, C, H, W = shades.shape
    grid = shades.view(-1, columns, C, H, W).permute(0, 3, 1, 4, 2).reshape(-1, columns * W, C)
    pixels = (grid[:-_GAP, :-_GAP] * 255).round().to(torch.uint8).cpu().numpy()
    return Image.fromarray(pixels.squeeze(2) if C == 1 else pixels)


def _save(picture: Image.Image, path: Path) -> None:
    """Under another name first: nobody ever sees half a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".png.tmp")
    picture.save(unfinished, format="PNG")
    os.replace(unfinished, path)


def _log(logger: Any, picture: Image.Image, step: int) -> None:
    # W&B's logger takes the step as a value of its own axis and so never drops a picture for coming late.
    if hasattr(logger, "log_image"):
        logger.log_image(key="samples", images=[picture], step=step)
    elif hasattr(getattr(logger, "experiment", None), "add_image"):
        pixels = np.asarray(picture.convert("RGB"))
        logger.experiment.add_image("samples", pixels, global_step=step, dataformats="HWC")
