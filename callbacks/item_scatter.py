"""A picture of where the vectors of items lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from callbacks.items import item_labels, most_frequent, read_vectors
from callbacks.pictures import Pictures
from callbacks.plotting import add_legend, as_picture, as_written, scatter_by_label, writable
from callbacks.protocols import SupportsItemVectors, require

Floats = NDArray[np.floating[Any]]


class ItemScatter(Pictures):
    """Writes a scatter plot of the vectors of items, colored by the datamodule's `labels` if it has any.

    Vectors of dimension 2 and 3 are drawn as they are; of longer ones the two main components, and the title says so.
    `callbacks.pictures.Pictures` says where the pictures, "items", go.

    Args:
        num_points: number of items, at most: the most frequent ones, by the datamodule's `counts`.
        titles: how many of the most frequent items have their names beside them.
        every_n_steps: steps from one picture to the next; None draws one at the end of each validation.

    Raises:
        ValueError: an argument is out of its range, or (at the first picture) labels or counts are not those of the
            items.
    """

    def __init__(self, num_points: int = 5000, titles: int = 0, every_n_steps: int | None = None) -> None:
        super().__init__(every_n_steps)
        if num_points < 1 or titles < 0:
            raise ValueError(f"num_points must be at least 1 and titles at least 0, got {num_points} and {titles}")
        self.num_points = num_points
        self.titles = titles

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that the module has vectors."""
        require(pl_module, SupportsItemVectors, self)

    def draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Image.Image]:
        """The plot."""
        items, vectors = read_vectors(pl_module, self)
        rows = most_frequent(trainer, len(items), self.num_points)
        labeled = item_labels(trainer, len(items))
        labels, names = (labeled[0][rows], labeled[1]) if labeled else (None, [])
        # The components are those of all items: the picture doesn't turn with the choice of those drawn.
        points, title = plane(vectors.cpu().numpy())
        titles = [items[row] for row in rows[: self.titles]]
        return {"items": item_scatter(points[rows], labels, names, titles, title)}


def item_scatter(
    points: Floats, labels: NDArray[np.int64] | None, names: Sequence[str], titles: Sequence[str] = (), title: str = ""
) -> Image.Image:
    """A picture of points (N, 2) or (N, 3) with a legend; `titles` stand beside the first ones.

    Args:
        points: the points.
        labels: (N,), numbers of `names`; None if there are none.
        names: the labels' names.
        titles: names of the first points.
        title: stands above the plot.
    """
    figure = Figure(figsize=(8, 6), dpi=100, layout="constrained")
    axes: Any = figure.add_subplot(projection="3d" if points.shape[1] == 3 else None)
    scatter_by_label(axes, points, labels, names, size=30 if len(points) <= 200 else 6)
    for point, text in zip(points, writable(titles, "item"), strict=False):
        as_written(axes.text(*point, text, fontsize="small"))
    axes.set_aspect("equal", adjustable="datalim" if points.shape[1] == 2 else None)
    axes.set_title(title)
    add_legend(figure, axes)
    return as_picture(figure)


def plane(vectors: Floats) -> tuple[Floats, str]:
    """Vectors (N, d) as they are if d is 2 or 3, else their two main components; and what was done, if anything.

    Components point to where their largest entry is positive, so that pictures of one training don't flip.
    """
    dim = vectors.shape[1]
    if dim in (2, 3):
        return vectors, ""
    centered = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centered.T @ centered)
    axes = axes[:, :-3:-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    points = centered @ axes
    share = points.var(axis=0).sum() / max(centered.var(axis=0).sum(), np.finfo(np.float32).tiny)
    if dim == 1:
        points = np.concatenate([points, np.zeros_like(points)], axis=1)
    return points, f"two main components of {dim} ({share:.0%} of the variance)"
