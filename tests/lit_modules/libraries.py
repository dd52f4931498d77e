"""A planted library for the tests of article 2: books of equal subjects are borrowed together."""

from collections.abc import Iterator

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor


def planted_library(books: int = 120, subjects: int = 12, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """p(i, j) (books, books), float64, and the subject of each book (books,).

    Popularity is U^2 + 0.02, and 85 % of second books are of the first one's subject.
    """
    generator = torch.Generator().manual_seed(seed)
    subject = torch.arange(books) * subjects // books
    popularity = torch.rand(books, generator=generator, dtype=torch.float64).square() + 0.02
    other = popularity.repeat(books, 1)
    other.fill_diagonal_(0)
    same = subject[:, None] == subject
    within, across = other * same, other * ~same
    second = 0.85 * within / within.sum(1, keepdim=True) + 0.15 * across / across.sum(1, keepdim=True)
    return popularity[:, None] / popularity.sum() * second, subject


def conditional_entropy(p: Tensor) -> Tensor:
    """H(J|I) (scalar, nats) of p(i, j) (N, N), whose sum may be any."""
    row = p.sum(1, keepdim=True)
    return -torch.special.xlogy(p, p / row.clamp(min=1e-300)).sum() / p.sum()


def pair_batch(p: Tensor) -> dict[str, Tensor]:
    """p(i, j) (N, N) as one pair batch."""
    center, context = p.nonzero(as_tuple=True)
    weight = p[center, context]
    return {
        "center": center,
        "context": context,
        "weight": weight.float(),
        "entropy": conditional_entropy(p).float(),
    }


class InOrder:
    """A loader of the given batches. Lightning would take a list for several loaders."""

    def __init__(self, batches: list[dict[str, Tensor]]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return iter(self._batches)


class Library(LightningDataModule):
    """The planted library, or any p(i, j), as pair batches of complete rows.

    Args:
        p: (N, N).
        batch_size: centers in a batch; None for all.
        steps: batches in an epoch where each holds all.
        rank: this process, which gets its share of each batch's centers.
        world_size: number of processes.
    """

    def __init__(
        self, p: Tensor, batch_size: int | None = None, *, steps: int = 1, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__()
        self.p, self.steps = p, steps
        self.items = [f"book {number:03}" for number in range(len(p))]
        self.counts = p.sum(dim=1)
        self.pairs = pair_batch(p)
        rows = torch.arange(len(p)).split(batch_size or len(p))
        self._rows = [part.chunk(world_size)[rank] for part in rows]

    def _batches(self) -> list[dict[str, Tensor]]:
        kept = [torch.zeros_like(self.p).index_copy(0, rows, self.p[rows]) for rows in self._rows]
        return [pair_batch(part) for part in kept]

    def train_dataloader(self) -> InOrder:
        return InOrder(self._batches() * self.steps)

    def val_dataloader(self) -> InOrder:
        return InOrder(self._batches())

    def test_dataloader(self) -> InOrder:
        return InOrder(self._batches())

    def predict_dataloader(self) -> InOrder:
        return InOrder(self._batches())


class Text(LightningDataModule):
    """A few sentences of 20 words that follow each other in a circle, as token batches."""

    def __init__(self) -> None:
        super().__init__()
        self.items = [f"word {number}" for number in range(20)]
        self.counts = torch.ones(20, dtype=torch.float64)
        walk = torch.randint(0, 3, (400,), generator=torch.Generator().manual_seed(0)).cumsum(0) % 20
        self.batch = {"tokens": walk, "sentences": torch.arange(400) // 25, "by_distance": torch.tensor([1.0, 0.5])}

    def train_dataloader(self) -> InOrder:
        return InOrder([self.batch] * 5)

    def val_dataloader(self) -> InOrder:
        return InOrder([self.batch])
