"""EntityLinker with two processes against one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.lit_modules.linking_processes import CASES
from tests.lit_modules.tiny_encoder import tiny_encoder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int, int], Any]:
    """(case, devices, rank) to what that process had at the end."""
    folder = tmp_path_factory.mktemp("processes")
    tiny_encoder(folder / "bert", dropout=0.0)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for devices in ("1", "2"):
        command = [sys.executable, str(ROOT / "tests/lit_modules/linking_processes.py"), str(folder), devices]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    keys = [(case, devices, rank) for case in CASES for devices in (1, 2) for rank in range(devices)]
    return {k: torch.load(folder / "{}-{}-{}.pt".format(*k), weights_only=True) for k in keys}


def difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    assert a.keys() == b.keys()
    return max((a[k] - b[k]).abs().max().item() for k in a if a[k].numel())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(results: Any, case: str) -> None:
    one, first, second = results[case, 1, 0], results[case, 2, 0], results[case, 2, 1]
    assert difference(first["state"], second["state"]) == 0
    assert difference(first["logged"], second["logged"]) == 0
    assert difference(one["state"], first["state"]) < 1e-5
    assert difference(one["logged"], first["logged"]) < 1e-5
    assert one["logged"]["train/link"] > 0
