"""Pictures of what an autoencoder makes of validation images, and of what lies between their codes."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from PIL import Image
from torch import Tensor

from callbacks.image_grid import tile
from callbacks.images import batch_images, check_value_range
from callbacks.pictures import Pictures, validation_batches
from callbacks.protocols import SupportsDecoding, SupportsEncoding, require


class ReconstructionGrid(Pictures):
    """Writes reconstructions of the first validation images and interpolations between their codes.

    "reconstructions" shows the first 2 * `pairs` images in two rows, each with its images' decoded codes below it.
    "interpolations" has one row for each column of it: the decoded straight line, in equal steps, from the
    code of its first original to the code of its second one, both ends included.

    The images are the first ones of process 0, the same at every step; with fewer of them there are fewer
    pairs. With `every_n_steps`, pictures start when the trainer has its validation loaders: at once in most
    runs. `callbacks.pictures.Pictures` says where the pictures go.

    Args:
        pairs: pairs of validation images.
        steps: images of an interpolation.
        every_n_steps: steps from one picture to the next; None draws one at the end of each validation.
        value_range: the pixel values that are shown black and white.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        pairs: int = 8,
        steps: int = 8,
        every_n_steps: int | None = None,
        value_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        super().__init__(every_n_steps)
        if pairs < 1 or steps < 2:
            raise ValueError(f"pairs must be at least 1 and steps at least 2, got {pairs} and {steps}")
        check_value_range(value_range)
        self.pairs = pairs
        self.steps = steps
        self.value_range = value_range

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that the module encodes and decodes."""
        require(pl_module, SupportsEncoding, self)
        require(pl_module, SupportsDecoding, self)

    def draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Image.Image]:
        """Both pictures; none where there are fewer than two validation images."""
        images = self._first_images(trainer)
        pairs = len(images) // 2
        if pairs == 0:
            return {}
        encoder: SupportsEncoding = require(pl_module, SupportsEncoding, self)
        decoder: SupportsDecoding = require(pl_module, SupportsDecoding, self)
        codes = encoder.encode(images)
        rows = zip(images.split(pairs), decoder.decode(codes).split(pairs), strict=True)
        reconstructions = torch.cat([part for row in rows for part in row])
        return {
            "reconstructions": tile(reconstructions, pairs, self.value_range),
            "interpolations": tile(decoder.decode(self._between(codes)), self.steps, self.value_range),
        }

    def _first_images(self, trainer: pl.Trainer) -> Tensor:
        """The first validation images, an even number of up to 2 * `pairs`."""
        found: list[Tensor] = []
        for batch in validation_batches(trainer):
            found += batch_images(batch, self)
            if len(found) >= 2 * self.pairs:
                break
        count = min(len(found) // 2, self.pairs) * 2
        return torch.stack(found[:count]) if count else torch.empty(0)

    def _between(self, codes: Tensor) -> Tensor:
        """Codes (pairs * steps, d) on the lines from the first half of codes (2 * pairs, d) to the second."""
        start, end = codes.chunk(2)
        share = torch.linspace(0, 1, self.steps, device=codes.device, dtype=codes.dtype).view(-1, 1)
        return torch.lerp(start[:, None], end[:, None], share).flatten(0, 1)
