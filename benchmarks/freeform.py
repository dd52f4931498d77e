"""Article 4, measured: what free losses cost, and both networks on MNIST digits against their plain-PyTorch twins.

    python -m benchmarks.freeform

Cost: the article's classifier under a Trainer, with FreeLosses and written without it: the same network, batches of 128
random images, optimizer and logged names, these by Lightning's log and by what FreeLosses uses, BaseModule.log_step. A
round of each is one fit, timed from the end of its 50th step to the end of its last; all take turns, the first round
warms up, and the median over the other rounds of their ratio counts.

Quality: FreeformClassifier and FreeformAutoencoder on 50,000 digits, and twins of them in plain PyTorch, without
Lightning, with the same weights at the start, batch size, optimizer and schedule; 10,000 digits are held out.

Regenerates docs/results/freeform.md, with freeform_cost.csv, freeform_classifier.csv and freeform_autoencoder.csv. What
is in a CSV is not measured again; to do so, delete it. `--quick` shows in a minute that all works; its numbers mean
nothing.
"""

from __future__ import annotations

import argparse
import datetime
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader

from benchmarks.freeform_report import FREE, PLAIN, WITHOUT, WITHOUT_CHEAP, write_report
from benchmarks.reporting import Row, append_rows, machine, read_rows
from benchmarks.rounds import in_rounds
from benchmarks.runs import (
    Advance,
    Results,
    StepCounter,
    Table,
    Task,
    bare_trainer,
    be_quiet,
    command_line,
    measure,
    shrink_if_quick,
    trainer_of,
)
from datamodules import ImageDataModule
from lit_modules import FreeformAutoencoder, FreeformClassifier, FreeLosses
from lit_modules.parts.base import BaseModule

STEPS = 7800  # 20 epochs of 50,000 images
HELD_OUT = 10_000
BATCH_SIZE = 128
WARM_UP = 50
ROUND_STEPS = 550
ROUNDS = 15
LEARNING_RATE = 2e-3


# ---- Cost ----


class WithoutFreeLosses(BaseModule):
    """The article's classifier by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.classifier = nn.Sequential(*classifier_layers()[:3]), classifier_layers()[3]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One step, with four numbers logged."""
        x, y = batch
        h = self.encoder(x)
        logits = self.classifier(h)
        loss = cross_entropy(logits, y)
        accuracy = (logits.argmax(dim=1) == y).float().mean()
        values = {"cross_entropy": loss, "x_h_norm": h.square().sum(dim=1).mean(), "accuracy": accuracy, "loss": loss}
        self.log_values({f"train/{name}": value.detach() for name, value in values.items()})
        return loss

    def log_values(self, values: dict[str, Tensor]) -> None:
        """By Lightning's log."""
        self.log_dict(values, on_step=True, on_epoch=False, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """Adam with its defaults."""
        return torch.optim.Adam(self.parameters())


class WithoutFreeLossesCheap(WithoutFreeLosses):
    """The same, logging as this project's modules do."""

    def log_values(self, values: dict[str, Tensor]) -> None:
        """By log_step."""
        self.log_step(values, in_bar=("",))


class WithFreeLosses(FreeLosses, WithoutFreeLosses):
    """The same with losses and metrics added."""

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        """One step, the rest being up to FreeLosses."""
        x, y = batch
        h = self.encoder(x)
        logits = self.classifier(h)
        self.add_loss("cross_entropy", cross_entropy(logits, y))
        self.add_metric("x_h_norm", h.square().sum(dim=1).mean())
        self.add_metric("accuracy", (logits.argmax(dim=1) == y).float().mean())


class Clock(Callback):
    """Reads the clock after step ``WARM_UP`` and after each later one."""

    begin = end = 0.0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Read it."""
        self.end = time.perf_counter()
        if trainer.global_step == WARM_UP:
            self.begin = self.end


def seconds_per_step(model: LightningModule, steps: int) -> float:
    """Of a fit of ``steps`` steps after those that warm up."""
    batch = torch.rand(BATCH_SIZE, 1, 28, 28), torch.arange(BATCH_SIZE) % 10
    loader = DataLoader([batch] * (WARM_UP + steps), batch_size=None)
    clock = Clock()
    bare_trainer([clock], max_steps=WARM_UP + steps, max_epochs=-1).fit(model, loader)
    return (clock.end - clock.begin) / steps


def measure_cost(path: Path, rounds: int, steps: int) -> list[Row]:
    """A row for each contestant and round, from the file if they are there."""
    contestants = {
        FREE: lambda: seconds_per_step(WithFreeLosses(), steps),
        WITHOUT_CHEAP: lambda: seconds_per_step(WithoutFreeLossesCheap(), steps),
        WITHOUT: lambda: seconds_per_step(WithoutFreeLosses(), steps),
    }
    if not path.is_file():
        where = {"date": datetime.date.today().isoformat(), "machine": machine()}
        for name, values in in_rounds(contestants, rounds).items():
            rows = enumerate(values, 1)
            append_rows(path, [{"contestant": name, "round": n, "seconds_per_step": x} | where for n, x in rows])
    return read_rows(path)


# ---- Quality ----


def classifier_layers() -> list[nn.Module]:
    """784 -> 100 relu -> 10."""
    return [nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10)]


def plain_classifier(**_: Any) -> nn.Module:
    """FreeformClassifier's twin."""
    return nn.Sequential(*classifier_layers())


def plain_autoencoder(**_: Any) -> nn.Module:
    """FreeformAutoencoder's twin: 784 -> 100 relu -> 784 sigmoid."""
    layers = nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 784), nn.Sigmoid()
    return nn.Sequential(*layers, nn.Unflatten(1, (1, 28, 28)))


def task_of(network: str, images: str, steps: int, held_out: int = HELD_OUT) -> Task:
    """A network, "classifier" or "autoencoder", and its twin."""
    free = {"classifier": FreeformClassifier, "autoencoder": FreeformAutoencoder}[network]
    plain = {"classifier": plain_classifier, "autoencoder": plain_autoencoder}[network]
    data = {"source": images, "batch_size": BATCH_SIZE, "val_fraction": held_out, "value_range": "unit"}
    shared = {"learning_rate": LEARNING_RATE, "lr_schedule": "cosine"}
    return Task(steps=steps, methods={free.__name__: free, PLAIN: plain}, shared=shared, data=data, samples=0)


def train(network: str, task: Task, method: str, seed: int, advance: Advance) -> Results:
    """What the held-out images say at the end: one row, accuracy in percent or mean squared error of a pixel."""
    seed_everything(seed, verbose=False)
    model, data = task.model(method), ImageDataModule(seed=seed, **task.data)
    data.setup("fit")
    if method == PLAIN:
        train_plainly(model, network, task, data, advance)
    else:
        trainer_of(task, [StepCounter(advance)], limit_val_batches=0).fit(model, data)
    held_out = [data.on_after_batch_transfer(batch, 0) for batch in data.val_dataloader()]
    x, y = (torch.cat(parts) for parts in zip(*held_out, strict=True))
    with torch.no_grad():
        outputs = model(x)
    if network == "classifier":
        return [{"accuracy": round(100 * (outputs.argmax(dim=1) == y).double().mean().item(), 3)}]
    return [{"error": round((outputs - x).double().square().mean().item(), 7)}]


def train_plainly(model: nn.Module, network: str, task: Task, data: ImageDataModule, advance: Advance) -> None:
    """The loop that one would write without Lightning."""
    x, y = (torch.cat(parts) for parts in zip(*data.reference_dataloader(), strict=True))
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.steps)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(task.steps):
        if len(order) < BATCH_SIZE:
            order = torch.randperm(len(x))
        rows, order = order[:BATCH_SIZE], order[BATCH_SIZE:]
        outputs = model(x[rows])
        loss = cross_entropy(outputs, y[rows]) if network == "classifier" else mse_loss(outputs, x[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        advance(1)


def quality_table(network: str, args: argparse.Namespace) -> Table[Task]:
    """The runs of a network and its twin."""
    held_out = 500 if args.quick else HELD_OUT
    task = task_of(network, args.images, args.steps, held_out)
    return Table(network, task, partial(train, network), args.out / f"freeform_{network}.csv")


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing, then write and print the report."""
    args = command_line(__doc__, STEPS).parse_args(arguments)
    shrink_if_quick(args)
    be_quiet()
    torch.set_num_threads(1)
    console = Console()
    console.print(f"{machine()}, {datetime.date.today()}", highlight=False)
    rounds, steps = (1, 20) if args.quick else (ROUNDS, ROUND_STEPS)
    cost = measure_cost(args.out / "freeform_cost.csv", rounds, steps)
    tables = [quality_table(network, args) for network in ("classifier", "autoencoder")]
    measure(tables, args.seeds, console, args.jobs)
    settings = f"{tables[0].task.options_in_words()}; Adam; {len(args.seeds)} seed(s)."
    report = write_report(args.out, settings, cost, *(table.rows(args.seeds) for table in tables))
    console.print(Markdown(report))


if __name__ == "__main__":
    main()
