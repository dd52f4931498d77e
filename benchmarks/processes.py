"""What a second process costs: a step of each article's config on half batches in two processes, beside one process.

    python -m benchmarks.processes

makes docs/results/processes.md, and processes.csv with a row for each training. Each is `run.py fit` in a process of
its own, with one thread or two; they take turns, round by round. A step lasts from one batch's end to the next one's
end, so that loading the data counts, and logging; nothing is validated. `--quick` shows in a few minutes that
everything works; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress

from benchmarks.reporting import Row, append_rows, machine, markdown_table, read_rows, when_and_where

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = (
    "relativistic_gan",
    "library_embedding",
    "optimization_flow",
    "freeform_autoencoder",
    "freeform_classifier",
    "single_loss_gan",
    "entity_linker",
    "entropic_autoencoder",
    "question_answer_generator",
)
WARM_UP = 10
SECONDS = 600


class Way(NamedTuple):
    """How a config is trained."""

    processes: int
    threads: int

    def __str__(self) -> str:
        return f"{self.processes} x {self.threads}"


ALONE = Way(1, 1)
WAYS = (ALONE, Way(1, 2), Way(2, 1))


class StepTimes(Callback):
    """Writes how long training steps took, in the first process.

    Args:
        path: of a JSON file: the median in milliseconds, and the megabytes of parameters that get gradients.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file."""
        if not trainer.is_global_zero:
            return
        ends = self.ends[WARM_UP:]
        steps = [end - start for start, end in itertools.pairwise(ends)]
        size = sum(p.numel() * p.element_size() for p in pl_module.parameters() if p.requires_grad)
        self.path.write_text(json.dumps({"ms": 1000 * median(steps), "megabytes": size / 1e6}))


def batch_size(config: str) -> int | None:
    """Of one process; None for data whose processes share each batch whatever its size."""
    settings = yaml.safe_load((ROOT / "configs" / f"{config}.yaml").read_text())
    size: int | None = settings["data"].get("init_args", {}).get("batch_size")
    return size


def command(config: str, way: Way, steps: int, times: Path, folder: Path) -> list[str]:
    """The command line of one training."""
    size = batch_size(config)
    trainer = {
        "accelerator": "cpu",
        "devices": way.processes,
        "max_steps": WARM_UP + 1 + steps,
        "limit_val_batches": 0,
        "enable_progress_bar": "false",
        "default_root_dir": folder,
    }
    options = [f"--trainer.{name}={value}" for name, value in trainer.items()]
    options += ["--trainer.callbacks+=benchmarks.processes.StepTimes", f"--trainer.callbacks.path={times}"]
    # The last step writes one anyway.
    options += [f"--checkpoint.every_n_steps={WARM_UP + 1 + steps}", "--checkpoint.monitor=null"]
    if size is not None:
        options.append(f"--data.batch_size={size // way.processes}")
    return [sys.executable, "run.py", "fit", "--config", f"configs/{config}.yaml", *options]


def measure(config: str, way: Way, steps: int) -> dict[str, float]:
    """What StepTimes writes.

    Raises:
        RuntimeError: the training failed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(way.threads), "WANDB_MODE": "disabled"}
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder, "times.json")
        arguments = command(config, way, steps, times, Path(folder))
        done = subprocess.run(
            arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
        measured: dict[str, float] = json.loads(times.read_text())
        return measured


def measure_all(configs: Sequence[str], steps: int, rounds: int, path: Path) -> None:
    """Train each config in each way, in turn, and write a row for each."""
    # The threads are those of each way.
    where = re.sub(r" \d+ thread\(s\),", "", machine())
    origin = {"steps": steps, "date": datetime.date.today().isoformat(), "machine": where}
    path.unlink(missing_ok=True)
    with Progress() as progress:
        bar = progress.add_task("training", total=rounds * len(configs) * len(WAYS))
        for number in range(1, rounds + 1):
            for config in configs:
                for way in WAYS:
                    progress.update(bar, description=f"{config}, {way}")
                    row = {"config": config, "way": str(way), "round": number}
                    measured = {name: f"{value:.4g}" for name, value in measure(config, way, steps).items()}
                    append_rows(path, [row | measured | origin])
                    progress.advance(bar)


def report(rows: Sequence[Row]) -> str:
    """The table, and where it was measured."""
    lines = []
    for config in dict.fromkeys(row["config"] for row in rows):
        own = [row for row in rows if row["config"] == config]
        times = {way: median(float(row["ms"]) for row in own if row["way"] == str(way)) for way in WAYS}
        size = batch_size(config)
        lines.append(
            [
                f"`{config}`",
                "all" if size is None else str(size),
                f"{float(own[0]['megabytes']):.1f}",
                *(f"{times[way]:.1f}" for way in WAYS),
                f"{times[Way(2, 1)] / times[ALONE]:.2f}",
            ]
        )
    ways = [f"{way.processes} process{'es' * (way.processes > 1)}, {way.threads} thread(s), ms" for way in WAYS]
    headings = ["config", "global batch", "parameters, MB", *ways, "2 processes / 1"]
    rounds = len({row["round"] for row in rows})
    notes = f"Medians of {rows[0]['steps']} steps and {rounds} round(s), {when_and_where(rows)}."
    return f"# A second process\n\n{markdown_table(headings, lines)}\n\n{notes}\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and writes the table."""
    parser = argparse.ArgumentParser(description="what a second process costs")
    parser.add_argument("--quick", action="store_true", help="two configs, few steps, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    args = parser.parse_args(arguments)
    configs, steps, rounds = (CONFIGS[:2], 5, 1) if args.quick else (CONFIGS, 60, args.rounds)
    out = args.out / "quick" if args.quick else args.out
    measure_all(configs, steps, rounds, out / "processes.csv")
    text = report(read_rows(out / "processes.csv"))
    (out / "processes.md").write_text(text)
    Console().print(Markdown(text))


if __name__ == "__main__":
    main()
