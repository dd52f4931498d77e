"""last.ckpt is whole whatever happens, and it is the right one."""

import multiprocessing
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from runner.checkpoints import AtomicCheckpointIO, RunCheckpoint
from runner.exact_resume import ExactResume
from runner.metrics_csv import MetricsCsv
from tests.toys import ToyData, ToyModule


def save_for_ever(path: Path) -> None:
    for number in range(10**9):
        AtomicCheckpointIO().save_checkpoint({"number": number, "tensor": torch.full((500_000,), number)}, path)


@pytest.mark.parametrize("seconds", [0.0, 0.003, 0.007, 0.02, 0.05])
def test_kill_while_saving_leaves_a_whole_file(tmp_path: Path, seconds: float) -> None:
    path = tmp_path / "last.ckpt"
    process = multiprocessing.get_context("fork").Process(target=save_for_ever, args=(path,))
    process.start()
    while not path.exists():
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    process.join()
    saved = torch.load(path, weights_only=True)
    assert (saved["tensor"] == saved["number"]).all()


def test_a_failed_save_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"number": 1}, path)
    with pytest.raises(AttributeError):
        AtomicCheckpointIO().save_checkpoint({"number": lambda: 2}, path)
    assert torch.load(path, weights_only=True) == {"number": 1}


def fit(folder: Path, checkpoint: RunCheckpoint, **settings: object) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        logger=MetricsCsv(folder),
        callbacks=[ExactResume(), checkpoint],
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
    """6 batches an epoch, 4 a step, validation after each batch: last.ckpt stays at the boundary."""
    fit(
        tmp_path,
        RunCheckpoint(every_n_steps=1),
        max_epochs=1,
        limit_train_batches=3,
        accumulate_grad_batches=2,
        val_check_interval=1,
    )
    saved = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    assert saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["ready"] == 3


def test_every_n_steps_has_to_be_positive() -> None:
    with pytest.raises(ValueError, match="every_n_steps must be at least 1"):
        RunCheckpoint(every_n_steps=0)
