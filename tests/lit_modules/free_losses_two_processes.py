"""Train on free losses on one or two CPU processes. Run by test_free_losses_distributed.py.

Usage: python tests/lit_modules/free_losses_two_processes.py FOLDER DEVICES CASE
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_modules import FreeformAutoencoder, FreeformClassifier
from tests.lit_modules.test_free_losses import Free
from tests.lit_modules.test_recomputed_losses import Blocks, step, with_reentry, without_reentry
from tests.processes import LeaveTogether, trainer_of

SMALL: dict[str, Any] = {"image_size": 8, "hidden_dim": 6, "optimizer": "SGD", "learning_rate": 0.1}
CASES = ("free", "reentrant", "recomputed", "accumulated", "autoencoder", "classifier")


class Shard:
    """Global batches of 8 (samples, labels), of which each rank gets its contiguous part; the last one has 4."""

    def __init__(self, samples: Tensor, rank: int, world_size: int) -> None:
        labels = torch.arange(len(samples)) % 10
        batches = zip(samples.split(8), labels.split(8), strict=True)
        self.parts = [tuple(part.chunk(world_size)[rank] for part in batch) for batch in batches]

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Any:
        return iter(self.parts)


def model_of(case: str, rank: int) -> Any:
    if case == "autoencoder":
        return FreeformAutoencoder(**SMALL)
    if case == "classifier":
        return FreeformClassifier(**SMALL, feature_dim=2, center_loss_weight=0.1)
    model = Free(step)
    if case in ("reentrant", "recomputed"):
        model.net = Blocks(with_reentry if case == "reentrant" else without_reentry)
    if case == "unequal" and rank == 1:
        model.step = lambda module, x: module.add_metric("only here", 1.0) or step(module, x)
    return model


def train(case: str, devices: int, folder: Path) -> None:
    torch.manual_seed(0)
    trainer = trainer_of(
        devices,
        accumulate_grad_batches=2 if case == "accumulated" else 1,
        max_steps=4,
        val_check_interval=4,
        max_epochs=-1,
        callbacks=[LeaveTogether()],
    )
    model: nn.Module = model_of(case, trainer.global_rank)
    samples = torch.rand(68, 1, 8, 8) if case in ("autoencoder", "classifier") else torch.randn(68, 2)
    training = Shard(samples[:64], trainer.global_rank, devices)
    trainer.fit(model, training, Shard(samples, trainer.global_rank, devices))
    result = {"state": model.state_dict(), "logged": dict(trainer.callback_metrics)}
    torch.save(result, folder / f"{case}-{devices}-{trainer.global_rank}.pt")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    train(sys.argv[3], int(sys.argv[2]), Path(sys.argv[1]))
