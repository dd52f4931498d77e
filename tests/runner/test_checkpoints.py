"""last.ckpt is whole whatever happens, and it is the right one."""

import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from runner.checkpoints import AtomicCheckpointIO, RunCheckpoint
from runner.exact_resume import ExactResume
from runner.metrics_csv import MetricsCsv
from tests.runner.command_line import ROOT
from tests.toys import ToyData, ToyModule

SAVE_FOR_EVER = """
import sys, torch
from runner.checkpoints import AtomicCheckpointIO
for number in range(10**9):
    AtomicCheckpointIO().save_checkpoint({"number": number, "tensor": torch.full((500_000,), number)}, sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.003, 0.02])
def test_kill_while_saving_leaves_a_whole_file(tmp_path: Path, seconds: float) -> None:
    path = tmp_path / "last.ckpt"
    process = subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, str(path)], cwd=ROOT)
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    process.wait()
    saved = torch.load(path, weights_only=True)
    assert (saved["tensor"] == saved["number"]).all()


def test_a_failed_save_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"number": 1}, path)
    with pytest.raises(AttributeError):
        AtomicCheckpointIO().save_checkpoint({"number": lambda: 2}, path)
    assert torch.load(path, weights_only=True) == {"number": 1}


def fit(folder: Path, checkpoint: RunCheckpoint, *others: Callback, **settings: object) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        logger=MetricsCsv(folder),
        callbacks=[ExactResume(), checkpoint, *others],
        log_every_n_steps=1,
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(ToyModule(), datamodule=ToyData())
    return trainer


def last_step(folder: Path) -> int:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["global_step"]


def test_the_last_step_is_saved_whatever_the_interval(tmp_path: Path) -> None:
    fit(tmp_path, RunCheckpoint(every_n_steps=1000), max_steps=8)
    assert last_step(tmp_path) == 8
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


def test_the_best_one_is_that_of_the_smallest_value(tmp_path: Path) -> None:
    trainer = fit(tmp_path, RunCheckpoint(monitor="val/loss"), max_steps=18)
    rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    column = rows[0].index("val/loss")
    values = {int(row[0]) + 1: float(row[column]) for row in rows[1:] if row[column]}
    best = min(values, key=values.__getitem__)
    assert Path(trainer.checkpoint_callback.best_model_path).name == f"best-step={best}.ckpt"
    assert trainer.checkpoint_callback.best_model_score == pytest.approx(values[best])
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [f"best-step={best}.ckpt", "last.ckpt"]


def test_within_accumulated_gradients_last_is_not_written(tmp_path: Path) -> None:
    """4 batches, 3 a step, a validation after each: after the first two there is nothing to go on from exactly."""

    class Watch(Callback):
        seen: ClassVar[list[int | None]] = []

        def on_train_batch_start(self, *args: object) -> None:
            path = tmp_path / "checkpoints/last.ckpt"
            loops = torch.load(path, weights_only=True)["loops"]["fit_loop"] if path.exists() else None
            self.seen.append(loops and loops["epoch_loop.batch_progress"]["current"]["ready"])

    settings = {"max_epochs": 1, "limit_train_batches": 4, "accumulate_grad_batches": 3, "val_check_interval": 1}
    fit(tmp_path, RunCheckpoint(every_n_steps=1), Watch(), **settings)
    assert Watch.seen == [None, None, None, 3]
    assert last_step(tmp_path) == 2


def test_every_n_steps_has_to_be_positive() -> None:
    with pytest.raises(ValueError, match="every_n_steps must be at least 1"):
        RunCheckpoint(every_n_steps=0)


def test_checkpoints_that_are_folders_are_refused() -> None:
    trainer = Trainer(accelerator="cpu", devices=1, strategy=ModelParallelStrategy(1, 1), logger=False)
    with pytest.raises(ValueError, match=r"set trainer.strategy.save_distributed_checkpoint to false"):
        RunCheckpoint().setup(trainer, ToyModule(), "fit")
