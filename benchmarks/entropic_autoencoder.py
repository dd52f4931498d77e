"""Article 7's claims, measured: AE, AE + BN, VAE, WAE-MMD and EAE on MNIST digits, 3 seeds, at equal steps.

    python -m benchmarks.entropic_autoencoder --jobs 2

Regenerates docs/results/entropic_autoencoder.md with the tables of quality and of tuning, and the numbers behind them,
entropic_autoencoder{,_tuning}.csv. A run that is finished is in its CSV and is not repeated: an interrupted benchmark
goes on where it was, and to measure anew, delete the CSVs. `--jobs 2` does two runs side by side. `--quick` shows in a
minute or two that everything works; its numbers mean nothing.

All methods share networks, learning rate, batches and seeds. Only what METHODS lists differs, and the weight of the
regularizer: for each method that has one, all of WEIGHTS are tried for half as many steps with a seed that is not used
otherwise, and the one with the lowest FID of N(0, I) samples to the *training* images is taken. The held-out images
have no part in that. VAE and EAE are also trained in mixed precision, with the weights so chosen.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning.pytorch import seed_everything
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.autoencoder_quality import Autoencoder, Judge, Split, evaluate, load_split
from benchmarks.entropic_autoencoder_report import write_report
from benchmarks.reporting import Row, machine
from benchmarks.runs import (
    Advance,
    Results,
    StepCounter,
    Table,
    Task,
    be_quiet,
    command_line,
    measure,
    shrink_if_quick,
    trainer_of,
)
from datamodules import ImageDataModule
from lit_modules import EntropicAutoencoder

METHODS: dict[str, dict[str, Any]] = {
    "AE": {"regularizer": "none"},
    "AE + BN": {"regularizer": "none", "code_norm": True},
    "VAE": {"regularizer": "kl"},
    "WAE-MMD": {"regularizer": "mmd"},
    "EAE": {"regularizer": "entropy"},
}
# The same number for each method, in steps of about a half power of 10, around what others use.
WEIGHTS: dict[str, list[float]] = {
    "VAE": [0.1, 0.3, 1, 3, 10, 30, 100],
    "WAE-MMD": [1, 3, 10, 30, 100, 300, 1000],
    "EAE": [0.1, 0.3, 1, 3, 10, 30, 100],
}
# After the name of a method that is trained in mixed precision.
BF16 = ", bf16-mixed"
STEPS = 3900  # 20 epochs of 50,000 images
HELD_OUT = 10_000
TUNING_SEED = 100


@dataclass(frozen=True, kw_only=True)
class AutoencoderTask(Task):
    """A task whose models are autoencoders of digits; ``data["val_fraction"]`` is the number of held-out images."""

    def split(self, seed: int) -> Split:
        """The images that a run with this seed trains on, and the others."""
        return load_split(self.data["source"], self.data["val_fraction"], seed)


def digits_task(images: str, steps: int, methods: Mapping[str, Any], held_out: int = HELD_OUT) -> AutoencoderTask:
    """MNIST, MLPs 784-512-256-16 and back, Adam with its defaults."""
    shared = {"network": "dense", "latent_dim": 16, "learning_rate": 1e-3}
    data = {"source": images, "batch_size": 256, "val_fraction": held_out}
    return AutoencoderTask(steps=steps, methods=methods, shared=shared, data=data, samples=held_out)


def weighted_methods(weights: Mapping[str, Sequence[float]]) -> dict[str, partial[EntropicAutoencoder]]:
    """By name, METHODS with each of their weights; those without weights once."""
    methods = {}
    for name, options in METHODS.items():
        if name not in weights:
            methods[name] = partial(EntropicAutoencoder, **options)
        for weight in weights.get(name, []):
            methods[f"{name}, {weight:g}"] = partial(EntropicAutoencoder, **options, regularizer_weight=float(weight))
    return methods


def also_in_bf16(methods: Mapping[str, Any]) -> dict[str, Any]:
    """The methods, and VAE's and EAE's once more."""
    return {**methods, **{name + BF16: make for name, make in methods.items() if name.startswith(("VAE", "EAE"))}}


# ---- One training ----


def trained(task: AutoencoderTask, method: str, seed: int, split: Split, advance: Advance) -> Autoencoder:
    """A model after the task's steps, with the code statistics of all its training images."""
    seed_everything(seed, verbose=False)
    model: EntropicAutoencoder = task.model(method)
    data = ImageDataModule(seed=seed, **task.data)
    precision = "bf16-mixed" if method.endswith(BF16) else "32-true"
    trainer_of(task, [StepCounter(advance)], limit_val_batches=0, precision=precision).fit(model, data)
    if model.fits_codes:
        model.fit_codes(split.training.split(task.data["batch_size"]))
    return Autoencoder(model.encode, model.decode, model.draw_codes)


def train(task: AutoencoderTask, method: str, seed: int, advance: Advance) -> Results:
    """All qualities at the end, against the held-out images: one row."""
    split = task.split(seed)
    model = trained(task, method, seed, split, advance)
    return [{name: round(value, 4) for name, value in evaluate(model, split, seed).items()}]


def tune(task: AutoencoderTask, method: str, seed: int, advance: Advance) -> Results:
    """The FID of N(0, I) samples to the training images: one row with "fid_training"."""
    split = task.split(seed)
    model = trained(task, method, seed, split, advance)
    judge = Judge(split.training, task.samples, seed)
    return [{"fid_training": round(judge.fid_of_samples(model, task.shared["latent_dim"]), 3)}]


def best_weights(rows: Sequence[Row], weights: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """For each method, the one weight whose row has the lowest "fid_training"."""
    fid = {row["method"]: float(row["fid_training"]) for row in rows}
    return {name: [min(tried, key=lambda w: fid[f"{name}, {w:g}"])] for name, tried in weights.items()}


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing, then write and print the report."""
    args = command_line(__doc__, STEPS).parse_args(arguments)
    shrink_if_quick(args)
    be_quiet()
    torch.set_num_threads(1)
    weights = {name: tried[2:4] if args.quick else tried for name, tried in WEIGHTS.items()}
    held_out = 500 if args.quick else HELD_OUT
    console = Console()
    console.print(f"{machine()}, {datetime.date.today()}", highlight=False)

    tried = {name: make for name, make in weighted_methods(weights).items() if name not in METHODS}
    tuning_task = digits_task(args.images, args.steps // 2, tried, held_out)
    tuning = Table("tuning", tuning_task, tune, args.out / "entropic_autoencoder_tuning.csv")
    measure([tuning], [TUNING_SEED], console, args.jobs)
    tuning_rows = tuning.rows([TUNING_SEED])

    chosen = weighted_methods(best_weights(tuning_rows, weights))
    task = digits_task(args.images, args.steps, also_in_bf16(chosen), held_out)
    table = Table("quality", task, train, args.out / "entropic_autoencoder.csv")
    measure([table], args.seeds, console, args.jobs)
    settings = f"{task.options_in_words()}; Adam; {held_out:,} images are held out."
    report = write_report(args.out, settings, table.rows(args.seeds), tuning_rows, weights)
    console.print(Markdown(report))


if __name__ == "__main__":
    main()
