"""Article 3's claims: dL/dt of the flows, Euler's order, the article's experiment, and a comparison on MNIST digits.

    python -m benchmarks.optimization_flows

Regenerates docs/results/optimization_flows.md with its tables, optimization_flows.png (the article's figure), and the
numbers behind the table of digits, optimization_flows.csv. A run on digits that is finished is in the CSV and is not
repeated; to measure anew, delete it. `--quick` shows in less than a minute that everything works; its numbers mean
nothing.

On digits every optimizer trains the same network on the same batches. Its learning rate is the best of RATES, the same
grid for all, with seed 0; the table shows that rate with the seeds of `--seeds`.
"""

from __future__ import annotations

import argparse
import datetime
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from rich.console import Console
from rich.markdown import Markdown
from torch import nn

from benchmarks.optimization_flows_functions import dynamics_tables, write_figure
from benchmarks.reporting import Row, machine, markdown_table, plus_minus
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
from lit_modules import OptimizationFlow

STEPS = 1000
TUNED_WITH = 0
OPTIMIZERS = ("GradientFlow", "SignFlow", "RMSprop", "ScalarRMSprop", "LossGuidedFlow", "Adam")
# 10^-4.5, 10^-4, ..., 10^0.5
RATES = tuple(float(f"{10 ** (half / 2):.2g}") for half in range(-9, 2))


def method_name(optimizer: str, rate: float) -> str:
    """The name of a run's method."""
    return f"{optimizer} lr {rate:g}"


def classifier(optimizer: str, rate: float, hidden: int) -> OptimizationFlow:
    """A network of one hidden layer, watched by OptimizationFlow."""
    layers = nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10)
    return OptimizationFlow(network=nn.Sequential(*layers), optimizer=optimizer, learning_rate=rate)


def digits_table(images: str, steps: int, choices: Iterable[tuple[str, float]], path: Path) -> Table[Task]:
    """The runs of some optimizers with some learning rates."""
    methods = {method_name(*choice): functools.partial(classifier, *choice) for choice in choices}
    data = {"source": images, "batch_size": 128, "val_fraction": 1 / 6}
    task = Task(steps=steps, methods=methods, shared={"hidden": 64}, data=data, samples=0)
    return Table("digits", task, train_digits, path)


def train_digits(task: Task, method: str, seed: int, advance: Advance) -> Results:
    """Accuracy in percent and loss on the held-out images after the last step; 0 % for a run that broke off."""
    seed_everything(seed, verbose=False)
    model = task.model(method)
    data = ImageDataModule(**task.data, seed=0)
    trainer = trainer_of(task, [StepCounter(advance)], limit_val_batches=0)
    torch.manual_seed(seed)
    try:
        trainer.fit(model, datamodule=data)
    except FloatingPointError:
        return [{"step": trainer.global_step, "accuracy": 0.0, "loss": float("nan")}]
    validator = trainer_of(task, [])
    (measured,) = validator.validate(model, datamodule=data, verbose=False)
    accuracy, loss = 100 * measured["val/accuracy"], measured["val/loss"]
    return [{"step": task.steps, "accuracy": round(accuracy, 2), "loss": round(loss, 4)}]


def best_rates(rows: Sequence[Row]) -> dict[str, float]:
    """By optimizer, the learning rate with the highest accuracy; the smaller one of two that are equal."""
    chosen = {}
    for optimizer in OPTIMIZERS:
        accuracies = {
            rate: float(row["accuracy"])
            for rate in RATES
            for row in rows
            if row["method"] == method_name(optimizer, rate)
        }
        chosen[optimizer] = max(accuracies, key=lambda rate: (accuracies[rate], -rate))
    return chosen


def accuracy_table(chosen: dict[str, float], rows: Sequence[Row]) -> str:
    """Accuracy and loss of each optimizer at its chosen learning rate."""
    lines = []
    for optimizer, rate in chosen.items():
        runs = [row for row in rows if row["method"] == method_name(optimizer, rate)]
        accuracy = plus_minus([float(row["accuracy"]) for row in runs], 2)
        lines.append([optimizer, f"{rate:g}", accuracy, plus_minus([float(row["loss"]) for row in runs], 3)])
    return markdown_table(["optimizer", "tuned lr", "held-out accuracy, %", "held-out loss"], lines)


def measure_digits(args: argparse.Namespace, console: Console) -> tuple[dict[str, float], str]:
    """The tuned learning rates, and their table."""
    path = args.out / "optimization_flows.csv"
    rates = RATES[4:7] if args.quick else RATES
    tuning = digits_table(args.images, args.steps, [(o, rate) for o in OPTIMIZERS for rate in rates], path)
    measure([tuning], [TUNED_WITH], console, args.jobs)
    chosen = best_rates(tuning.rows([TUNED_WITH]))
    final = digits_table(args.images, args.steps, chosen.items(), path)
    measure([final], args.seeds, console, args.jobs)
    return chosen, accuracy_table(chosen, final.rows(args.seeds))


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing, then write and print the report."""
    parser = command_line(__doc__, STEPS)
    parser.set_defaults(seeds=[1, 2, 3, 4, 5])
    args = parser.parse_args(arguments)
    shrink_if_quick(args)
    be_quiet()
    console = Console()
    console.print(f"{machine()}, {datetime.date.today()}", highlight=False)
    _, digits = measure_digits(args, console)
    settings: dict[str, Any] = {"starts": 4} if args.quick else {}
    sections = [*dynamics_tables(**settings), f"After {args.steps:,} steps of batches of 128 digits.\n\n{digits}"]
    write_figure(args.out / "optimization_flows.png")
    origin = f"`python -m benchmarks.optimization_flows`, {datetime.date.today()}, {machine()}."
    text = "\n\n".join(["# Article 3: optimization flows", origin, *sections]) + "\n"
    (args.out / "optimization_flows.md").write_text(text)
    console.print(Markdown(text))


if __name__ == "__main__":
    main()
