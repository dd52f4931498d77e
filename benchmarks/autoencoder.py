"""Autoencoders: what the entropy term costs, images/s beside pythae's, and FID of pythae's models beside ours.

    pip install -c constraints.txt -r benchmarks/autoencoder_requirements.txt
    python -m benchmarks.autoencoder

Three parts, which `--parts` does one by one; the report is made of all that was ever measured:

- entropy: a training step of EntropicAutoencoder with the entropy and without it, batch 256, d = 16. Needs no pythae.
- speed: whole trainings of our VAE and EAE and of pythae's VAE in one run, with the same networks and images.
- quality: pythae's VAE, WAE-MMD and RAE-L2 on the dense networks, measured by the code that measures ours. A run that
  is finished is in its CSV and is not repeated; `--jobs 2` does two side by side. `--tune` tries seven weights for each
  model first, as benchmarks.entropic_autoencoder does for ours; otherwise they have pythae's defaults.

Writes docs/results/autoencoder.md and autoencoder_{entropy,speed,tuning}.csv and autoencoder.csv. On two cores about
25 minutes for entropy and speed, which want a machine that does nothing else, and about 25 for quality with `--tune
--jobs 2`. `--quick` shows in about a minute that everything works, and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.autoencoder_report import BATCH_SIZE, PYTHAE, Measured, write_report
from benchmarks.autoencoder_speed import OURS, Setting, entropy_contestants, speed_contestants
from benchmarks.entropic_autoencoder import HELD_OUT, STEPS, TUNING_SEED, best_weights, digits_task
from benchmarks.reporting import Row, append_rows, machine, read_rows
from benchmarks.rounds import in_rounds
from benchmarks.runs import Table, be_quiet, command_line, measure, shrink_if_quick

Rounds = dict[str, list[float]]  # by contestant, one number a round
PARTS = ("entropy", "speed", "quality")
NETWORKS = ("dense", "convolutional")
# Timed steps in a round of the entropy's share, so that it takes long against the clock's noise.
ENTROPY_STEPS = {"dense": 50, "convolutional": 15}
IMAGES = 25_600  # of the speed's trainings: 100 whole batches, more than a processor's caches hold
DEFAULT_WEIGHTS = {PYTHAE: 1.0, "pythae WAE-MMD": 0.03, "pythae RAE-L2": 1e-4}
# As many as ours get, each around what is usual for the loss.
WEIGHTS: dict[str, Sequence[float]] = {
    PYTHAE: [0.1, 0.3, 1, 3, 10, 30, 100],
    "pythae WAE-MMD": [0.03, 3, 10, 30, 100, 300, 1000],
    "pythae RAE-L2": [1e-4, 0.01, 0.1, 0.3, 1, 3, 10],
}
NO_PYTHAE = (
    "pythae is not installed, which this benchmark compares with:"
    " pip install -c constraints.txt -r benchmarks/autoencoder_requirements.txt"
)


def timed_rows(results: Mapping[str, Rounds], column: str, **setting: object) -> list[dict[str, object]]:
    """A row for each network, contestant and round."""
    where = {"date": datetime.date.today().isoformat(), "machine": machine()}
    return [
        {"network": network, "contestant": name, "round": number, column: f"{value:.6g}"} | setting | where
        for network, rounds in results.items()
        for name, values in rounds.items()
        for number, value in enumerate(values, 1)
    ]


def time_all(
    contestants: Mapping[str, Mapping[str, Callable[[], float]]], rounds: int, title: str, console: Console
) -> dict[str, Rounds]:
    """Results by network, with a bar."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    results = {}
    with Progress(*columns, console=console) as progress:
        for network, some in contestants.items():
            bar = progress.add_task(f"{title}, {network}", total=len(some) * (rounds + 1))
            results[network] = in_rounds(some, rounds, lambda bar=bar: progress.advance(bar))  # type: ignore[misc]
    return results


def time_entropy(args: argparse.Namespace, console: Console) -> None:
    """Write autoencoder_entropy.csv anew."""
    steps = {network: 2 if args.quick else ENTROPY_STEPS[network] for network in args.networks}
    contestants = {network: entropy_contestants(network, args.images, steps[network]) for network in args.networks}
    results = time_all(contestants, args.rounds, "entropy", console)
    rewrite(args.out / "autoencoder_entropy.csv", timed_rows(results, "seconds"))


def time_trainings(args: argparse.Namespace, console: Console) -> None:
    """Write autoencoder_speed.csv anew."""
    from benchmarks.autoencoder_pythae import PYTHAES

    count = 2 * BATCH_SIZE if args.quick else args.count
    settings = [Setting(network, args.images, count, args.epochs) for network in args.networks]
    contestants = {setting.network: speed_contestants(setting, PYTHAES | OURS) for setting in settings}
    results = time_all(contestants, args.rounds, "speed", console)
    common = {"images": count, "epochs": args.epochs, "data": Path(args.images).name}
    rewrite(args.out / "autoencoder_speed.csv", timed_rows(results, "images_per_second", **common))


def rewrite(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Replace a CSV."""
    path.unlink(missing_ok=True)
    append_rows(path, rows)


def quality_table_of(args: argparse.Namespace, name: str, weights: Mapping[str, Sequence[float]]) -> Table[Any]:
    """The runs of "quality" or "tuning", the latter of half as many steps."""
    from benchmarks import autoencoder_pythae

    tuning = name == "tuning"
    steps = args.steps // 2 if tuning else args.steps
    methods = autoencoder_pythae.methods(dict(weights))
    task = digits_task(args.images, steps, methods, 500 if args.quick else HELD_OUT)
    train = autoencoder_pythae.tune if tuning else autoencoder_pythae.train
    path = args.out / ("autoencoder_tuning.csv" if tuning else "autoencoder.csv")
    return Table(f"pythae's {name}", task, train, path)


def measure_quality(args: argparse.Namespace, console: Console) -> None:
    """Do what is missing in autoencoder.csv, and with --tune in autoencoder_tuning.csv first."""
    weights: dict[str, Sequence[float]] = {name: [weight] for name, weight in DEFAULT_WEIGHTS.items()}
    if args.tune:
        tuning = quality_table_of(args, "tuning", args.weights)
        measure([tuning], [TUNING_SEED], console, args.jobs)
        weights = dict(best_weights(tuning.rows([TUNING_SEED]), args.weights))
    table = quality_table_of(args, "quality", weights)
    measure([table], args.seeds, console, args.jobs)


def measured_so_far(args: argparse.Namespace) -> Measured:
    """The rows of all CSVs; those of quality for this run's images and steps."""

    def quality(name: str, steps: int) -> list[Row]:
        key = {"data": Path(args.images).name, "steps": str(steps)}
        return [row for row in read_rows(args.out / name) if key.items() <= row.items()]

    entropy, speed = (read_rows(args.out / f"autoencoder_{part}.csv") for part in ("entropy", "speed"))
    theirs, ours = (quality(f"{name}.csv", args.steps) for name in ("autoencoder", "entropic_autoencoder"))
    return Measured(entropy, speed, theirs, quality("autoencoder_tuning.csv", args.steps // 2), ours, args.weights)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, --quick resolved."""
    parser = command_line(__doc__, STEPS)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="of entropy and speed")
    parser.add_argument("--rounds", type=int, default=5, help="of entropy and speed that count (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=1, help="timed ones of a training (default: %(default)s)")
    parser.add_argument("--count", type=int, default=IMAGES, help="images in an epoch of speed (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of torch for entropy and speed (default: torch's own)")
    parser.add_argument("--tune", action="store_true", help="choose weights of pythae's models first")
    args = parser.parse_args(arguments)
    if min(args.rounds, args.epochs) < 1:
        parser.error("--rounds and --epochs must be at least 1")
    if args.count < BATCH_SIZE or args.count % BATCH_SIZE:
        parser.error(f"--count must be a multiple of {BATCH_SIZE}")
    args.weights = WEIGHTS
    shrink_if_quick(args)
    if args.quick:
        args.rounds, args.epochs, args.weights = 1, 1, {name: tried[2:4] for name, tried in WEIGHTS.items()}
    return args


def _prepare(args: argparse.Namespace) -> None:
    """Stop where pythae is needed and absent; quiet Lightning."""
    if set(args.parts) - {"entropy"} and importlib.util.find_spec("pythae") is None:
        sys.exit(NO_PYTHAE)
    be_quiet()
    if args.threads:
        torch.set_num_threads(args.threads)


def main(arguments: list[str] | None = None) -> None:
    """Measure the parts, then write and print the report."""
    args = parse(arguments)
    _prepare(args)
    console = Console(file=sys.stdout)
    console.print(f"{machine()}, {datetime.date.today()}", highlight=False)
    if "entropy" in args.parts:
        time_entropy(args, console)
    if "speed" in args.parts:
        time_trainings(args, console)
    if "quality" in args.parts:
        torch.set_num_threads(1)
        measure_quality(args, console)
    console.print(Markdown(write_report(args.out, measured_so_far(args), judge=not args.quick)))


if __name__ == "__main__":
    main()
