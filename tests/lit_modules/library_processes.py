"""Train LibraryEmbedding on CPU processes; saves the parameters of each rank. Run by test_library_embedding_slow.py.

Usage: python tests/lit_modules/library_processes.py FOLDER DEVICES
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from lit_modules import LibraryEmbedding
from tests.lit_modules.libraries import InOrder, Library, planted_library
from tests.processes import LeaveTogether, save_result, trainer_of

# The plain gradient shows every factor.
SGD: dict[str, Any] = {"optimizer": "SGD", "initial_scale": 0.5, "learning_rate": 0.5}
SKIP_GRAM: dict[str, Any] = {"cost": "dot", "tied": False, "normalizer": "negative"}
CASES: dict[str, dict[str, Any]] = {
    "library": SGD | {"cost": "library", "learning_rate": 0.05},
    "full": SGD | {"cost": "gaussian"},
    "sampled": SGD | {"cost": "student", "normalizer": "sampled", "shared_negatives": 7, "tied": False},
    "negative": SGD | {"cost": "gaussian", "normalizer": "negative", "shared_negatives": 7},
    "adam": {"cost": "dot", "tied": False},
    "dense": SGD | SKIP_GRAM,
    "text": SGD | SKIP_GRAM | {"learning_rate": 0.01, "shared_negatives": 3},
}


class Halves(LightningDataModule):
    """Text in batches of 64 words without sentences across the halves, of which each rank gets one."""

    def __init__(self, rank: int, world_size: int) -> None:
        super().__init__()
        self.items = [f"word {number}" for number in range(20)]
        self.counts = torch.ones(20)
        tokens = torch.randint(20, (6, 64), generator=torch.Generator().manual_seed(0))
        sentences, by_distance = torch.arange(64) // 16, torch.tensor([1.0, 0.6, 0.2])
        self.batches: list[dict[str, Tensor]] = [
            {"tokens": part, "sentences": sentences, "by_distance": by_distance} for part in tokens
        ]
        self.batches = [
            {name: values.chunk(world_size)[rank] for name, values in batch.items()} for batch in self.batches
        ]

    def train_dataloader(self) -> InOrder:
        return InOrder(self.batches)

    def val_dataloader(self) -> InOrder:
        return InOrder(self.batches)


def train(case: str, devices: int, folder: Path) -> None:
    torch.manual_seed(0)
    callbacks = [LeaveTogether()] if case == list(CASES)[-1] else []
    trainer = trainer_of(devices, max_epochs=3, callbacks=callbacks)
    model = LibraryEmbedding(**CASES[case])
    share = {"rank": trainer.global_rank, "world_size": devices}
    trainer.fit(model, Halves(**share) if case == "text" else Library(planted_library(24, 4)[0], 8, **share))
    save_result(trainer, model, folder, case)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for case in CASES:
        train(case, int(sys.argv[2]), Path(sys.argv[1]))
