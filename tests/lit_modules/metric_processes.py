"""Metrics on one of two processes that have different numbers of texts and batches. Run by the tests of metrics.

Usage: python tests/lit_modules/metric_processes.py FOLDER RANK MODULE

The module has `updated(batches)`: metrics after these batches, lists of numbers of texts.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torchmetrics import Metric

ROOT = Path(__file__).resolve().parents[2]


def as_floats(metric: Metric) -> dict[str, float]:
    """What a metric computes, by name."""
    value: Any = metric.compute()
    return {name: float(v) for name, v in (value if isinstance(value, dict) else {"value": value}).items()}


def on_two_processes(module: str, folder: Path) -> list[list[dict[str, float]]]:
    """What each of two processes computes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen([sys.executable, __file__, str(folder), rank, module], env=environment, stderr=subprocess.PIPE)
        for rank in "01"
    ]
    for process in ranks:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in "01"]


def main(folder: Path, rank: int, module: str) -> None:
    """Compute with 59 of 100 texts in 4 batches here, and 41 in 3 there; then with all on the first process."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    results = []
    for division in ((range(59), range(59, 100)), (range(100), range(0))):
        texts = division[rank]
        batches = [list(texts[start : start + 16]) for start in range(0, len(texts), 16)]
        results += [as_floats(metric) for metric in importlib.import_module(module).updated(batches)]
    (folder / f"{rank}.json").write_text(json.dumps(results))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
