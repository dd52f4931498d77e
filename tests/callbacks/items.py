"""A module with vectors of items and a datamodule that knows the items, for the tests of what judges them."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.callbacks.modules import quiet_trainer


class Vectors(pl.LightningModule):
    """The vectors that it is given; training moves none of them."""

    def __init__(self, items: list[str], vectors: Tensor) -> None:
        super().__init__()
        self.items = items
        self.table = nn.Parameter(vectors.clone())

    def item_vectors(self) -> tuple[list[str], Tensor]:
        return self.items, self.table.detach()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return 0 * self.table.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Catalogue(pl.LightningDataModule):
    """Two batches of nothing, and what is known of the items."""

    def __init__(self, **known: Any) -> None:
        super().__init__()
        for name, value in known.items():
            setattr(self, name, value)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(torch.zeros(4, 1)), batch_size=2)

    val_dataloader = train_dataloader


def random_vectors(number: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(seed))


def validate(
    folder: Path, callback: Callback, items: list[str], vectors: Tensor, data: pl.LightningDataModule | None = None
) -> dict[str, float]:
    """What a validation of these vectors logs."""
    trainer = quiet_trainer(default_root_dir=folder, callbacks=[callback])
    (logged,) = trainer.validate(Vectors(items, vectors), data or Catalogue(), verbose=False) or [{}]
    return dict(logged)
