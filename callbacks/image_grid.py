"""Pictures of what a generator makes of the same latent vectors as it trains."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from callbacks.images import check_value_range
from callbacks.pictures import Pictures
from callbacks.protocols import SupportsSampleFrom, require

_GAP = 1  # pixels between two images


class ImageGrid(Pictures):
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
        super().__init__(every_n_steps, seed)
        if min(rows, columns) < 1:
            raise ValueError(f"rows and columns must be at least 1, got {rows} and {columns}")
        check_value_range(value_range)
        self.rows = rows
        self.columns = columns
        self.value_range = value_range

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that the module decodes latent rows."""
        require(pl_module, SupportsSampleFrom, self)

    def draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Image.Image]:
        """The grid, as "samples"."""
        module: SupportsSampleFrom = require(pl_module, SupportsSampleFrom, self)
        images = module.decode(module.latents(self.rows * self.columns))
        return {"samples": tile(images, self.columns, self.value_range)}


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
