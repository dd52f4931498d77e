"""Precision and recall of generated samples by nearest neighbors in feature space."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

_DISTANCES_AT_ONCE = 2**24


class NearestNeighborPrecisionRecall(Metric):
    """Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991, equations 1 to 3).

    The manifold of a set of feature vectors is the union of balls, one around each vector, with the distance
    to its k-th nearest neighbor within the set as radius. Precision is the share of fake vectors in the real
    manifold (are the samples like the data?), recall the share of real vectors in the fake manifold (are all
    kinds of data among the samples?). Both are in [0, 1] and depend on the numbers of vectors: compare values
    taken at equal numbers only.

    Real vectors stay over `reset()`.

    Args:
        nearest_k: k; the paper takes 3.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, nearest_k: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if nearest_k < 1:
            raise ValueError(f"nearest_k must be at least 1, got {nearest_k}")
        self.nearest_k = nearest_k
        self.add_state("real", default=[], dist_reduce_fx="cat")
        self.add_state("fake", default=[], dist_reduce_fx="cat")

    def update(self, features: Tensor, real: bool) -> None:
        """Add feature vectors (B, F) of real images or of generated ones."""
        (self.real if real else self.fake).append(features)

    def compute(self) -> tuple[Tensor, Tensor]:
        """(precision, recall), two scalars in [0, 1].

        Raises:
            ValueError: one of the two sets has too few vectors to have a k-th nearest neighbor.
        """
        real, fake = dim_zero_cat(self.real), dim_zero_cat(self.fake)
        if min(len(real), len(fake)) <= self.nearest_k:
            raise ValueError(
                f"precision and recall with nearest_k={self.nearest_k} need more than {self.nearest_k} real"
                f" and fake images, got {len(real)} and {len(fake)}"
            )
        return _coverage(fake, real, self.nearest_k), _coverage(real, fake, self.nearest_k)

    def reset(self) -> None:
        """Forget the fake vectors."""
        real = list(self.real)  # the base class empties the list itself
        super().reset()
        self.real = real


def _coverage(points: Tensor, support: Tensor, nearest_k: int) -> Tensor:
    """Share of points (N, F) inside at least one of the balls around the support's vectors (M, F)."""
    radii = _radii(support, nearest_k)
    rows = max(1, _DISTANCES_AT_ONCE // len(support))
    inside = [(torch.cdist(part, support) <= radii).any(dim=1) for part in points.split(rows)]
    return torch.cat(inside).to(points.dtype).mean()


def _radii(support: Tensor, nearest_k: int) -> Tensor:
    """Distance (M,) from each vector (M, F) to its k-th nearest neighbor, itself not counted."""
    rows = max(1, _DISTANCES_AT_ONCE // len(support))
    radii = []
    for start in range(0, len(support), rows):
        distances = torch.cdist(support[start : start + rows], support)
        # Rounding makes a vector's distance to itself slightly positive: leave it out by place, not by value.
        distances.diagonal(start).fill_(torch.inf)
        radii.append(distances.kthvalue(nearest_k, dim=1).values)
    return torch.cat(radii)
