"""Runs run.py as a user would, in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
# What a run in this process may have left in its environment.
LEFT_BY_RUNS = {"LITSPACES_RUN_FOLDER", "PL_GLOBAL_SEED", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"} | {
    "NODE_RANK",
    "LOCAL_RANK",
}
TOY = ("--model=tests.toys.ToyModule", "--data=tests.toys.ToyData", "--trainer.enable_progress_bar=false")


def clean_environment(wandb: str = "disabled") -> dict[str, str]:
    """This process's, without what a run in it has left, for a run of its own."""
    environment = {name: value for name, value in os.environ.items() if name not in LEFT_BY_RUNS}
    return environment | {"PYTHONPATH": str(ROOT), "WANDB_MODE": wandb, "OMP_NUM_THREADS": "1"}


def start(folder: Path, *arguments: str, wandb: str = "disabled") -> subprocess.Popen[str]:
    """Starts `run.py` in `folder`, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        cwd=folder,
        env=clean_environment(wandb),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], code: int = 0, timeout: float = 180) -> str:
    """Waits for the end, checks the exit code and returns all that was printed."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
    return out + err


def run_to_end(folder: Path, *arguments: str, code: int = 0, wandb: str = "disabled") -> str:
    """Runs a command line to its end."""
    return finish(start(folder, *arguments, wandb=wandb), code)


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 90) -> None:
    """Waits until `condition` holds, while `process` lives."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def rows(folder: Path) -> Sequence[str]:
    """The rows of the only run's metrics.csv below `folder`."""
    files = list(folder.glob("runs/*/*/metrics.csv"))
    return files[0].read_text().splitlines() if files else []


def last_checkpoint(folder: Path) -> dict[str, Any]:
    """What the last checkpoint of the only run below `folder` holds."""
    checkpoint: dict[str, Any] = torch.load(only_run(folder) / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint


def only_run(folder: Path) -> Path:
    """The only run's folder below `folder`."""
    (run,) = folder.glob("runs/*/*")
    return run
