"""A table of which items lie next to which."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch import Tensor

from callbacks.item_evaluation import ItemEvaluation
from callbacks.items import Metric, all_similarities, check_metric, most_frequent, nearest_name
from callbacks.tables import Cell, publish_table


class NearestItems(ItemEvaluation):
    """Writes a table of the nearest neighbors of some items after each validation.

    A row has the item and its neighbors, the nearest first, each with its cosine or distance.
    `callbacks.tables.publish_table` says where the table, "neighbors", goes.

    Args:
        items: whose neighbors; None for the most frequent ones.
        k: number of neighbors.
        num_items: number of rows where `items` is None.
        metric: what makes vectors near, a large "cosine" or a small "distance".

    Raises:
        ValueError: an argument is out of its range, or (when training starts) the module doesn't know an item; the
            message names the nearest one that it knows.
    """

    def __init__(
        self, items: list[str] | None = None, k: int = 8, num_items: int = 20, metric: Metric = "cosine"
    ) -> None:
        if k < 1 or num_items < 1:
            raise ValueError(f"k and num_items must be at least 1, got {k} and {num_items}")
        check_metric(metric)
        self.items = items
        self.k = k
        self.num_items = num_items
        self.metric = metric

    def check(self, items: list[str]) -> None:
        """Refuse to look for items that there are not."""
        for item in self.items or ():
            if item not in items:
                raise ValueError(f"NearestItems: the module has no item {item!r}{nearest_name(item, items)}")

    def measure(self, trainer: pl.Trainer, items: list[str], vectors: Tensor) -> dict[str, float]:
        """Publish the table; nothing is logged."""
        self.check(items)
        if self.items is None:
            rows = most_frequent(trainer, len(items), self.num_items)
        else:
            numbers = {item: number for number, item in enumerate(items)}
            rows = [numbers[item] for item in self.items]
        near, how = nearest(self.metric, vectors, torch.tensor(rows, device=vectors.device), self.k)
        table = [self._row(items, *row) for row in zip(rows, near.tolist(), how.tolist(), strict=True)]
        columns = ["item", *map(str, range(1, near.shape[1] + 1))]
        publish_table(trainer, self.folder, "neighbors", columns, table)
        return {}

    def _row(self, items: list[str], item: int, near: list[int], how: list[float]) -> list[Cell]:
        sign = 1 if self.metric == "cosine" else -1
        return [items[item], *(f"{items[i]} ({sign * value:.3g})" for i, value in zip(near, how, strict=True))]


def nearest(metric: Metric, vectors: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest other items (R, k), and how similar they are, of some rows (R,) of vectors (N, d).

    There are N - 1 of them if that is less than k.
    """
    similar = all_similarities(metric, vectors[rows], vectors)
    similar.scatter_(1, rows[:, None], -torch.inf)
    values, numbers = similar.topk(min(k, len(vectors) - 1), dim=1)
    return numbers, values
