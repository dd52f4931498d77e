"""A joint distribution p(i, j) of items, and batches of its pairs in which every row is complete.

"Row" is a center i with all its contexts j. A softmax over the contexts of i is compared with the whole of
p(. | i), so that a batch holds all pairs of a center or none.
"""

from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor

from datamodules.checks import at_least
from datamodules.loading import ResumableLoader, ShardedSampler, rank_and_world_size

PairBatch = dict[str, Tensor]
Part = Literal["train", "val"]


class PairDistribution:
    """p(i, j) over N items, sparse, in float64. Entropies are in nats.

    A cost whose f(i, j) is -log q(j | i) is S = H(J | I) + sum_i p(i) KL(p(. | i) || q(. | i)), so that no model gets
    below `conditional_entropy`; the model that knows only how frequent j is stands at `context_entropy`, and
    `mutual_information` lies between the two (article 2, "minimum entropy IV").

    Args:
        weights: (N, N), how much there is of each pair, up to a factor; an array, or a sparse array of scipy, which
            may name a pair more than once.

    Attributes:
        center: (M,) int64, the i of each of the M pairs with p(i, j) > 0; ascending.
        context: (M,) int64, their j, ascending in each row.
        weight: (M,) float64, their p(i, j); the sum is 1.
        centers: (R,) int64, the i that have pairs; ascending.

    Raises:
        ValueError: negative or non-finite weights, or none at all.
    """

    def __init__(self, weights: Any) -> None:
        import scipy.sparse

        table = scipy.sparse.csr_array(weights, dtype=np.float64, copy=True)
        table.sum_duplicates()
        table.eliminate_zeros()
        if not np.isfinite(table.data).all() or (table.data < 0).any():
            raise ValueError("weights of pairs have to be finite and at least 0")
        if not len(table.data):
            raise ValueError("there is not a single pair")
        self.num_items: int = table.shape[0]
        self._starts = table.indptr.astype(np.int64)
        self.center = np.repeat(np.arange(self.num_items), np.diff(self._starts))
        self.context: NDArray[np.int64] = table.indices.astype(np.int64)
        self.weight: NDArray[np.float64] = table.data / table.data.sum()
        self.centers = np.flatnonzero(np.diff(self._starts))

    def __len__(self) -> int:
        """Number of pairs M."""
        return len(self.weight)

    @cached_property
    def center_marginal(self) -> NDArray[np.float64]:
        """p(i), (N,)."""
        return _sums(self.center, self.weight, self.num_items)

    @cached_property
    def context_marginal(self) -> NDArray[np.float64]:
        """p(j), (N,)."""
        return _sums(self.context, self.weight, self.num_items)

    @cached_property
    def conditional(self) -> NDArray[np.float64]:
        """p(j | i) of each pair, (M,)."""
        return self.weight / self.center_marginal[self.center]

    @cached_property
    def row_entropy(self) -> NDArray[np.float64]:
        """The part p(i) H(J | I = i) of each center in H(J | I), (N,)."""
        return _sums(self.center, -self.weight * np.log(self.conditional), self.num_items)

    @property
    def conditional_entropy(self) -> float:
        """H(J | I): the least that the cost can be."""
        return float(self.row_entropy.sum())

    @property
    def context_entropy(self) -> float:
        """H(J): the cost of the best model that does not look at i."""
        seen = self.context_marginal[self.context_marginal > 0]
        return float(-(seen * np.log(seen)).sum())

    @property
    def mutual_information(self) -> float:
        """H(J) - H(J | I): the most that looking at i can win."""
        return self.context_entropy - self.conditional_entropy

    def batch(self, centers: NDArray[np.int64], rank: int = 0, world_size: int = 1) -> PairBatch:
        """Returns all pairs of some centers, or one process's share of them.

        The shares are cut from the rows in their order so that all weigh the same; a row across a cut goes to both
        sides, complete, with its weight divided. So each process has sum w f / sum w over its share, and the mean
        over processes, which is what DDP makes of gradients, is sum w f / sum w over all rows.

        Args:
            centers: (R,), each with at least one pair.
            rank: number of the share.
            world_size: how many shares there are.

        Returns:
            "center" and "context", (B,) int64; "weight", (B,) float32, the p(i, j); and "entropy", () float32, the
            mean of -log p(j | i) by weight.
        """
        part = np.ones(len(centers))
        if world_size > 1:
            centers, part = self._share(centers, rank, world_size)
        starts, lengths = self._starts[centers], self._starts[centers + 1] - self._starts[centers]
        skipped = starts - np.concatenate(([0], np.cumsum(lengths)[:-1]))
        pairs = np.repeat(skipped, lengths) + np.arange(lengths.sum())
        entropy = (part @ self.row_entropy[centers]) / (part @ self.center_marginal[centers])
        return {
            "center": torch.from_numpy(np.repeat(centers, lengths)),
            "context": torch.from_numpy(self.context[pairs]),
            "weight": torch.from_numpy((self.weight[pairs] * np.repeat(part, lengths)).astype(np.float32)),
            "entropy": torch.tensor(entropy, dtype=torch.float32),
        }

    def _share(
        self, centers: NDArray[np.int64], rank: int, world_size: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Returns the centers of a share and which part of each one's weight belongs to it."""
        ends = np.cumsum(self.center_marginal[centers])
        ends /= ends[-1]
        starts = np.concatenate(([0.0], ends[:-1]))
        overlap = np.minimum(ends, (rank + 1) / world_size) - np.maximum(starts, rank / world_size)
        part = overlap / (ends - starts)
        # Rounding at a cut leaves crumbs of rows, which would cost as much as rows.
        inside = part > 1e-9
        return centers[inside], part[inside]


class PairLoader(ResumableLoader):
    """Batches of complete rows; see `PairDistribution.batch` for what is in them and for several processes.

    Args:
        distribution: p(i, j).
        batch_size: centers in a batch of one process; None for all rows in each batch.
        batches: how often all rows come in an epoch, if all are in each batch.
        seed: seed of the order of the centers.
        shuffle: whether each epoch has an order of its own.
    """

    def __init__(
        self,
        distribution: PairDistribution,
        *,
        batch_size: int | None = None,
        batches: int = 1,
        seed: int = 0,
        shuffle: bool = False,
    ) -> None:
        self._distribution = distribution
        self._share = rank_and_world_size()
        self._whole = batch_size is None
        # One process's view: a global batch is cut by weight afterwards.
        size, rows = (batches, 1) if batch_size is None else (len(distribution.centers), batch_size * self._share[1])
        shuffle = shuffle and not self._whole
        super().__init__(ShardedSampler(size, rows, seed=seed, shuffle=shuffle, drop_last=False, rank=0, world_size=1))

    @cached_property
    def whole(self) -> PairBatch:
        """This process's share of all rows: one object, however often it is asked for."""
        return self._distribution.batch(self._distribution.centers, *self._share)

    def _load(self, start: int) -> Iterator[Any]:
        for rows in self.sampler.batches(start):
            centers = self._distribution.centers
            yield self.whole if self._whole else self._distribution.batch(centers[rows.numpy()], *self._share)


class PairDataModule(LightningDataModule):
    """What DataModules of pairs have in common: loaders, and attributes that are there after `setup`.

    Args:
        batch_size: centers in a batch of one process; None for all rows in each batch.
        steps_per_epoch: training batches in an epoch if each holds all rows.
        seed: seed of the order of the centers.

    Attributes:
        items: names of the N items in the order of their numbers.
        counts: (N,) float64, how often each item comes up.
        labels: (N,) int64, the class of each item, -1 where it is not known; None where there are no classes.
        label_names: names of the classes.

    Raises:
        ValueError: numbers below 1.
    """

    def __init__(self, *, batch_size: int | None, steps_per_epoch: int, seed: int) -> None:
        super().__init__()
        at_least("batch_size", batch_size, 1)
        at_least("steps_per_epoch", steps_per_epoch, 1)
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.items: list[str] = []
        self.counts = torch.zeros(0, dtype=torch.float64)
        self.labels: Tensor | None = None
        self.label_names: list[str] = []
        self._distributions: dict[Part, PairDistribution] = {}
        self._kept: tuple[Tensor, PairBatch] | None = None

    @abstractmethod
    def build(self) -> dict[Part, PairDistribution]:
        """Reads the data, sets the attributes, and returns p(i, j) to train and, if there is one, to validate on."""

    def setup(self, stage: str) -> None:
        """Builds the distributions at the first call."""
        if not self._distributions:
            self._distributions = self.build()

    @property
    def distribution(self) -> PairDistribution:
        """p(i, j) to train on."""
        self.setup("fit")
        return self._distributions["train"]

    @cached_property
    def pairs(self) -> PairBatch:
        """All pairs to train on as one batch."""
        return self.distribution.batch(self.distribution.centers)

    def train_dataloader(self) -> PairLoader:
        """Returns batches of complete rows."""
        overfit = getattr(self.trainer, "overfit_batches", 0) > 0
        return self._loader("train", batches=self.steps_per_epoch, shuffle=not overfit)

    def val_dataloader(self) -> PairLoader | list[PairLoader]:
        """Returns each pair to validate on once; an empty list where there are none."""
        self.setup("fit")
        return self._loader("val") if "val" in self._distributions else []

    def test_dataloader(self) -> PairLoader | list[PairLoader]:
        """Returns the validation pairs."""
        return self.val_dataloader()

    def predict_dataloader(self) -> PairLoader | list[PairLoader]:
        """Returns the validation pairs."""
        return self.val_dataloader()

    def transfer_batch_to_device(self, batch: PairBatch, device: torch.device, dataloader_idx: int) -> PairBatch:
        """Copies a batch that is the same at each step to the device only once."""
        if self.batch_size is not None or self.trainer is None or not self.trainer.training:
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        if self._kept is None or self._kept[0] is not batch["center"] or self._kept[1]["center"].device != device:
            self._kept = batch["center"], super().transfer_batch_to_device(batch, device, dataloader_idx)
        return self._kept[1]

    def _loader(self, part: Part, *, batches: int = 1, shuffle: bool = False) -> PairLoader:
        self.setup("fit")
        return PairLoader(
            self._distributions[part], batch_size=self.batch_size, batches=batches, seed=self.seed, shuffle=shuffle
        )


def _sums(numbers: NDArray[np.int64], values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Returns the sum of the values of each number, (size,)."""
    return np.bincount(numbers, values, size).astype(np.float64, copy=False)
