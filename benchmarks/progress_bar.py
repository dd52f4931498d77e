"""What a progress bar costs a training step: KerasProgressBar against Lightning's two, and against none.

    python -m benchmarks.progress_bar

A module that does next to nothing logs three values a step with `prog_bar=True`, to one of Lightning's bars with its
defaults, to KerasProgressBar with its own, or to none; on a pseudo terminal of 100 columns, which another process
reads, and into a file. Each round visits all of them in turn, the first round warms up, and the medians of the
differences to "none" within a round count. A step either does nothing more, or sleeps 10 ms, as a real one would
compute. The processor's time tells what a bar does in threads of its own.

Writes docs/results/progress_bar.md. About three minutes on two cores; `--quick` shows in seconds that everything
works, and its numbers mean nothing. Needs Linux or macOS (pseudo terminals).
"""

from __future__ import annotations

import argparse
import datetime
import fcntl
import gc
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TextIO

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.reporting import machine, markdown_table
from benchmarks.runs import be_quiet
from callbacks import KerasProgressBar

BARS: dict[str, Callable[[], ProgressBar] | None] = {
    "none": None,
    "KerasProgressBar": KerasProgressBar,
    "TQDMProgressBar": TQDMProgressBar,
    "RichProgressBar": RichProgressBar,
}
COLUMNS = 100
# Timed steps in a round by the seconds that each sleeps.
STEPS = {0.0: 500, 0.01: 60}
HEADINGS = ["where", "bar", "empty step", "of the processor", "step of 10 ms", "of the processor", "bytes"]


class Cost(NamedTuple):
    """Of one step: seconds, seconds of the processor, and bytes written (of a file only)."""

    seconds: float
    processor: float
    written: float


class Idle(LightningModule):
    """Logs three values and sleeps; keeps the clocks at the end of the first batch and of the last.

    Args:
        sleep: seconds a step.
    """

    def __init__(self, sleep: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.sleep = sleep
        self.clocks: list[tuple[float, float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Ends with the clocks, so that the bar's work after the last step but one is in the time."""
        if self.sleep:
            time.sleep(self.sleep)
        loss = self.weight + 1
        for name in ("train/loss", "train/accuracy", "train/grad_norm"):
            self.log(name, loss, prog_bar=True)
        self.clocks = [*self.clocks[:1], (time.perf_counter(), time.process_time())]
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Leaves the weight alone."""
        return torch.optim.SGD(self.parameters(), 0.0)


@contextmanager
def terminal() -> Iterator[TextIO]:
    """A pseudo terminal that another process reads."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    reader = subprocess.Popen(["cat"], stdin=master, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(master)
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        yield stream
    reader.wait()


@contextmanager
def file() -> Iterator[TextIO]:
    """A file that goes away."""
    with tempfile.TemporaryFile("w", encoding="utf-8") as stream:
        yield stream


PLACES = {"terminal": terminal, "file": file}


def cost(place: str, bar: str, sleep: float, steps: int) -> Cost:
    """What a step costs with this bar, over `steps` steps after one that warms up."""
    gc.collect()
    build = BARS[bar]
    module = Idle(sleep)
    with PLACES[place]() as stream:
        # tqdm and rich look at sys.stdout when they begin to draw.
        with redirect_stdout(stream):
            _trainer(build() if build else None).fit(module, DataLoader(TensorDataset(torch.zeros(steps + 1, 1))))
        stream.flush()
        written = os.fstat(stream.fileno()).st_size if place == "file" else 0
    (begin, begin_cpu), (end, end_cpu) = module.clocks
    return Cost((end - begin) / steps, (end_cpu - begin_cpu) / steps, written / steps)


def _trainer(bar: ProgressBar | None) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[bar] if bar else [],
        enable_progress_bar=bar is not None,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )


Costs = dict[tuple[str, str, float], list[Cost]]


def measure(rounds: int, steps: dict[float, int]) -> Costs:
    """By place, bar and sleep, the costs in each round, after a round that warms up."""
    costs: Costs = {(place, bar, sleep): [] for place in PLACES for sleep in steps for bar in BARS}
    for number in track(range(rounds + 1), "rounds", console=Console(stderr=True)):
        for place, bar, sleep in costs:
            value = cost(place, bar, sleep, steps[sleep])
            if number > 0:
                costs[place, bar, sleep].append(value)
    return costs


def report(costs: Costs, origin: list[str]) -> str:
    """The Markdown text: for each place and bar, what it adds to a step."""
    rows = [_row(costs, place, bar) for place in PLACES for bar in BARS if bar != "none"]
    written_by = "Written by `python -m benchmarks.progress_bar`; edits get lost."
    return "\n\n".join(["# Progress bars: measured", written_by, *origin, markdown_table(HEADINGS, rows)]) + "\n"


def _row(costs: Costs, place: str, bar: str) -> list[str]:
    fast, slow = (_added(costs, place, bar, sleep) for sleep in STEPS)
    times = (fast.seconds, fast.processor, slow.seconds, slow.processor)
    written = f"{fast.written:,.1f}" if place == "file" else "-"
    return [place, bar, *(f"{microseconds:,.0f}" for microseconds in times), written]


def _added(costs: Costs, place: str, bar: str, sleep: float) -> Cost:
    """The medians over rounds of what a bar adds, in µs and bytes."""
    pairs = list(zip(costs[place, bar, sleep], costs[place, "none", sleep], strict=True))
    seconds = median(with_bar.seconds - without.seconds for with_bar, without in pairs)
    processor = median(with_bar.processor - without.processor for with_bar, without in pairs)
    return Cost(seconds * 1e6, processor * 1e6, median(with_bar.written for with_bar, _ in pairs))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, --quick resolved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="that count (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--quick", action="store_true", help="one round of few steps, in OUT/quick")
    args = parser.parse_args(arguments)
    if args.rounds < 1:
        parser.error(f"argument --rounds: {args.rounds} must be at least 1")
    args.steps = STEPS
    if args.quick:
        args.rounds, args.steps, args.out = 1, dict.fromkeys(STEPS, 10), args.out / "quick"
    return args


def main(arguments: list[str] | None = None) -> None:
    """Measure, then write and print the report."""
    args = parse(arguments)
    be_quiet()
    os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "CI": ""}
    costs = measure(args.rounds, args.steps)
    added = (
        "Microseconds, and those of the processor in all threads, that a bar adds to a step that does nothing and to"
        " one that takes 10 ms; bytes that it writes in an empty step."
        f" Medians of {args.rounds} round(s) after one that warms up."
    )
    warning = ["Made with --quick: these numbers mean nothing."] if args.quick else []
    text = report(costs, [*warning, added, f"Measured {datetime.date.today()} on {machine()}."])
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "progress_bar.md").write_text(text, encoding="utf-8")
    Console(file=sys.stdout).print(Markdown(text))


if __name__ == "__main__":
    main()
