"""Article 1's claims, measured: five GANs on MNIST digits and on 25 Gaussians, 3 seeds each, at equal steps.

    python -m benchmarks.relativistic_gan

Regenerates docs/results/relativistic_gan.md with both tables, relativistic_gan_fid.png (FID against step), and the
numbers behind them, relativistic_gan_{fid,modes}.csv. A run that is finished is in its CSV and is not repeated: an
interrupted benchmark goes on where it was, and to measure anew, delete the CSV. `--quick` shows in less than a minute
that everything works; its numbers mean nothing.

All methods share networks, learning rates, batches and seeds. Only what METHODS lists differs.
"""

from __future__ import annotations

import datetime
from functools import partial
from typing import Any

import torch
from lightning.pytorch import seed_everything
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor

from benchmarks.gan_quality import STEPS, GANTask, digits_task, train_digits
from benchmarks.relativistic_gan_report import write_report
from benchmarks.reporting import machine
from benchmarks.runs import (
    Advance,
    Results,
    StepCounter,
    Table,
    be_quiet,
    command_line,
    measure,
    shrink_if_quick,
    trainer_of,
)
from callbacks import ExponentialMovingAverage
from datamodules import PointsDataModule
from lit_modules import RelativisticGAN

# What differs from method to method. {"penalties": True} stands for the task's strength of R1 and R2.
METHODS: dict[str, dict[str, Any]] = {
    "SGAN": {"loss": "sgan"},
    "SGAN + SN": {"loss": "sgan", "spectral_norm": True},
    "RSGAN": {"loss": "rsgan"},
    "RSGAN + SN": {"loss": "rsgan", "spectral_norm": True},
    "RSGAN + R1 + R2": {"loss": "rsgan", "penalties": True},
}
DIGITS_GAMMA = 1.0
# 0.1 in the published coordinates, which are 4 times as large.
MODES_GAMMA = 0.1 * 0.25**2
GOOD_WITHIN = 3.0  # standard deviations from the nearest center (PacGAN, arXiv 1712.04086)
FOUND_FROM = 0.1  # of the good samples that a mode would get if all samples were good and spread evenly
COUNTING = (
    f"A sample is good within {GOOD_WITHIN:g} standard deviations of its nearest center; a mode is found if it gets at"
    f" least {FOUND_FROM:g} of the good samples that it would get if all were good and spread evenly."
)


def methods_with(gamma: float) -> dict[str, partial[RelativisticGAN]]:
    """METHODS, with R1 and R2 of strength ``gamma``."""
    gans = {}
    for name, options in METHODS.items():
        options = dict(options)
        if options.pop("penalties", False):
            options |= {"r1_weight": gamma, "r2_weight": gamma}
        gans[name] = partial(RelativisticGAN, **options)
    return gans


def note_on(gamma: float) -> str:
    """The penalties, for the report."""
    return f"R1 and R2 with gamma {gamma} at every step"


def modes_task(steps: int) -> GANTask:
    """25 Gaussians on a grid from -1 to 1, twice as wide as published (few steps are enough), and MLPs."""
    shared = {
        "network": "points",
        "latent_dim": 2,
        "discriminator_lr": 1e-3,
        "generator_lr": 1e-3,
        "betas": (0.0, 0.99),
    }
    data = {"distribution": "grid25", "std": 0.1, "scale": 0.25, "batch_size": 256}
    return GANTask(
        steps=steps,
        every=steps,
        samples=10_000,
        methods=methods_with(MODES_GAMMA),
        shared=shared,
        data=data,
        note=note_on(MODES_GAMMA),
    )


def train_modes(task: GANTask, method: str, seed: int, advance: Advance) -> Results:
    """Modes found and share of good samples at the end: one row with "step", "modes" and "good"."""
    seed_everything(seed, verbose=False)
    average = ExponentialMovingAverage("generator", task.ema_decay)
    model, points = task.model(method), PointsDataModule(seed=seed, **task.data)
    trainer_of(task, [average, StepCounter(advance)], limit_val_batches=0).fit(model, points)
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


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing, then write and print the report."""
    parser = command_line(__doc__, STEPS)
    parser.add_argument("--mode-steps", type=int, default=2000, help="of each run on points (default: %(default)s)")
    parser.add_argument("--only", choices=["digits", "modes"], help="measure for one table only")
    args = parser.parse_args(arguments)
    shrink_if_quick(args)
    mode_steps = 30 if args.quick else args.mode_steps
    be_quiet()
    console = Console()
    methods, note = methods_with(DIGITS_GAMMA), note_on(DIGITS_GAMMA)
    task = digits_task(args.images, args.steps, methods, note=note, quick=args.quick)
    digits = Table("digits", task, train_digits, args.out / "relativistic_gan_fid.csv")
    modes = Table("modes", modes_task(mode_steps), train_modes, args.out / "relativistic_gan_modes.csv")
    console.print(f"{machine()}, {datetime.date.today()}", highlight=False)
    measure([table for table in (digits, modes) if args.only in (None, table.name)], args.seeds, console, args.jobs)
    digits_part = digits.task.in_words(), digits.rows(args.seeds)
    modes_part = f"{COUNTING} {modes.task.in_words()}", modes.rows(args.seeds)
    console.print(Markdown(write_report(args.out, digits_part, modes_part, list(METHODS))))


if __name__ == "__main__":
    main()
