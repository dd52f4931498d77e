"""Two processes on the halves of a batch train on free losses, and log them, as one process on the whole."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.lit_modules.free_losses_two_processes import CASES

ROOT = Path(__file__).resolve().parents[2]


def run(case: str, devices: int, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tests/lit_modules/free_losses_two_processes.py", str(folder), str(devices), case]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, float]:
    assert a.keys() == b.keys()
    return {name: (a[name] - b[name]).abs().max().item() for name in a}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(tmp_path: Path, case: str) -> None:
    for devices in (1, 2):
        done = run(case, devices, tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
    one, first, second = (torch.load(tmp_path / f"{case}-{of}.pt", weights_only=True) for of in ("1-0", "2-0", "2-1"))
    assert max(differences(first["state"], second["state"]).values()) == 0
    assert max(differences(first["logged"], second["logged"]).values()) == 0
    assert max(differences(one["state"], first["state"]).values()) < 1e-6
    assert max(differences(one["logged"], first["logged"]).values()) < 1e-5, (one["logged"], first["logged"])
    assert {"train/loss", "val/loss"} <= first["logged"].keys()


@pytest.mark.slow
def test_processes_that_disagree_say_so(tmp_path: Path) -> None:
    done = run("unequal", 2, tmp_path)
    assert done.returncode != 0
    assert "the processes added different losses or metrics in one step" in done.stderr
    assert "add a zero where there is nothing" in done.stderr
