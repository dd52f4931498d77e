"""Several processes in a test."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

ROOT = Path(__file__).resolve().parents[1]
Results = dict[tuple[str, int, int], Any]


class LeaveTogether(Callback):
    """Ends the processes' connection while all of them are there.

    Left to the exit of spawned processes, gloo's threads sometimes find the other side gone and abort theirs.
    """

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Waits for the others, then leaves."""
        if trainer.world_size > 1 and dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()


def trainer_of(devices: int, **options: Any) -> Trainer:
    """A Trainer of so many CPU processes that writes and shows nothing; options go before."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    strategy = "ddp" if devices > 1 else "auto"
    several: dict[str, Any] = {"devices": devices, "strategy": strategy, "use_distributed_sampler": False}
    return Trainer(**{"accelerator": "cpu", **several, **quiet, **options})


def save_result(trainer: Trainer, model: LightningModule, folder: Path, case: str, **more: Any) -> None:
    """Save what this process has at the end, and more, for :func:`results_of`; split parameters put together."""
    state = {name: v.full_tensor() if hasattr(v, "full_tensor") else v for name, v in model.state_dict().items()}
    result = {"state": state, "logged": dict(trainer.callback_metrics), **more}
    torch.save(result, folder / f"{case}-{trainer.world_size}-{trainer.global_rank}.pt")


def results_of(script: str, folder: Path, cases: Iterable[str], timeout: int) -> Results:
    """What each process of a script had at the end, with one and with two processes: by (case, devices, rank).

    Args:
        script: its name in tests/lit_modules; takes the folder and the number of processes, and saves what each has as
            CASE-DEVICES-RANK.pt.
        folder: for that.
        cases: of the script.
        timeout: seconds that each of both runs may take.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for devices in ("1", "2"):
        command = [sys.executable, str(ROOT / "tests/lit_modules" / script), str(folder), devices]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
        # The first to fail says why; the others, that it is gone.
        _, _, failure = done.stderr.partition("Traceback")
        assert done.returncode == 0, f"exit {done.returncode}:{failure[:3000]}\n...\n{done.stderr[-1000:]}"
    keys = [(case, devices, rank) for case in cases for devices in (1, 2) for rank in range(devices)]
    return {k: torch.load(folder / "{}-{}-{}.pt".format(*k), weights_only=True) for k in keys}


def assert_two_equal_one(results: Results, case: str, *, logged: float) -> dict[str, Any]:
    """See that two processes end with the parameters and logged values of one, which has them all; returned.

    Args:
        results: of :func:`results_of`.
        case: of these.
        logged: how much the logged values may differ from those of one process.
    """
    one, first, second = results[case, 1, 0], results[case, 2, 0], results[case, 2, 1]
    assert difference(first["state"], second["state"]) == 0
    assert difference(first["logged"], second["logged"]) == 0
    assert difference(one["state"], first["state"]) < 1e-5
    assert difference(one["logged"], first["logged"]) < logged
    values: dict[str, Any] = one["logged"]
    return values


def difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    """The largest between tensors of the same names."""
    assert a.keys() == b.keys()
    return max((a[k] - b[k]).abs().max().item() for k in a if a[k].numel())
