"""The closing summary names what exists, and nothing else."""

from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks import RunSummary
from tests.toys import ToyData, ToyModule


def fit(folder: Path, summary: RunSummary, checkpoint: ModelCheckpoint | None = None) -> Trainer:
    trainer = Trainer(
        max_steps=6,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        callbacks=[summary, *([checkpoint] if checkpoint else [])],
        enable_checkpointing=checkpoint is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(ToyModule(), datamodule=ToyData())
    return trainer


def test_a_run_with_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "media").mkdir()
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints", monitor="val/loss", save_last=True, filename="{step}")
    summary = RunSummary("python run.py fit --ckpt_path {checkpoint}")
    trainer = fit(tmp_path, summary, checkpoint)
    lines = dict(summary.lines(trainer))
    assert lines["steps"] == "6 (1 epochs)"
    assert lines["best"] == f"val/loss {float(checkpoint.best_model_score):.4g}"
    assert lines["pictures"] == str(tmp_path / "media")
    assert lines["checkpoint"] == str(tmp_path / "checkpoints" / "step=6.ckpt")
    assert lines["resume"] == f"python run.py fit --ckpt_path {tmp_path / 'checkpoints' / 'last.ckpt'}"
    assert "metrics" not in lines
    printed = capsys.readouterr().out
    assert all(text in printed for text in lines.values())


def test_a_run_that_kept_nothing(tmp_path: Path) -> None:
    summary = RunSummary("never shown {checkpoint}")
    assert [label for label, _ in summary.lines(fit(tmp_path, summary))] == ["steps"]


def test_a_command_with_braces(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, save_last=True)
    summary = RunSummary("run.py fit '--trainer.callbacks+={}' --ckpt_path {checkpoint}")
    lines = dict(summary.lines(fit(tmp_path, summary, checkpoint)))
    assert lines["resume"] == f"run.py fit '--trainer.callbacks+={{}}' --ckpt_path {tmp_path / 'last.ckpt'}"


def test_paths_below_this_folder_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "media").mkdir()
    summary = RunSummary()
    assert dict(summary.lines(fit(tmp_path, summary)))["pictures"] == "media"
