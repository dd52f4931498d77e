"""Where the time of a Skip-Gram step goes: the shares of torch's operations, in one thread.

    python -m benchmarks.word_vectors_profile

Trains LibraryEmbedding as benchmarks.word_vectors does, on its English text, and records some steps with
torch.profiler. Shares are of the recorded steps' whole time; "the rest" is Python, Lightning and the datamodule.

Prints docs/results/word_vectors_profile.md; under a minute. `--quick` takes a few steps and 1,000 lines.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
import time
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.profiler import ProfilerActivity, profile

from benchmarks.reporting import machine, markdown_table
from benchmarks.runs import bare_trainer, be_quiet
from benchmarks.word_vectors_contestants import OURS, Corpus, model_of, text_of, write_corpus

WARM_UP = 50
# What the operations do here, by their names in torch.
PURPOSES = {
    "aten::bmm": "scores and gradients of a block's pairs",
    "aten::index_add_": "sums of a row's gradients; moving the rows",
    "aten::index_select": "reading rows",
    "aten::sigmoid_": "slopes of the cost",
    "aten::log_": "the cost itself, which is logged",
    "aten::mul": "gradients times a factor, for autograd and for the optimizer",
    "aten::where": "windows",
    "aten::scatter_add_": "a part of index_add_",
    "aten::nonzero": "which rows a batch touches",
}


class Recorder(Callback):
    """Records the steps after the first ones."""

    def __init__(self, steps: int) -> None:
        self.steps, self.seconds = steps, 0.0
        self.profiler = profile(activities=[ProfilerActivity.CPU])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, number: int) -> None:
        """Begin."""
        if number == WARM_UP:
            self.profiler.start()
            self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, number: int
    ) -> None:
        """End."""
        if number == WARM_UP + self.steps - 1:
            self.seconds = time.perf_counter() - self._start
            self.profiler.stop()

    def shares(self, largest: int) -> dict[str, float]:
        """Of the operations that take the longest, what each takes of the time, without those that it calls."""
        found = {event.key: event.self_cpu_time_total / 1e6 / self.seconds for event in self.profiler.key_averages()}
        operations = {name: share for name, share in found.items() if name.startswith("aten::")}
        return dict(sorted(operations.items(), key=lambda item: -item[1])[:largest])


def measure(corpus: Corpus, method: str, steps: int) -> Recorder:
    """The recorded steps of a training."""
    torch.manual_seed(0)
    recorder = Recorder(steps)
    with tempfile.TemporaryDirectory() as cache:
        trainer = bare_trainer([recorder], max_steps=WARM_UP + steps, limit_val_batches=0)
        trainer.fit(model_of(method), datamodule=text_of(corpus, 0, cache))
    return recorder


def section(method: str, recorder: Recorder) -> str:
    """A table of a method."""
    shares = recorder.shares(8)
    rows = [[name.removeprefix("aten::"), f"{share:.1%}", PURPOSES.get(name, "")] for name, share in shares.items()]
    rows.append(["the rest", f"{1 - sum(shares.values()):.1%}", ""])
    return f"{method}, {1000 * recorder.seconds / recorder.steps:.1f} ms a step:\n\n" + markdown_table(
        ["operation", "share", "what for"], rows
    )


def main(arguments: list[str] | None = None) -> None:
    """Record both of ours, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="that are recorded (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--quick", action="store_true", help="1,000 lines, 2 steps, into OUT/quick")
    args = parser.parse_args(arguments)
    lines = None
    if args.quick:
        lines, args.steps, args.out = 1000, 2, args.out / "quick"
    be_quiet()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus("english", args.data, Path(folder), 1, lines)
        sections = [section(method, measure(corpus, method, args.steps)) for method in OURS]
    origin = f"{args.steps} steps, recorded {datetime.date.today()} on {machine()}."
    report = "\n\n".join([*sections, origin]) + "\n"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "word_vectors_profile.md").write_text(report)
    print(report)


if __name__ == "__main__":
    main()
