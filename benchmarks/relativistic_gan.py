"""Article 1's claims, measured: five GANs on MNIST digits and on 25 Gaussians, 3 seeds each, at equal steps.

    python -m benchmarks.relativistic_gan

Regenerates docs/results/relativistic_gan.md with both tables, relativistic_gan_fid.png (FID against step), and the
numbers behind them, relativistic_gan_{fid,modes}.csv. A run that is finished is in its CSV and is not repeated: an
interrupted benchmark goes on where it was, and to measure anew, delete the CSV. `--quick` shows in less than a minute
that everything works; its numbers mean nothing.

All methods share networks, learning rates, batches and seeds. Only what METHODS lists differs.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from benchmarks.relativistic_gan_report import write_report
from benchmarks.reporting import Row, append_rows, machine, read_rows
from callbacks import ExponentialMovingAverage, GenerativeMetrics
from datamodules import ImageDataModule, PointsDataModule
from lit_modules import RelativisticGAN

MNIST = "../shared/data/img/mnist-train-images-idx3-ubyte.gz"
# What differs from method to method. {"penalties": True} stands for the task's strength of R1 and R2.
METHODS: dict[str, dict[str, Any]] = {
    "SGAN": {"loss": "sgan"},
    "SGAN + SN": {"loss": "sgan", "spectral_norm": True},
    "RSGAN": {"loss": "rsgan"},
    "RSGAN + SN": {"loss": "rsgan", "spectral_norm": True},
    "RSGAN + R1 + R2": {"loss": "rsgan", "penalties": True},
}
GOOD_WITHIN = 3.0  # standard deviations from the nearest center (PacGAN, arXiv 1712.04086)
FOUND_FROM = 0.1  # of the good samples that a mode would get if all samples were good and spread evenly
COUNTING = (
    f"A sample is good within {GOOD_WITHIN:g} standard deviations of its nearest center; a mode is found if it gets at"
    f" least {FOUND_FROM:g} of the good samples that it would get if all were good and spread evenly."
)


@dataclass(frozen=True)
class Task:
    """What all methods have in common on one kind of data.

    Attributes:
        steps: updates of D and of G.
        every: steps from one evaluation to the next.
        samples: generated for an evaluation.
        gamma: strength of R1 and of R2.
        shared: arguments of RelativisticGAN.
        data: arguments of the datamodule.
        ema_decay: of the generator that is evaluated.
        reference: number of real images that generated ones are compared with; 0 where there are none.
    """

    steps: int
    every: int
    samples: int
    gamma: float
    shared: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    ema_decay: float = 0.99
    reference: int = 0

    def in_words(self) -> str:
        """All settings, for the report."""
        options = self.shared | {k: v for k, v in self.data.items() if k != "source"}
        common = ", ".join(f"{name} {value}" for name, value in options.items())
        return (
            f"All methods: {self.steps:,} steps, {common}; R1 and R2 with gamma {self.gamma} at every step;"
            f" {self.samples:,} samples of the generator, averaged with decay {self.ema_decay}"
            + (f", against the first {self.reference:,} training images." if self.reference else ".")
        )

    def model(self, method: str) -> RelativisticGAN:
        """The untrained GAN of a method."""
        options = dict(METHODS[method])
        if options.pop("penalties", False):
            options |= {"r1_weight": self.gamma, "r2_weight": self.gamma}
        return RelativisticGAN(**self.shared, **options)


def digits_task(images: str, steps: int) -> Task:
    """Grey digits 28x28; the author's learning rate and batch, networks a quarter as wide."""
    shared = {"width": 16, "discriminator_lr": 2e-4, "generator_lr": 2e-4, "betas": (0.5, 0.999)}
    # A few held-out images make Lightning validate.
    data = {"source": images, "batch_size": 64, "val_fraction": 64}
    return Task(steps, every=min(250, steps), samples=5000, gamma=1.0, shared=shared, data=data, reference=9_984)


def modes_task(steps: int) -> Task:
    """25 Gaussians on a grid from -1 to 1, twice as wide as published (few steps are enough), and MLPs.

    gamma is 0.1 in the published coordinates, which are 4 times as large.
    """
    shared = {
        "network": "points",
        "latent_dim": 2,
        "discriminator_lr": 1e-3,
        "generator_lr": 1e-3,
        "betas": (0.0, 0.99),
    }
    data = {"distribution": "grid25", "std": 0.1, "scale": 0.25, "batch_size": 256}
    return Task(steps, every=steps, samples=10_000, gamma=0.1 * 0.25**2, shared=shared, data=data)


class Digits(ImageDataModule):
    """ImageDataModule whose reference is the first ``reference`` training images (in whole batches), to save time."""

    def __init__(self, reference: int, **options: Any) -> None:
        super().__init__(**options)
        self._reference_batches = max(1, reference // self.batch_size)

    def reference_dataloader(self) -> Iterable[Any]:  # type: ignore[override]
        return itertools.islice(super().reference_dataloader(), self._reference_batches)


class Observer(Callback):
    """Advances a progress bar, and keeps the FID of each validation."""

    def __init__(self, advance: Callable[[int], object]) -> None:
        self.fid: dict[int, float] = {}
        self._advance = advance
        self._seen = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._advance(trainer.global_step - self._seen)
        self._seen = trainer.global_step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.fid[trainer.global_step] = float(trainer.callback_metrics["val/fid"])


def train_digits(task: Task, method: str, seed: int, advance: Callable[[int], object]) -> list[dict[str, object]]:
    """The FID at each evaluated step: rows with "step" and "fid"."""
    seed_everything(seed, verbose=False)
    observer = Observer(advance)
    callbacks = [
        ExponentialMovingAverage("generator", task.ema_decay),
        GenerativeMetrics(task.samples, metrics=["fid"]),
        observer,
    ]
    trainer = _trainer(task, callbacks, val_check_interval=task.every, check_val_every_n_epoch=None)
    trainer.fit(task.model(method), Digits(task.reference, seed=seed, **task.data))
    return [{"step": step, "fid": round(fid, 3)} for step, fid in observer.fid.items()]


def train_modes(task: Task, method: str, seed: int, advance: Callable[[int], object]) -> list[dict[str, object]]:
    """Modes found and share of good samples at the end: one row with "step", "modes" and "good"."""
    seed_everything(seed, verbose=False)
    average = ExponentialMovingAverage("generator", task.ema_decay)
    model, points = task.model(method), PointsDataModule(seed=seed, **task.data)
    _trainer(task, [average, Observer(advance)], limit_val_batches=0).fit(model, points)
    with average.averaged_weights(model):
        samples = model.sample(task.samples)
    modes, good = count_modes(samples, points.centers, points.std)
    return [{"step": task.steps, "modes": modes, "good": round(good, 4)}]


def count_modes(samples: Tensor, centers: Tensor, std: float) -> tuple[int, float]:
    """(number of modes found, share of good samples) of samples (N, D) from a mixture with centers (K, D).

    A sample is good within GOOD_WITHIN ``std`` of its nearest center; a mode is found if it gets at least
    FOUND_FROM * N / K good samples, a tenth of an even share.
    """
    distances, nearest = torch.cdist(samples, centers.to(samples)).min(dim=1)
    good = distances <= GOOD_WITHIN * std
    counts = torch.bincount(nearest[good], minlength=len(centers))
    found = counts >= max(1.0, FOUND_FROM * len(samples) / len(centers))
    return int(found.sum()), good.double().mean().item()


def _trainer(task: Task, callbacks: list[Callback], **options: Any) -> Trainer:
    return Trainer(
        max_steps=task.steps,
        max_epochs=-1,
        accelerator="cpu",
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        **options,
    )


@dataclass(frozen=True)
class Table:
    """One of the two tables: what trains its runs and where their rows are kept."""

    name: str
    task: Task
    train: Callable[[Task, str, int, Callable[[int], object]], list[dict[str, object]]]
    path: Path

    def key(self, method: str, seed: int) -> dict[str, str]:
        """What makes a run the same as an earlier one."""
        data = str(self.task.data.get("source") or self.task.data["distribution"])
        return {"data": Path(data).name, "method": method, "seed": str(seed), "steps": str(self.task.steps)}

    def rows(self, seeds: Iterable[int]) -> list[Row]:
        """The rows of all finished runs with these seeds."""
        keys = [self.key(method, seed) for method, seed in itertools.product(METHODS, seeds)]
        return [row for row in read_rows(self.path) if any(key.items() <= row.items() for key in keys)]

    def missing(self, seeds: Iterable[int]) -> Iterator[tuple[str, int]]:
        """The runs to do, (method, seed); all methods of a seed before the next seed."""
        for seed, method in itertools.product(seeds, METHODS):
            if not any(self.key(method, seed).items() <= row.items() for row in read_rows(self.path)):
                yield method, seed

    def run(self, method: str, seed: int, advance: Callable[[int], object]) -> list[dict[str, object]]:
        """Train once and keep the rows. CPU seconds include evaluations."""
        start = time.process_time()
        results = self.train(self.task, method, seed, advance)
        seconds, date = round(time.process_time() - start), datetime.date.today().isoformat()
        common = {"cpu_seconds": seconds, "date": date, "machine": machine()}
        append_rows(self.path, [self.key(method, seed) | result | common for result in results])
        return results


def measure(tables: list[Table], seeds: list[int], console: Console) -> None:
    """Do all missing runs, with a bar for the steps of all of them and a line for each that is finished."""
    todo = [(table, method, seed) for table in tables for method, seed in table.missing(seeds)]
    steps = sum(table.task.steps for table, _, _ in todo)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=steps)
        for table, method, seed in todo:
            name = f"{table.name}, {method}, seed {seed}"
            progress.update(bar, description=name)
            last = table.run(method, seed, lambda done: progress.advance(bar, done))[-1]
            console.print(f"{name}: " + ", ".join(f"{k} {v}" for k, v in last.items()), highlight=False)


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing, then write and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default=MNIST, help="source of ImageDataModule (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1500, help="of each run on digits (default: %(default)s)")
    parser.add_argument("--mode-steps", type=int, default=2000, help="of each run on points (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--only", choices=["digits", "modes"], help="measure for one table only")
    parser.add_argument("--quick", action="store_true", help="one seed, 30 steps, embedded digits, in OUT/quick")
    args = parser.parse_args(arguments)
    if args.quick:
        args.images, args.steps, args.mode_steps, args.seeds = "embedded", 30, 30, [0]
        args.out = args.out / "quick"
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    console = Console()
    task = digits_task(args.images, args.steps)
    if args.quick:
        task = replace(task, samples=500, reference=640)
    digits = Table("digits", task, train_digits, args.out / "relativistic_gan_fid.csv")
    modes = Table("modes", modes_task(args.mode_steps), train_modes, args.out / "relativistic_gan_modes.csv")
    console.print(f"{machine()}, {datetime.date.today()}", highlight=False)
    measure([table for table in (digits, modes) if args.only in (None, table.name)], args.seeds, console)
    digits_part = digits.task.in_words(), digits.rows(args.seeds)
    modes_part = f"{COUNTING} {modes.task.in_words()}", modes.rows(args.seeds)
    console.print(Markdown(write_report(args.out, digits_part, modes_part, list(METHODS))))


if __name__ == "__main__":
    main()
