"""Tables of vectors for items with names, which are made when it is known what the items are."""

import difflib
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.functional import normalize

from lit_modules.parts.embedding_costs import Noise


class NamedVectors(LightningModule):
    """What a LightningModule of item vectors needs to know of its items.

    It learns them from a caller, from the datamodule's attributes ``items`` and ``counts``, or from a checkpoint, which
    holds both. Until then its tables are empty. Uses the hyper-parameters cost, dim, tied, initial_scale and
    noise_power.

    Attributes:
        items: names in the order of their numbers, None before they are known.
        counts: how often each occurs, (N,), float64, on the CPU.
        noise: the distribution of noise items that follows from it.
        centers: v (N, d).
        contexts: u (N, d), None if v is both.
    """

    items: list[str] | None = None
    counts: Tensor
    noise: Noise
    centers: nn.Embedding
    contexts: nn.Embedding | None

    def take_items(self, items: Sequence[str], counts: Sequence[float] | Tensor | None) -> None:
        """Make the tables for N items, or empty ones for none.

        Args:
            items: N names.
            counts: how often each occurs (N,); None for equally often.

        Raises:
            ValueError: counts of another number, or that are negative or all 0.
        """
        number, dim = len(items), self.hparams["dim"]
        scale = self.hparams["initial_scale"]
        tables = [torch.randn(number, dim) * scale for _ in range(1 if self.hparams["tied"] else 2)]
        embeddings = [nn.Embedding.from_pretrained(table, freeze=False) for table in tables]
        self.centers, self.contexts = embeddings[0], None if self.hparams["tied"] else embeddings[1]
        if number:
            self.items, self.counts = list(items), _checked_counts(counts, number)
            self.noise = Noise(self.counts, self.hparams["noise_power"])
            self._numbers = {item: row for row, item in enumerate(items)}

    def setup(self, stage: str) -> None:
        """Take the items from the datamodule, or see that they are the same."""
        datamodule = getattr(self.trainer, "datamodule", None)
        items = getattr(datamodule, "items", None)
        if items is not None and self.items is None:
            self.take_items(items, getattr(datamodule, "counts", None))
        elif items is not None and self.items is not None:
            _check_equal(self.items, items, "the datamodule")
        elif self.items is None:
            raise ValueError(
                f"{type(self).__name__} doesn't know its items: give it items, or a datamodule with the attribute"
                " items, as BorrowingDataModule has it"
            )
        pairs = getattr(datamodule, "pairs", None)
        if self.hparams["tied"] and pairs is not None and bool((pairs["center"] == pairs["context"]).any()):
            raise ValueError(
                "the data has pairs of an item with itself, which a shared table leaves out: set tied=False"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the items and how often each occurs."""
        if self.items is not None:
            checkpoint["library"] = {"items": self.items, "counts": self.counts}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the items, or see that they are the same."""
        saved = checkpoint.get("library")
        if saved is not None and self.items is None:
            self.take_items(saved["items"], saved["counts"])
        elif saved is not None and self.items is not None:
            _check_equal(self.items, saved["items"], "the checkpoint")

    # ---- The vectors ----

    def item_vectors(self) -> tuple[list[str], Tensor]:
        """The items and their vectors v (N, d), float32, which training goes on to change."""
        return self._known(), self.centers.weight.detach().float()

    def context_vectors(self) -> tuple[list[str], Tensor]:
        """The items and their vectors as contexts, u (N, d), float32; with one table v."""
        return self._known(), (self.contexts or self.centers).weight.detach().float()

    def _known(self) -> list[str]:
        if self.items is None:
            raise ValueError(f"{type(self).__name__} has no items yet: train it, load a checkpoint, or give it items")
        return self.items

    def vector(self, item: str) -> Tensor:
        """The vector (d,) of an item.

        Raises:
            KeyError: no such item, with the nearest one.
        """
        items, vectors = self.item_vectors()
        if item not in self._numbers:
            near = difflib.get_close_matches(item, items, n=1, cutoff=0.5)
            raise KeyError(f"no item {item!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return vectors[self._numbers[item]]

    def similarity(self, one: str, other: str) -> float:
        """The cosine of two items' vectors where the cost is an inner product, otherwise minus their distance."""
        return self._similarities(self.vector(one)[None], self.vector(other)).item()

    def most_similar(self, item: str, k: int = 10) -> list[tuple[str, float]]:
        """The ``k`` other items with the largest :meth:`similarity`, and this."""
        items, vectors = self.item_vectors()
        similarities = self._similarities(vectors, self.vector(item))
        similarities[self._numbers[item]] = -torch.inf
        values, rows = similarities.topk(min(k, len(items) - 1))
        return [(items[row], value) for row, value in zip(rows.tolist(), values.tolist(), strict=True)]

    def _similarities(self, vectors: Tensor, to: Tensor) -> Tensor:
        if self.hparams["cost"] == "dot":
            return normalize(vectors, dim=1) @ normalize(to, dim=0)
        return -torch.linalg.vector_norm(vectors - to, dim=1)


def _checked_counts(counts: Any, number: int) -> Tensor:
    counts = torch.ones(number) if counts is None else torch.as_tensor(counts)
    if counts.shape != (number,) or bool((counts < 0).any()) or not counts.sum() > 0:
        raise ValueError(f"counts must be {number} numbers, one an item, none negative and not all 0")
    return counts.to("cpu", torch.float64)


def _check_equal(own: Sequence[str], others: Sequence[str], whose: str) -> None:
    """Raise a ValueError that names the first item that differs."""
    for row, (mine, theirs) in enumerate(zip(own, others, strict=False)):
        if mine != theirs:
            raise ValueError(f"the model's item {row} is {mine!r}, that of {whose} is {theirs!r}: other data")
    if len(own) != len(others):
        raise ValueError(f"the model has {len(own)} items, {whose} has {len(others)}")
