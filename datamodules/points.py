"""Points of the plane from mixtures of Gaussians: toy densities whose modes can be counted."""

import math
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from datamodules.loading import ShardedSampler, TensorLoader, random_generator


class PointsDataModule(LightningDataModule):
    """Batches (points, labels): points (B, 2) float32 and the number of each point's mode, (B,) int64.

    The mixtures of article 1's literature, as PacGAN (arXiv 1712.04086, section 4.1) sets them: 25 modes at
    {-4, -2, 0, 2, 4}² with standard deviation 0.05, or 8 modes on the unit circle with standard deviation 0.01, all
    of the same weight; also one standard Gaussian. A sample is usually counted as good within 3 `std` of a mode.

    Args:
        distribution: "grid25", "ring8" or "gaussian".
        num_points: number of training points.
        num_val_points: number of validation points; they are drawn like the others.
        std: standard deviation of a mode before scaling; None for the published one.
        scale: factor on all coordinates.
        batch_size: points in a batch of one process.
        seed: seed of the points and of their order.

    Attributes:
        centers: the modes, (K, 2), scaled.
        std: standard deviation of a mode, scaled.
    """

    def __init__(
        self,
        distribution: Literal["grid25", "ring8", "gaussian"] = "grid25",
        *,
        num_points: int = 100_000,
        num_val_points: int = 10_000,
        std: float | None = None,
        scale: float = 1.0,
        batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if distribution not in _MIXTURES:
            raise ValueError(f"distribution is {distribution!r}, but has to be {' or '.join(_MIXTURES)}")
        centers, published_std = _MIXTURES[distribution]
        self.centers = torch.tensor(centers) * scale
        self.std = (published_std if std is None else std) * scale
        self.batch_size = batch_size
        self.seed = seed
        self._sizes = {"train": num_points, "val": num_val_points}
        self._tensors: dict[str, tuple[Tensor, Tensor]] = {}

    def setup(self, stage: str) -> None:
        """Draws the points."""
        self._tensors = {part: self._draw(part, size) for part, size in self._sizes.items()}

    def train_dataloader(self) -> TensorLoader:
        """Returns shuffled batches, all of the same size."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> TensorLoader:
        """Returns the validation points in order."""
        return self._loader("val", shuffle=False)

    def test_dataloader(self) -> TensorLoader:
        """Returns the validation points in order."""
        return self._loader("val", shuffle=False)

    def predict_dataloader(self) -> TensorLoader:
        """Returns the validation points in order."""
        return self._loader("val", shuffle=False)

    def _draw(self, part: str, size: int) -> tuple[Tensor, Tensor]:
        generator = random_generator(self.seed, "points", part)
        labels = torch.randint(len(self.centers), (size,), generator=generator)
        return self.centers[labels] + self.std * torch.randn(size, 2, generator=generator), labels

    def _loader(self, part: str, *, shuffle: bool) -> TensorLoader:
        if not self._tensors:
            self.setup("fit")
        sampler = ShardedSampler(self._sizes[part], self.batch_size, seed=self.seed, shuffle=shuffle, drop_last=shuffle)
        return TensorLoader(self._tensors[part], sampler)


_AXIS = (-4.0, -2.0, 0.0, 2.0, 4.0)
_MIXTURES: dict[str, tuple[Any, float]] = {
    "grid25": ([(x, y) for x in _AXIS for y in _AXIS], 0.05),
    "ring8": ([(math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)) for k in range(8)], 0.01),
    "gaussian": ([(0.0, 0.0)], 1.0),
}
