"""A resumed run is the uninterrupted run, bit by bit, from whatever moment the checkpoint was written."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from runner.exact_resume import ExactResume
from runner.metrics_csv import MetricsCsv
from tests.toys import ToyData, ToyModule

SCHEDULES: dict[str, dict[str, Any]] = {
    "validation at the epoch's end": {},
    "validation within epochs": {"val_check_interval": 2},
    "validation across epochs": {"val_check_interval": 4, "check_val_every_n_epoch": None},
    "validation every other epoch": {"check_val_every_n_epoch": 2},
    "no validation": {"limit_val_batches": 0},
    "epochs cut short": {"limit_train_batches": 4, "val_check_interval": 2},
}


class SaveAtEveryHook(Callback):
    """Writes a checkpoint in each hook in which one may be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, trainer: Trainer, hook: str) -> None:
        if not trainer.sanity_checking:
            number = len(list(self.folder.glob("*.ckpt")))
            trainer.save_checkpoint(self.folder / f"{number:03d}-{hook}.ckpt", weights_only=False)
            rows = Path(trainer.logger.save_dir, "metrics.csv")
            if rows.exists():
                shutil.copy(rows, self.folder / f"{number:03d}-{hook}.csv")

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        self.save(trainer, "train_batch_end")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer, "validation_start")

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        self.save(trainer, "validation_batch_end")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer, "validation_end")


def fit(folder: Path, callbacks: list[Callback], ckpt_path: Path | None = None, **settings: Any) -> Trainer:
    """Trains the toy, with what the runner adds to a Trainer for exactness."""
    seed_everything(3, workers=True)
    trainer = Trainer(
        max_steps=18,
        accelerator="cpu",
        logger=MetricsCsv(folder),
        callbacks=[ExactResume(), *callbacks],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=2,
        **settings,
    )
    trainer.fit(ToyModule(), datamodule=ToyData(), ckpt_path=ckpt_path, weights_only=True)
    return trainer


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_resume_from_every_hook(tmp_path: Path, schedule: str) -> None:
    whole, saved = tmp_path / "whole", tmp_path / "saved"
    whole.mkdir()
    saved.mkdir()
    uninterrupted = fit(whole, [SaveAtEveryHook(saved)], **SCHEDULES[schedule])
    rows = (whole / "metrics.csv").read_text()
    assert uninterrupted.global_step == 18

    checkpoints = sorted(saved.glob("*.ckpt"))
    assert len(checkpoints) >= 18
    for checkpoint in checkpoints:
        folder = tmp_path / checkpoint.stem
        folder.mkdir()
        if checkpoint.with_suffix(".csv").exists():
            shutil.copy(checkpoint.with_suffix(".csv"), folder / "metrics.csv")
            # What a run that was killed later would have logged after its last checkpoint.
            MetricsCsv(folder).log_metrics({"train/loss": 0.5}, step=99)
        resumed = fit(folder, [], checkpoint, **SCHEDULES[schedule])
        assert (folder / "metrics.csv").read_text() == rows, checkpoint.name
        assert_same_state(resumed, uninterrupted)


def assert_same_state(one: Trainer, other: Trainer) -> None:
    """Parameters, optimizer and progress are equal to the last bit."""
    assert one.global_step == other.global_step
    for name, tensor in one.lightning_module.state_dict().items():
        assert torch.equal(tensor, other.lightning_module.state_dict()[name]), name
    states = [trainer.optimizers[0].state_dict()["state"] for trainer in (one, other)]
    for index, state in states[0].items():
        for key, value in state.items():
            assert torch.equal(value, states[1][index][key]), key
