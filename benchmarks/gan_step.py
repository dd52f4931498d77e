"""Images/s and peak memory of one training step of a GAN: PyTorch's DCGAN tutorial against this project's modules.

    python -m benchmarks.gan_step

All contestants have the same networks and initial weights (ConvGenerator and ConvDiscriminator, width 64), the same
batches of 64 digits (28x28 with 1 channel, 64x64 with 3) and Adam(2e-4, betas (0.5, 0.999)). A round of a contestant
is one untimed step and then --steps timed ones. Under Lightning it is a fresh Trainer's fit, timed from the end of its
first batch to the end of its last, so that all of the loop is in the time. Each round visits all contestants in turn,
the first round warms up, and the medians of the others count. Ratios are taken within a round.

The tutorial's loop is the bare one that alternates: D's step, on reals and detached fakes, then G's on the same fakes,
where D gets gradients that nobody uses. What it prints each step is left out.

Peak memory is the growth of resident memory from just before the first step to the peak of 3 steps: optimizer states,
gradients, activations. On a CPU each contestant has a process of its own for it (Linux only).

Page faults are those without disk access, for each 4 KiB that the process gets from the kernel: memory that glibc gave
back after one step and needs again in the next.

Writes docs/results/gan_step.md and .csv (gan_step_cuda on a GPU). About 15 minutes on two cores; `--quick` shows in
about two minutes that everything works, and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import itertools
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.gan_step_contestants import CHANNELS, CONTESTANTS, Contestant, Loader, Setting
from benchmarks.gan_step_report import BATCH_SIZE, Costs, Result, write_report
from benchmarks.reporting import machine
from benchmarks.rounds import in_rounds
from benchmarks.runs import be_quiet, process_memory

ROOT = Path(__file__).resolve().parents[1]
# Timed steps in a round, so that it takes long against the clock's noise.
STEPS = {28: 5, 64: 2}
MEMORY_STEPS = 3
PROC = Path("/proc/self")


# ---- Time ----


def cost_per_step(contestant: Contestant, loader: Loader, device: torch.device) -> tuple[float, float]:
    """(seconds, page faults) a step of training on all batches of the loader but the first, which warms up."""
    first, last = 1, len(loader)
    clock: dict[int, tuple[float, int]] = {}

    def tell(step: int) -> None:
        if step in (first, last):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            clock[step] = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    contestant.train(loader, tell)
    seconds, faults = (end - begin for begin, end in zip(clock[first], clock[last], strict=True))
    return seconds / (last - first), faults / (last - first)


def contest(setting: Setting, rounds: int, steps: int, advance: Callable[[], object]) -> Costs:
    """By contestant, (seconds, page faults) a step in each round, after a round that warms up."""
    loader = setting.loader(1 + steps)
    contestants = {
        name: partial(cost_per_step, build(setting), loader, setting.device) for name, build in CONTESTANTS.items()
    }
    return in_rounds(contestants, rounds, advance)


# ---- Memory ----


def memory_growth(contestant: Contestant, loader: Loader, device: torch.device) -> float:
    """MiB from just before the first step to the peak of all."""
    gc.collect()
    before: list[int] = []

    def tell(step: int) -> None:
        if step == 0:
            before.append(_reset_peak(device))

    contestant.train(loader, tell)
    return (_peak(device) - before[0]) / 2**20


def _reset_peak(device: torch.device) -> int:
    """Bytes in use, from which on the peak counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    (PROC / "clear_refs").write_text("5")
    return _peak(device)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return process_memory("VmHWM")


def measure_memory(setting: Setting, name: str) -> float:
    """MiB that a contestant takes in this process."""
    contestant = CONTESTANTS[name](setting)
    return memory_growth(contestant, setting.loader(MEMORY_STEPS), setting.device)


def memory_of(setting: Setting, name: str) -> float | None:
    """MiB that a contestant takes, on a CPU in a process of its own; None for a CPU without Linux."""
    if setting.device.type == "cuda":
        return measure_memory(setting, name)
    if not (PROC / "clear_refs").exists():
        return None
    command = [sys.executable, "-m", "benchmarks.gan_step", "--memory-of", name, *_as_options(setting)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def _as_options(setting: Setting) -> list[str]:
    values = {"sizes": setting.size, "losses": setting.loss, "width": setting.width, "precision": setting.precision}
    options = [f"--{name}={value}" for name, value in values.items()]
    return [*options, "--device=cpu", *(["--compile"] if setting.compile else [])]


# ---- All of it ----


def measure(setting: Setting, rounds: int, steps: int, progress: Progress) -> Result:
    """Memory, then time of all contestants, with a bar."""
    words = f"{setting.size}x{setting.size}, {setting.loss}"
    bar = progress.add_task(f"{words}: memory", total=len(CONTESTANTS) * (rounds + 2))
    memory = {}
    for name in CONTESTANTS:
        memory[name] = memory_of(setting, name)
        progress.advance(bar)
    progress.update(bar, description=f"{words}: time")
    costs = contest(setting, rounds, steps, lambda: progress.advance(bar))
    return Result(setting.size, CHANNELS[setting.size], setting.loss, costs, memory)


def settings_of(args: argparse.Namespace) -> list[Setting]:
    """The settings to measure, small images first."""
    common = {"device": args.device, "precision": args.precision, "compile": args.compile, "width": args.width}
    return [Setting(size, loss, **common) for size, loss in itertools.product(args.sizes, args.losses)]


def origin(args: argparse.Namespace, steps: dict[int, int]) -> list[str]:
    """Settings, machine and date in words."""
    timed = " and ".join(f"{steps[size]} at {size}x{size}" for size in args.sizes)
    words = (
        f"Batch {BATCH_SIZE}, width {args.width}, precision {args.precision}, {'' if args.compile else 'not '}compiled;"
        f" medians of {args.rounds} round(s) after one that warms up; timed steps in a round: {timed}. Times the"
        f" tutorial: the median of the rounds' ratios. Peak memory: its growth from just before the first of"
        f" {MEMORY_STEPS} steps."
    )
    where = machine()
    if args.device.type == "cuda":
        where = f"{torch.cuda.get_device_name(args.device)}, {where}"
    warning = ["Made with --quick: these numbers mean nothing."] if args.quick else []
    return [*warning, words, f"Measured {datetime.date.today()} on {where}."]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, --quick and the device resolved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=_at_least_one, default=7, help="that count (default: %(default)s)")
    parser.add_argument("--steps", type=_at_least_one, help=f"timed ones in a round (default by size: {STEPS})")
    parser.add_argument("--sizes", type=int, nargs="+", choices=list(CHANNELS), default=list(CHANNELS))
    parser.add_argument("--losses", nargs="+", choices=["sgan", "rsgan"], default=["sgan", "rsgan"])
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=["32", "bf16"], default="32")
    parser.add_argument("--compile", action="store_true", help="torch.compile the networks of all contestants")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--quick", action="store_true", help="one round, 28x28, width 4, in OUT/quick")
    # For this benchmark's own children.
    parser.add_argument("--width", type=int, default=64, help=argparse.SUPPRESS)
    parser.add_argument("--memory-of", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.quick:
        args.rounds, args.steps, args.sizes, args.width, args.out = 1, 1, [28], 4, args.out / "quick"
    return args


def _at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} must be at least 1")
    return number


def _prepare(compiled: bool) -> None:
    """Quiet Lightning; let contestants compile without regard to each other."""
    be_quiet()
    if compiled:
        # They share two classes: more variants than torch allows by default, and none may slow down another.
        torch._dynamo.config.recompile_limit = 128
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        torch._dynamo.config.automatic_dynamic_shapes = False


def main(arguments: list[str] | None = None) -> None:
    """Measure, then write and print the report."""
    args = parse(arguments)
    _prepare(args.compile)
    if args.memory_of:
        print(measure_memory(settings_of(args)[0], args.memory_of))
        return
    console = Console()
    steps = {size: args.steps or STEPS[size] for size in args.sizes}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        results = [measure(setting, args.rounds, steps[setting.size], progress) for setting in settings_of(args)]
    name = "gan_step_cuda" if args.device.type == "cuda" else "gan_step"
    judge = args.device.type == "cpu" and args.precision == "32" and not args.compile and not args.quick
    console.print(Markdown(write_report(args.out, name, results, origin(args, steps), judge=judge)))


if __name__ == "__main__":
    main()
