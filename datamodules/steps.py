"""Data that says nothing but how many steps there are: for modules that bring what they train on themselves."""

import torch
from lightning.pytorch import LightningDataModule

from datamodules.loading import ShardedSampler, TensorLoader, rank_and_world_size


class StepsDataModule(LightningDataModule):
    """Batches that hold their own number, (1,) int64, and a single batch to validate on.

    Each process gets numbers of its own, as many as one process alone would.

    Args:
        steps_per_epoch: training batches in an epoch.

    Raises:
        ValueError: not even one.
    """

    def __init__(self, steps_per_epoch: int = 100) -> None:
        super().__init__()
        if steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch={steps_per_epoch} must be at least 1")
        self.steps_per_epoch = steps_per_epoch

    def train_dataloader(self) -> TensorLoader:
        """Returns the numbered batches of an epoch."""
        return _numbers(self.steps_per_epoch)

    def val_dataloader(self) -> TensorLoader:
        """Returns a single batch."""
        return _numbers(1)

    def test_dataloader(self) -> TensorLoader:
        """Returns a single batch."""
        return _numbers(1)

    def predict_dataloader(self) -> TensorLoader:
        """Returns a single batch."""
        return _numbers(1)


def _numbers(batches: int) -> TensorLoader:
    _, world_size = rank_and_world_size()
    sampler = ShardedSampler(batches * world_size, 1, shuffle=False)
    return TensorLoader((torch.arange(batches * world_size),), sampler)
