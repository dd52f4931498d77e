"""How far the neighbors in a map of points are neighbors in truth."""

from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
from torch import Tensor

from callbacks.item_evaluation import ItemEvaluation
from callbacks.items import required, subset


class Trustworthiness(ItemEvaluation):
    """Logs val/trustworthiness, scikit-learn's, of the vectors as a map of the datamodule's `points`, (N, D).

    It is 1 if the nearest neighbors of each vector are among the nearest ones of its point; those that are not count
    by how far away they are (Venna and Kaski, Neighborhood preservation in nonlinear projection methods, 2001).

    Args:
        n_neighbors: number of neighbors.
        num_points: number of points, at most, that are compared; drawn once and for all. The work is quadratic.
        seed: of that draw.

    Raises:
        ValueError: an argument is out of its range, or (at a validation) there are not enough points, or no points.
    """

    def __init__(self, n_neighbors: int = 10, num_points: int = 2000, seed: int = 0) -> None:
        if n_neighbors < 1 or num_points <= 2 * n_neighbors:
            raise ValueError(
                "n_neighbors must be at least 1 and num_points more than twice that,"
                f" got {n_neighbors} and {num_points}"
            )
        self.n_neighbors = n_neighbors
        self.num_points = num_points
        self.seed = seed

    def measure(self, trainer: pl.Trainer, items: list[str], vectors: Tensor) -> dict[str, float]:
        """The one value."""
        from sklearn.manifold import trustworthiness

        points = np.asarray(required(trainer, "points", self))
        if len(points) != len(items):
            raise ValueError(f"the datamodule's points are {len(points)}, the module's items {len(items)}")
        if len(items) <= 2 * self.n_neighbors:
            raise ValueError(f"{self.n_neighbors} neighbors take more than twice as many points, got {len(items)}")
        some = subset(len(items), self.num_points, self.seed)
        value = trustworthiness(points[some], vectors.cpu().numpy()[some], n_neighbors=self.n_neighbors)
        return {"trustworthiness": float(value)}
