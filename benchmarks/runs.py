"""What benchmarks of trained models share: tasks, and tables of runs that are done once and kept.

A run is one method with one seed. Its rows go into a CSV as soon as it is finished, and a run whose rows are there is
not repeated. Runs are done one by one in this process, or several side by side in processes of one thread each.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import itertools
import logging
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.reporting import Row, append_rows, machine, read_rows

MNIST = "../shared/data/img/mnist-train-images-idx3-ubyte.gz"
Advance = Callable[[int], object]  # told the number of steps done since the last call
Results = list[dict[str, object]]
ORIGIN = ("date", "machine")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all methods have in common on one kind of data, and the methods.

    Attributes:
        steps: of each training.
        methods: by name, what makes the untrained model of ``shared``.
        shared: arguments of all models.
        data: arguments of the datamodule.
        samples: generated for an evaluation.
    """

    steps: int
    methods: Mapping[str, Callable[..., Any]]
    shared: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    samples: int

    def options_in_words(self) -> str:
        """The steps and all models' and the data's arguments, for the report."""
        options = self.shared | {name: value for name, value in self.data.items() if name != "source"}
        return f"{self.steps:,} steps, " + ", ".join(f"{name} {value}" for name, value in options.items())

    def model(self, method: str) -> Any:
        """The untrained model of a method."""
        return self.methods[method](**self.shared)


T = TypeVar("T", bound=Task)


class StepCounter(Callback):
    """Advances a progress bar."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._seen = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._advance(trainer.global_step - self._seen)
        self._seen = trainer.global_step


def trainer_of(task: Task, callbacks: list[Callback], **options: Any) -> Trainer:
    """A :func:`bare_trainer` for a task's steps."""
    return bare_trainer(callbacks, max_steps=task.steps, max_epochs=-1, **options)


def bare_trainer(callbacks: list[Callback], **options: Any) -> Trainer:
    """A Trainer that writes and shows nothing; on the CPU, if the options don't say otherwise."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "num_sanity_val_steps": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(callbacks=callbacks, **quiet | options)


def process_memory(what: str) -> int:
    """Bytes of this process on Linux: VmRSS, in use now with what it has mapped, or VmHWM, the peak of that.

    Not getrusage's peak, which begins, in a child, at its parent's.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


def device_name(device: str) -> str:
    """The accelerator's, or "cpu"."""
    return torch.cuda.get_device_name() if device == "gpu" and torch.cuda.is_available() else device


def time_limit(minutes: float | None) -> dict[str, float] | None:
    """Of a training, as a Trainer takes it; None for no limit."""
    return None if minutes is None else {"seconds": round(60 * minutes)}


# ---- All runs of a table ----


@dataclass(frozen=True)
class Table(Generic[T]):
    """A table of the report: what trains its runs and where their rows are kept."""

    name: str
    task: T
    train: Callable[[T, str, int, Advance], Results]
    path: Path

    def key(self, method: str, seed: int) -> dict[str, str]:
        """What makes a run the same as an earlier one."""
        data = str(self.task.data.get("source") or self.task.data["distribution"])
        return {"data": Path(data).name, "method": method, "seed": str(seed), "steps": str(self.task.steps)}

    def rows(self, seeds: Iterable[int]) -> list[Row]:
        """The rows of all finished runs with these seeds."""
        keys = [self.key(method, seed) for method, seed in itertools.product(self.task.methods, seeds)]
        return [row for row in read_rows(self.path) if any(key.items() <= row.items() for key in keys)]

    def missing(self, seeds: Iterable[int]) -> Iterator[Run]:
        """The runs to do; all methods of a seed before the next seed."""
        for seed, method in itertools.product(seeds, self.task.methods):
            if not any(self.key(method, seed).items() <= row.items() for row in read_rows(self.path)):
                yield Run(self, method, seed)


@dataclass(frozen=True)
class Run:
    """One method with one seed, for one table."""

    table: Table[Any]
    method: str
    seed: int

    def train(self, advance: Advance = lambda _: None) -> Results:
        """Train once. CPU seconds include evaluations."""
        start = time.process_time()
        results = self.table.train(self.table.task, self.method, self.seed, advance)
        seconds, date = round(time.process_time() - start), datetime.date.today().isoformat()
        return [result | {"cpu_seconds": seconds, "date": date, "machine": machine()} for result in results]

    def keep(self, results: Results) -> None:
        """Add the rows to the table's file."""
        key = self.table.key(self.method, self.seed)
        append_rows(self.table.path, [key | result for result in results])

    def __str__(self) -> str:
        return f"{self.table.name}, {self.method}, seed {self.seed}"


def measure(tables: Sequence[Table[Any]], seeds: Sequence[int], console: Console, jobs: int = 1) -> None:
    """Do all missing runs, ``jobs`` at a time: a bar for the steps of all, and a line for each that is finished."""
    todo = [run for table in tables for run in table.missing(seeds)]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=sum(run.table.task.steps for run in todo))

        def finish(run: Run, results: Results) -> None:
            run.keep(results)
            last = ", ".join(f"{name} {value}" for name, value in results[-1].items() if name not in ORIGIN)
            console.print(f"{run}: {last}", highlight=False)

        if jobs > 1:
            progress.update(bar, description=f"{jobs} at a time")
            side_by_side(todo, jobs, finish, functools.partial(progress.advance, bar))
            return
        for run in todo:
            progress.update(bar, description=str(run))
            finish(run, run.train(functools.partial(progress.advance, bar)))


def side_by_side(runs: Sequence[Run], jobs: int, finish: Callable[[Run, Results], None], advance: Advance) -> None:
    """Train in ``jobs`` child processes, and tell ``finish`` of each result here. Whatever stops this stops all."""
    # For the children: their libraries read it when they are loaded.
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_child) as pool:
        try:
            futures = {pool.submit(run.train): run for run in runs}
            for done in as_completed(futures):
                finish(futures[done], done.result())
                advance(futures[done].table.task.steps)
        except BaseException:
            # Leaving the pool would wait for all the runs.
            for child in multiprocessing.active_children():
                child.kill()
            raise


def _start_child() -> None:
    # Ctrl-C reaches children too: Lightning would end one run and the child begin the next.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    be_quiet()


# ---- The command ----


def be_quiet() -> None:
    """No lines of Lightning's about each Trainer, nor its advice."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "The '.*' does not have many workers")
    # Lightning 2.6's _pytree with torch 2.13.
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")


def command_line(description: str | None, steps: int) -> argparse.ArgumentParser:
    """The options that all these benchmarks have; ``steps`` is the default number."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default=MNIST, help="source of ImageDataModule (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=steps, help="of each run on digits (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--quick", action="store_true", help="one seed, 30 steps, embedded digits, in OUT/quick")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, one thread each (default: one run)")
    return parser


def shrink_if_quick(args: argparse.Namespace) -> None:
    """Make of the options what ``--quick`` says."""
    if args.quick:
        args.images, args.steps, args.seeds, args.out = "embedded", 30, [0], args.out / "quick"
