"""Runs that are stopped or killed, as processes, and resumed: they end as if nothing had happened."""

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.comparing import assert_same
from tests.runner.command_line import TOY, finish, only_run, rows, run_to_end, start, wait_for

pytestmark = pytest.mark.slow
SETTINGS = ("--trainer.max_steps=24", "--trainer.log_every_n_steps=1", "--checkpoint.every_n_steps=1")
TWO = ("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run_to_end(folder, "fit", *TOY, *SETTINGS)
    return only_run(folder)


@pytest.fixture(scope="module")
def uninterrupted_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole-pair")
    run_to_end(folder, "fit", *TOY, *SETTINGS, *TWO)
    return only_run(folder)


def assert_same_run(one: Path, other: Path) -> None:
    """Two run folders hold the same rows and the same state, to the last bit."""
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()
    states = [torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (one, other)]
    assert states[0]["global_step"] == states[1]["global_step"] == 24
    assert states[0]["loops"] == states[1]["loops"]
    for key in ("state_dict", "optimizer_states", "callbacks"):
        assert_same(states[0][key], states[1][key], key)


def test_sigterm_in_training(tmp_path: Path, uninterrupted: Path) -> None:
    slow = start(tmp_path, "fit", *TOY, *SETTINGS, "--model.step_seconds=0.2")
    wait_for(lambda: len(rows(tmp_path)) > 9, slow)
    slow.send_signal(signal.SIGTERM)
    said = finish(slow, code=143)
    assert f"--ckpt_path {only_run(tmp_path).relative_to(tmp_path)}/checkpoints/last.ckpt" in said
    assert len(rows(tmp_path)) < 24
    run_to_end(tmp_path, "fit", *TOY, *SETTINGS, "--ckpt_path=last")
    assert_same_run(only_run(tmp_path), uninterrupted)


def test_sigterm_in_validation(tmp_path: Path, uninterrupted: Path) -> None:
    slow = start(tmp_path, "fit", *TOY, *SETTINGS, "--model.validation_seconds=2", "--trainer.num_sanity_val_steps=0")
    wait_for(lambda: len(rows(tmp_path)) == 7, slow)
    slow.send_signal(signal.SIGTERM)
    finish(slow, code=143)
    assert len(rows(tmp_path)) == 7
    run_to_end(tmp_path, "fit", *TOY, *SETTINGS, "--ckpt_path=last")
    assert_same_run(only_run(tmp_path), uninterrupted)


def test_ctrl_c(tmp_path: Path, uninterrupted: Path) -> None:
    slow = start(tmp_path, "fit", *TOY, *SETTINGS, "--model.step_seconds=0.2")
    wait_for(lambda: len(rows(tmp_path)) > 4, slow)
    slow.send_signal(signal.SIGINT)
    assert "stopping after this step" in finish(slow, code=130)
    run_to_end(tmp_path, "fit", *TOY, *SETTINGS, "--ckpt_path=last")
    assert_same_run(only_run(tmp_path), uninterrupted)


def test_kill(tmp_path: Path, uninterrupted: Path) -> None:
    slow = start(tmp_path, "fit", *TOY, *SETTINGS, "--model.step_seconds=0.05")
    wait_for(lambda: len(rows(tmp_path)) > 12, slow)
    slow.kill()
    finish(slow, code=-signal.SIGKILL)
    run_to_end(tmp_path, "fit", *TOY, *SETTINGS, "--ckpt_path=last")
    assert_same_run(only_run(tmp_path), uninterrupted)


def test_two_processes_stopped(tmp_path: Path, uninterrupted_pair: Path) -> None:
    slow = start(tmp_path, "fit", *TOY, *SETTINGS, *TWO, "--model.step_seconds=0.2")
    wait_for(lambda: len(rows(tmp_path)) > 5, slow)
    slow.send_signal(signal.SIGTERM)
    finish(slow, code=143)
    assert len(rows(tmp_path)) < 24
    run_to_end(tmp_path, "fit", *TOY, *SETTINGS, *TWO, "--ckpt_path=last")
    assert_same_run(only_run(tmp_path), uninterrupted_pair)


def test_two_processes_killed(tmp_path: Path, uninterrupted_pair: Path) -> None:
    slow = start(tmp_path, "fit", *TOY, *SETTINGS, *TWO, "--model.step_seconds=0.05")
    wait_for(lambda: len(rows(tmp_path)) > 8, slow)
    os.killpg(slow.pid, signal.SIGKILL)
    finish(slow, code=-signal.SIGKILL)
    run_to_end(tmp_path, "fit", *TOY, *SETTINGS, *TWO, "--ckpt_path=last")
    assert_same_run(only_run(tmp_path), uninterrupted_pair)


def test_non_finite_loss(tmp_path: Path) -> None:
    said = run_to_end(tmp_path, "fit", *TOY, *SETTINGS, "--model.bad_step=7", code=1)
    assert "error: loss, train/loss became NaN or infinite at step 8" in said
    assert "Traceback" not in said
    checkpoint = torch.load(only_run(tmp_path) / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 7
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint["state_dict"].values())


def test_non_finite_loss_in_two_processes(tmp_path: Path) -> None:
    said = run_to_end(tmp_path, "fit", *TOY, *SETTINGS, *TWO, "--model.bad_step=7", code=1)
    assert "became NaN or infinite at step 8" in said


GAN = (
    "--model=RelativisticGAN",
    "--model.width=4",
    "--data=ImageDataModule",
    "--data.subset=220",
    "--data.batch_size=20",
    "--data.horizontal_flip=true",
    "--data.in_memory_limit=0",
    "--data.num_workers=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.callbacks+=ExponentialMovingAverage",
    "--trainer.callbacks.module=generator",
)


def test_workers_killed_within_an_epoch(tmp_path: Path) -> None:
    """Two optimizers, averaged weights, images decoded by worker processes, killed in the second epoch of three."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    run_to_end(whole, "fit", *GAN, *SETTINGS)
    slow = start(cut, "fit", *GAN, *SETTINGS)
    wait_for(lambda: len(rows(cut)) > 14, slow)
    os.killpg(slow.pid, signal.SIGKILL)
    finish(slow, code=-signal.SIGKILL)
    assert len(rows(cut)) < len(rows(whole))
    run_to_end(cut, "fit", *GAN, *SETTINGS, "--ckpt_path=last")
    assert_same_run(only_run(cut), only_run(whole))
    saved = torch.load(only_run(cut) / "checkpoints" / "last.ckpt", weights_only=True)
    assert any("ExponentialMovingAverage" in name for name in saved["callbacks"])


def test_a_run_that_goes_on_is_not_resumed(tmp_path: Path) -> None:
    slow = start(tmp_path, "fit", *TOY, *SETTINGS, "--model.step_seconds=1")
    wait_for(lambda: len(rows(tmp_path)) > 2, slow)
    assert "another process is running in" in run_to_end(tmp_path, "fit", *TOY, "--ckpt_path=last", code=2)
    slow.kill()
    finish(slow, code=-signal.SIGKILL)
