"""Defects of the libraries that the runner works around: a test that fails here says that a work-around can go."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.toys import ToyData, ToyModule

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Plain(LightningModule):
    """A module with the data loader that everybody writes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def training_step(self, batch: tuple[Tensor], batch_idx: int) -> Tensor:
        return (self.linear(batch[0]) + torch.randn(4, 1)).pow(2).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(torch.arange(72.0).reshape(24, 3) / 72), batch_size=4, shuffle=True)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
@pytest.mark.parametrize("steps", [6, 9], ids=["at an epoch's end", "within an epoch"])
def test_resume_is_not_exact(tmp_path: Path, steps: int) -> None:
    seed_everything(0)
    trainer = Trainer(max_steps=steps, **QUIET)
    trainer.fit(Plain())
    trainer.save_checkpoint(tmp_path / "cut.ckpt", weights_only=False)
    resumed = Trainer(max_steps=12, **QUIET)
    seed_everything(0)
    resumed.fit(Plain(), ckpt_path=tmp_path / "cut.ckpt")

    seed_everything(0)
    whole = Trainer(max_steps=12, **QUIET)
    whole.fit(Plain())
    assert not torch.equal(whole.model.linear.weight, resumed.model.linear.weight)


def test_sigterm_ends_with_0_and_saves_nothing(tmp_path: Path) -> None:
    class Terminated(ToyModule):
        def on_train_batch_end(self, *args: object) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as stopped:
        Trainer(max_steps=9, default_root_dir=tmp_path, **QUIET | {"enable_checkpointing": True}).fit(
            Terminated(), datamodule=ToyData()
        )
    assert stopped.value.code in (None, 0)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_nan_runs_to_the_end() -> None:
    trainer = Trainer(max_steps=9, **QUIET)
    trainer.fit(ToyModule(bad_step=2), datamodule=ToyData())
    assert trainer.global_step == 9
    assert torch.isnan(trainer.model.linear.weight).all()


TWO_RUNS = """
import fsspec
from lightning.pytorch.cli import LightningCLI
from tests.toys import ToyData, ToyModule
with fsspec.open("memory://config.yaml", "w") as file:
    file.write("trainer: {max_steps: 1, logger: false, enable_progress_bar: false}")
run = lambda: LightningCLI(ToyModule, ToyData, args=["fit", "--config", "memory://config.yaml"])
run()
print("A CONFIG FROM AN ADDRESS RAN")
run()
"""


@pytest.mark.slow
def test_a_second_run_in_the_folder_aborts_and_addresses_are_configs(tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-c", TWO_RUNS],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert "A CONFIG FROM AN ADDRESS RAN" in done.stdout
    assert done.returncode != 0
    assert "to NOT exist" in done.stderr
