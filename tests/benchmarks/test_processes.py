"""Timing steps in one process and in two."""

import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from benchmarks import processes
from benchmarks.processes import ALONE, CONFIGS, WAYS, StepTimes, Way, batch_size, command, measure_all, report
from benchmarks.reporting import read_rows
from tests.toys import ToyModule


def test_every_article_has_a_config() -> None:
    assert len(CONFIGS) == 9
    assert all((processes.ROOT / "configs" / f"{config}.yaml").is_file() for config in CONFIGS)


def test_step_times_are_those_after_the_warm_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0] * 10 + [1.0, 1.5, 2.5, 2.6])
    monkeypatch.setattr(processes.time, "perf_counter", lambda: next(now))
    times = StepTimes(str(tmp_path / "times.json"))
    for _ in range(14):
        times.on_train_batch_end(Trainer(accelerator="cpu", logger=False))
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    times.on_train_end(trainer, ToyModule(width=5))
    # Three inputs and a bias for each of five outputs.
    assert json.loads((tmp_path / "times.json").read_text()) == {"ms": 500.0, "megabytes": 80e-6}


def test_two_processes_get_half_of_the_batch_each(tmp_path: Path) -> None:
    assert batch_size("single_loss_gan") == 64
    assert batch_size("library_embedding") is None
    two = command("single_loss_gan", Way(2, 1), 60, tmp_path / "times.json", tmp_path)
    assert {"--data.batch_size=32", "--trainer.devices=2", "--trainer.max_steps=71"} < set(two)
    assert not any("batch_size" in option for option in command("library_embedding", ALONE, 60, tmp_path, tmp_path))


def test_the_table_has_medians_over_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Way]] = []

    def measured(config: str, way: Way, steps: int) -> dict[str, float]:
        asked.append((config, way))
        return {"ms": 10.0 * len(asked) * way.processes, "megabytes": 1.25}

    monkeypatch.setattr(processes, "measure", measured)
    measure_all(["single_loss_gan"], 60, 3, tmp_path / "processes.csv")
    assert asked == [("single_loss_gan", way) for way in WAYS] * 3
    rows = read_rows(tmp_path / "processes.csv")
    assert [float(row["ms"]) for row in rows] == [10, 20, 60, 40, 50, 120, 70, 80, 180]
    text = report(rows)
    assert "| `single_loss_gan` | 64 | 1.2 | 40.0 | 50.0 | 120.0 | 3.00 |" in text
    assert "Medians of 60 steps and 3 round(s)" in text


def test_a_training_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def failing(*arguments: Any) -> list[str]:
        return [processes.sys.executable, "-c", "raise SystemExit('no such thing')"]

    monkeypatch.setattr(processes, "command", failing)
    with pytest.raises(RuntimeError, match="no such thing"):
        processes.measure("single_loss_gan", ALONE, 1)


@pytest.mark.slow
def test_two_processes_are_timed() -> None:
    found = processes.measure("freeform_classifier", Way(2, 1), 3)
    assert found["ms"] > 0
    # 784 x 100 and 100 x 10 weights, and their biases.
    assert found["megabytes"] == pytest.approx(4 * (78_500 + 1_010) / 1e6)
