"""The smallest module and data with everything that makes a resume inexact: dropout, noise, shuffling, momentum.

And a discriminator that mixes samples.
"""

import time

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn

from datamodules.loading import ShardedSampler, TensorLoader


class ToyModule(LightningModule):
    """A linear map with dropout and noise.

    Args:
        width: outputs.
        lr: learning rate of Adam.
        bad_step: the step whose loss is NaN; -1 for none.
        step_seconds: how long a training step sleeps, so that a test can interrupt it.
        validation_seconds: how long a validation step sleeps.
    """

    def __init__(
        self,
        width: int = 3,
        lr: float = 0.1,
        bad_step: int = -1,
        step_seconds: float = 0.0,
        validation_seconds: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.linear = nn.Linear(3, width)
        self.dropout = nn.Dropout(0.3)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        time.sleep(self.hparams["step_seconds"])
        loss = self.dropout(self.linear(batch[0])).pow(2).mean() + torch.randn(()) * 0.01
        if self.global_step == self.hparams["bad_step"]:
            loss = loss * float("nan")
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        time.sleep(self.hparams["validation_seconds"])
        self.log("val/loss", self.linear(batch[0]).pow(2).mean() + torch.randn(()), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.hparams["lr"])


class MixingDiscriminator(nn.Module):
    """Scores (B,) of points (B, 2) that depend on the other points of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.score = nn.BatchNorm1d(2), nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2) to (B,)."""
        return self.score(self.norm(x)).squeeze(1)


class ToyData(LightningDataModule):
    """24 points in 3 dimensions, 6 batches of 4 an epoch, 2 batches of validation."""

    def train_dataloader(self) -> TensorLoader:
        return _loader(24, shuffle=True)

    def val_dataloader(self) -> TensorLoader:
        return _loader(8, shuffle=False)


def _loader(size: int, *, shuffle: bool) -> TensorLoader:
    points = torch.randn(size, 3, generator=torch.Generator().manual_seed(size))
    return TensorLoader((points, torch.zeros(size)), ShardedSampler(size, 4, seed=0, shuffle=shuffle))
