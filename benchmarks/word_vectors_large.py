"""Words/s of Skip-Gram with a large vocabulary, on the accelerator beside the CPU of the same machine.

    python -m benchmarks.word_vectors_large

A text of words drawn by Zipf's law, 400,000 different ones, and vectors of 300 numbers: two tables of 480 MB. Whole
trainings of LibraryEmbedding under a Trainer, in turns after one that warms up; words/s count all words of the text,
those thinned out too. Without an accelerator the CPU is measured alone.

Prints docs/results/word_vectors_large.md; about three minutes. `--quick` takes a small text and vocabulary, to show
that it works.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.reporting import machine, markdown_table
from benchmarks.rounds import in_rounds
from benchmarks.runs import bare_trainer, be_quiet
from datamodules import TextDataModule
from lit_modules import LibraryEmbedding

SENTENCE = 20
BATCH_SIZES = (4096, 16384, 65536)


def write_text(path: Path, words: int, vocabulary: int) -> None:
    """A text in which the word of rank r has a frequency of 1/r, and each occurs."""
    generator = np.random.default_rng(0)
    chances = 1 / np.arange(1, vocabulary + 1)
    drawn = generator.choice(vocabulary, words - vocabulary, p=chances / chances.sum())
    numbers = generator.permutation(np.concatenate([drawn, np.arange(vocabulary)]))
    with path.open("w", encoding="utf-8") as file:
        for sentence in np.array_split(numbers, max(1, words // SENTENCE)):
            file.write(" ".join(f"w{number}" for number in sentence) + "\n")


class Clock(Callback):
    """Seconds from the first step's start to the last's end."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start."""
        self._start = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop, when all that was asked of the accelerator is done."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._start


def words_per_second(text: Path, cache: Path, words: int, dim: int, accelerator: str, batch_size: int) -> float:
    """Of one epoch."""
    data = TextDataModule(str(text), min_count=1, batch_size=batch_size, val_fraction=0, cache_dir=str(cache))
    model = LibraryEmbedding(
        "dot",
        dim=dim,
        tied=False,
        normalizer="negative",
        optimizer="lit_modules.parts.row_optimizers.RowAdagrad",
        learning_rate=0.2,
        initial_scale=1 / dim,
        lr_schedule="linear",
    )
    clock = Clock()
    bare_trainer([clock], accelerator=accelerator, max_epochs=1, limit_val_batches=0).fit(model, datamodule=data)
    return words / clock.seconds


def main(arguments: list[str] | None = None) -> None:
    """Measure all, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=5_000_000, help="of the text (default: %(default)s)")
    parser.add_argument("--vocabulary", type=int, default=400_000, help="different words (default: %(default)s)")
    parser.add_argument("--dim", type=int, default=300, help="numbers in a vector (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="that count (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--quick", action="store_true", help="20,000 words, one round, into OUT/quick")
    args = parser.parse_args(arguments)
    if args.quick:
        args.words, args.vocabulary, args.dim, args.rounds, args.out = 20_000, 2_000, 16, 1, args.out / "quick"
    be_quiet()
    devices = ["cpu", "gpu"] if torch.cuda.is_available() else ["cpu"]
    with tempfile.TemporaryDirectory() as folder:
        text, cache = Path(folder, "text.txt"), Path(folder, "cache")
        write_text(text, args.words, args.vocabulary)
        one = functools.partial(words_per_second, text, cache, args.words, args.dim)
        # On the CPU larger batches gain nothing, and it takes the longest.
        contestants = {
            (device, size): functools.partial(one, device, size)
            for device in devices
            for size in (BATCH_SIZES if device == "gpu" else BATCH_SIZES[:1])
        }
        measured = in_rounds(contestants, args.rounds)
    first = statistics.median(measured["cpu", BATCH_SIZES[0]])
    rows = [
        [
            device,
            f"{size:,}",
            f"{statistics.median(values):,.0f}",
            f"{min(values):,.0f} to {max(values):,.0f}",
            f"{statistics.median(values) / first:.1f}",
        ]
        for (device, size), values in measured.items()
    ]
    name = torch.cuda.get_device_name() if len(devices) > 1 else "no accelerator"
    table = markdown_table(["device", "batch", "words/s", "of all rounds", "times the CPU"], rows)
    report = (
        f"{table}\n\n{args.words:,} words, {args.vocabulary:,} different ones, {args.dim} numbers a vector; the median"
        f" of {args.rounds} round(s). Measured {datetime.date.today()} on {machine()}, {name}.\n"
    )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "word_vectors_large.md").write_text(report)
    print(report)


if __name__ == "__main__":
    main()
