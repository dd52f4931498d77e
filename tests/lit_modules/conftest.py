"""A tiny Trainer and tiny data for the tests of lit_modules."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

QUIET = (
    # Lightning's own use of torch.
    "`isinstance.treespec, LeafSpec.` is deprecated",
    # Most tests leave these out.
    "You defined a `validation_step` but have no `val_dataloader`",
    # It means to save the state before the last step; we want the state after it.
    "Using ModelCheckpoint with manual optimization",
    "The number of training batches .* is smaller than the logging interval",
)


class Batches:
    """A loader of fixed batches: (samples (B, ...), labels (B,)), in order."""

    def __init__(self, samples: Tensor, batch_size: int) -> None:
        self.parts = samples.split(batch_size)

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for part in self.parts:
            yield part, torch.zeros(len(part), dtype=torch.int64)


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def batches() -> type[Batches]:
    return Batches


@pytest.fixture
def points() -> Tensor:
    """64 points (64, 2) on a ring."""
    angle = torch.linspace(0, 6.2, 64)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """A factory of silent CPU Trainers without logger and checkpoints unless asked for."""

    def make(**kwargs: Any) -> Trainer:
        # Here and not in the fixture, because pytest resets the filters between a fixture and its test.
        for message in QUIET:
            warnings.filterwarnings("ignore", message=message)
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": tmp_path,
        }
        return Trainer(**(defaults | kwargs))

    return make
