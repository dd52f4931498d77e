"""Sweeps of a toy, as processes."""

import csv
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.runner.command_line import finish, start, wait_for

# Seconds that a sweep may take: a trial is a start of the program, and there may be a dozen.
TIMEOUT = 800.0
CONFIG = {
    "model": {"class_path": "tests.toys.ToyModule"},
    "data": {"class_path": "tests.toys.ToyData"},
    "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1, "max_steps": 6},
}
LR = {"model.init_args.lr": {"min": 0.01, "max": 0.2}}


def write_sweep(folder: Path, parameters: dict[str, Any], **keys: Any) -> tuple[str, ...]:
    """The command line of a sweep of the toy, its files written to `folder`; --trials is missing."""
    space = {"method": "random", "metric": {"name": "val/loss"}, "parameters": parameters} | keys
    (folder / "toy.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "space.yaml").write_text(yaml.safe_dump(space))
    return ("sweep", "--config=toy.yaml", "--space=space.yaml")


def sweep_to_end(folder: Path, *command: str, code: int = 0) -> str:
    """Runs a sweep to its end and returns what it printed."""
    return finish(start(folder, *command), code, TIMEOUT)


def start_sweep(folder: Path, *command: str, until: int, wandb: str = "disabled") -> subprocess.Popen[str]:
    """Starts a sweep and waits until so many trials have begun to log."""
    sweep = start(folder, *command, wandb=wandb)
    wait_for(lambda: len(logged(folder)) >= until, sweep, TIMEOUT)
    return sweep


def results(folder: Path) -> list[dict[str, str]]:
    """The rows of the sweep's trials.csv."""
    with (folder / "runs/toy/sweep-space/trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def states(folder: Path) -> list[str]:
    """What became of the trials, sorted."""
    return sorted(row["state"] for row in results(folder))


def logged(folder: Path) -> list[Path]:
    """The metrics.csv of all trials that have begun to log."""
    return list(folder.glob("runs/*/sweep-*/trials/*/*/*/metrics.csv"))


def processes(folder: Path, module: str = "") -> list[int]:
    """The processes that run in `folder`, by number, or those of them that run a module."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            inside = (path / "cwd").readlink() == folder
            command = (path / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if inside and (not module or module in command):
            found.append(int(path.name))
    return found


def parent_of(process: int) -> int:
    """The process that started another one."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Waits until `condition` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def kill_a_busy_worker(folder: Path) -> None:
    """Kills a worker as its trial trains, and sees that the trial ends with it."""
    trial = next(process for process in processes(folder, "runner.sweep_child") if is_logging(process))
    os.kill(parent_of(trial), 9)
    wait_until(lambda: not Path(f"/proc/{trial}").exists())


def is_logging(process: int) -> bool:
    """Whether a trial's process has begun to log."""
    arguments = Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")
    (root,) = (word.partition("=")[2] for word in arguments if word.startswith("--trainer.default_root_dir="))
    return any(Path(root).glob("*/*/metrics.csv"))
