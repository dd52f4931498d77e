"""Whether the vectors of items lie in clusters as their labels say."""

from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
from torch import Tensor

from callbacks.item_evaluation import ItemEvaluation
from callbacks.items import item_labels, required, subset


class ClusterAgreement(ItemEvaluation):
    """Logs val/adjusted_rand and val/silhouette of the vectors and the datamodule's `labels`, such as subjects.

    The adjusted Rand index compares the labels with the clusters that k-means finds in the vectors, as many as there
    are labels: 1 if they are the same, 0 on average if they have nothing to do with each other. The silhouette takes
    the labels for clusters: near 1 if each lies far from the others, below 0 if they lie among one another.
    Distances are Euclidean.

    Args:
        num_points: number of items, at most, that are looked at; drawn once and for all. The work is quadratic.
        seed: of that draw and of k-means.

    Raises:
        ValueError: an argument is out of its range, or (at a validation) there are no labels, or only one, or as
            many as items.
    """

    def __init__(self, num_points: int = 2000, seed: int = 0) -> None:
        if num_points < 3:
            raise ValueError(f"num_points must be at least 3, got {num_points}")
        self.num_points = num_points
        self.seed = seed

    def measure(self, trainer: pl.Trainer, items: list[str], vectors: Tensor) -> dict[str, float]:
        """The two values."""
        from sklearn.cluster import KMeans
        from sklearn.metrics import adjusted_rand_score, silhouette_score

        required(trainer, "labels", self)
        labeled = item_labels(trainer, len(items))
        assert labeled is not None
        some = subset(len(items), self.num_points, self.seed)
        x, labels = vectors.cpu().double().numpy()[some], labeled[0][some]
        number = len(np.unique(labels))
        if not 2 <= number < len(labels):
            raise ValueError(f"ClusterAgreement needs at least 2 labels and fewer than items, got {number} of {len(x)}")
        clusters = KMeans(number, n_init=10, random_state=self.seed).fit_predict(x)
        return {
            "adjusted_rand": float(adjusted_rand_score(labels, clusters)),
            "silhouette": float(silhouette_score(x, labels)),
        }
