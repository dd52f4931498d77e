"""Weight normalization in numbers: how far the article's spectral norm is off, and what each way leaves after training.

    python -m benchmarks.weight_norms

takes about a minute of one CPU core, prints its tables and writes docs/results/weight_normalization.md. `--quick` does
a little of everything and writes nothing.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn

from benchmarks.reporting import machine, markdown_table
from benchmarks.runs import bare_trainer, be_quiet
from callbacks import WeightConstraint, WeightNormalization
from datamodules import ImageDataModule
from weight_norms import KINDS, spectral_norm

REPORT = Path(__file__).resolve().parents[1] / "docs" / "results" / "weight_normalization.md"
SHAPES = [(10, 100), (64, 64), (128, 128), (256, 256), (100, 784), (128, 64, 5, 5)]
ON_GAMMA = WeightNormalization(classes=["BatchNorm1d"])
METHODS: dict[str, Callable[[], list[Callback]]] = {
    "none": list,
    "spectral, 1 iteration": lambda: [WeightNormalization(), ON_GAMMA],
    "spectral, 5 iterations": lambda: [WeightNormalization(kind_args={"n_power_iterations": 5}), ON_GAMMA],
    "spectral_article": lambda: [
        WeightNormalization("spectral_article", classes=["Linear", "BatchNorm1d"]),
    ],
    "constraint: spectral": lambda: [WeightConstraint("spectral", classes=["Linear", "BatchNorm1d"])],
}


class Classifier(LightningModule):
    """784 - 128, batch norm, ReLU - 128, ReLU - 10, of digits (B, 1, 28, 28); knows nothing of normalized weights."""

    def __init__(self, falling: bool) -> None:
        super().__init__()
        self.falling = falling
        self.network = nn.Sequential(
            *(nn.Flatten(), nn.Linear(784, 128), nn.BatchNorm1d(128), nn.ReLU()),
            *(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)),
        )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Accuracy."""
        right = self.network(batch[0]).argmax(1) == batch[1]
        self.log("val/accuracy", right.float().mean(), batch_size=len(right))

    def configure_optimizers(self) -> Any:
        """Adam at 0.002, or falling to 0 in a straight line."""
        optimizer = torch.optim.Adam(self.parameters(), 0.002)
        if not self.falling:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def too_small(shape: tuple[int, ...], matrices: int) -> list[float]:
    """By how many per cent of the largest singular value the article's is too small, for normal random weights."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(matrices):
        weight = torch.randn(shape, generator=generator)
        found.append(100 - 100 / spectral_norm(KINDS["spectral_article"](weight, 0)(weight)).item())
    return found


def random_table(matrices: int) -> str:
    """Random weights of several shapes."""
    rows = []
    for shape in SHAPES:
        short = too_small(shape, matrices)
        rows.append(["x".join(map(str, shape)), f"{statistics.mean(short):.1f}", f"{max(short):.1f}"])
    return markdown_table(["weight", "too small by, % (mean)", "% (worst)"], rows)


def train(callbacks: list[Callback], falling: bool, epochs: int) -> tuple[Classifier, float, float]:
    """The trained classifier in evaluation mode, its accuracy on held-out digits in %, milliseconds a step."""
    seed_everything(0, verbose=False)
    module = Classifier(falling)
    trainer = bare_trainer(callbacks, max_epochs=epochs, limit_val_batches=0)
    data = ImageDataModule("embedded", batch_size=64)
    start = time.process_time()
    trainer.fit(module, data)
    spent = 1000 * (time.process_time() - start) / trainer.global_step
    accuracy = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).validate(module, data, verbose=False)
    return module.eval(), 100 * accuracy[0]["val/accuracy"], spent


def trained_table(falling: bool, epochs: int) -> tuple[str, str]:
    """(table of the methods, sentence on batch norm's gamma)."""
    rows, gammas = [], ""
    for name, make in METHODS.items():
        module, accuracy, spent = train(make(), falling, epochs)
        layers: Any = module.network
        norms = [spectral_norm(layers[i].weight.detach()).item() for i in (1, 4, 6)]
        gamma = layers[2].weight.detach()
        largest = gamma.abs().max().item()
        numbers = [*(f"{norm:.4f}" for norm in norms), f"{largest:.4f}", f"{accuracy:.1f}", f"{spent:.1f}"]
        rows.append([name, *numbers])
        if name == "none":
            factor = (gamma.norm() / gamma.abs().max()).item()
            gammas = (
                "The article's rule divides batch norm's gamma by its Euclidean norm instead of its largest entry: for"
                f" {len(gamma)} channels {len(gamma) ** 0.5:.1f} times too much at the start, when all are 1, and"
                f" {factor:.1f} times after this training."
            )
    headings = ["method", "layer 1", "layer 2", "layer 3", "gamma", "accuracy, %", "ms a step"]
    return markdown_table(headings, rows), gammas


def main() -> None:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a little of everything; writes nothing")
    quick = parser.parse_args().quick
    be_quiet()
    matrices, epochs = (5, 1) if quick else (100, 10)
    constant, gammas = trained_table(False, epochs)
    falling, _ = trained_table(True, epochs)
    text = f"""# Weight normalization: measured

Written by `python -m benchmarks.weight_norms`; edits get lost.

Measured {datetime.date.today()} on {machine()}.

## The article's spectral norm

5 power iterations from a vector of ones, {matrices} normal random weights of each shape, against the SVD.

{random_table(matrices)}

{gammas}

## After training

Largest singular value of each dense layer's weight in use (by SVD) and largest entry of batch norm's gamma, after
{epochs} epochs on 4,500 digits; accuracy on 500 others; CPU time. Seed 0. With a constant learning rate:

{constant}

With a learning rate that falls to 0:

{falling}
"""
    print(text)
    if not quick:
        REPORT.write_text(text)


if __name__ == "__main__":
    main()
