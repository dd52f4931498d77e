"""The benchmark at a tiny scale: its contestants do the same, verdicts both ways, its command."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything

from benchmarks import freeform as benchmark
from benchmarks.freeform_report import (
    FREE,
    PLAIN,
    WITHOUT,
    WITHOUT_CHEAP,
    accuracy_verdict,
    cost_in_percent,
    cost_table,
    cost_verdict,
    quality_table,
    twins_verdict,
)
from benchmarks.reporting import Row
from benchmarks.runs import Task, trainer_of


@pytest.fixture
def source(tmp_path: Path) -> str:
    random = np.random.default_rng(0)
    arrays = {"images": random.integers(0, 256, (400, 28, 28), np.uint8), "labels": random.integers(0, 10, 400)}
    np.savez(tmp_path / "noise.npz", **arrays)
    return str(tmp_path / "noise.npz")


def test_both_contestants_train_and_log_the_same() -> None:
    batch = torch.rand(8, 1, 28, 28), torch.arange(8)
    results: list[Any] = []
    for kind in benchmark.WithFreeLosses, benchmark.WithoutFreeLosses:
        torch.manual_seed(0)
        model = kind()
        trainer = trainer_of(Task(steps=3, methods={}, shared={}, samples=0), [])
        trainer.fit(model, torch.utils.data.DataLoader([batch] * 3, batch_size=None))
        results.append((model.state_dict(), dict(trainer.callback_metrics)))
    torch.testing.assert_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize("network", ["classifier", "autoencoder"])
def test_twins_start_alike_and_a_run_is_a_function_of_its_seed(network: str, source: str) -> None:
    task = benchmark.task_of(network, source, 3, held_out=100)
    starts = []
    for method in task.methods:
        seed_everything(3, verbose=False)
        starts.append(list(task.model(method).parameters()))
    torch.testing.assert_close(*starts, rtol=0, atol=0)
    for method in task.methods:
        first, again, other = (benchmark.train(network, task, method, seed, lambda _: None) for seed in (0, 0, 1))
        assert first == again != other


def _cost(free: list[float], cheap: list[float]) -> list[Row]:
    rounds = zip(free, cheap, [2 * time for time in free], strict=True)
    return [
        {"contestant": name, "seconds_per_step": str(time)}
        for times in rounds
        for name, time in zip((FREE, WITHOUT_CHEAP, WITHOUT), times, strict=True)
    ]


def test_cost_is_the_median_of_ratios() -> None:
    rows = _cost([1.0, 2.0, 3.3], [1.0, 4.0, 3.0])
    assert cost_in_percent(rows, WITHOUT_CHEAP) == pytest.approx(0)
    assert cost_table(rows).splitlines()[-3:] == [
        f"| {FREE} | 2000.000 |  |",
        f"| {WITHOUT_CHEAP} | 3000.000 | +0.00 |",
        f"| {WITHOUT} | 4000.000 | -50.00 |",
    ]
    assert cost_verdict(_cost([1.019], [1.0])).endswith("1.90 %, target at most 2 %: reached.")
    assert cost_verdict(_cost([1.021], [1.0])).endswith("not reached.")


def _rows(column: str, free: list[float], plain: list[float]) -> list[Row]:
    values = [("Free", value) for value in free] + [(PLAIN, value) for value in plain]
    return [
        {"method": name, column: str(value), "seed": str(number), "cpu_seconds": "7"}
        for number, (name, value) in enumerate(values)
    ]


def test_quality_is_judged_both_ways() -> None:
    assert accuracy_verdict(_rows("accuracy", [97.4, 97.6], [90.0])).endswith(
        "97.50 %, target at least 97.5 %: reached."
    )
    assert accuracy_verdict(_rows("accuracy", [97.4, 97.5], [99.0])).endswith("not reached.")
    assert twins_verdict(_rows("error", [1.0, 2.0], [1.5, 2.5])).endswith(
        "differ by 0.500000, seeds by 0.707107: reached."
    )
    assert twins_verdict(_rows("error", [1.0, 1.2], [1.5, 1.7])).endswith("not reached.")
    table = quality_table(_rows("error", [1.0, 2.0], [1.5, 2.5]), "error", "error", 1)
    assert table.splitlines()[-2:] == ["| Free | 1.5 ± 0.7 | 7 |", f"| {PLAIN} | 2.0 ± 0.7 | 7 |"]


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(["--quick", "--out", str(tmp_path)])
    assert capsys.readouterr().out.count("seed 0: ") == 4
    first = (tmp_path / "quick" / "freeform.md").read_text()
    assert all(
        name in first for name in (FREE, WITHOUT, WITHOUT_CHEAP, PLAIN, "FreeformClassifier", "FreeformAutoencoder")
    )
    benchmark.main(["--quick", "--out", str(tmp_path)])
    assert "seed 0: " not in capsys.readouterr().out
    assert (tmp_path / "quick" / "freeform.md").read_text() == first
