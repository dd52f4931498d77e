"""The guard names what went wrong, at once, and lets nothing bad into a checkpoint."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from callbacks import NonFiniteError, NonFiniteGuard
from tests.toys import ToyData, ToyModule


def trainer_for(folder: Path, **settings: object) -> Trainer:
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[NonFiniteGuard()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


def test_a_bad_loss_stops_the_run_in_its_own_step(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, max_steps=20)
    with pytest.raises(NonFiniteError, match=r"loss, train/loss became NaN or infinite at step 8"):
        trainer.fit(ToyModule(bad_step=7), datamodule=ToyData())
    assert trainer.global_step == 8


def test_a_finite_run_goes_to_its_end(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, max_steps=20)
    trainer.fit(ToyModule(), datamodule=ToyData())
    assert trainer.global_step == 20


class LogsInfinity(ToyModule):
    """A finite loss beside an infinite quantity, and a validation metric that has no value."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.log("train/grad_norm", torch.tensor(float("inf") if self.global_step == 9 else 1.0))
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/accuracy", torch.tensor(float("nan")))


def test_any_logged_quantity_counts_but_those_of_evaluations(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, max_steps=20)
    with pytest.raises(NonFiniteError, match="train/grad_norm became NaN or infinite at step 10"):
        trainer.fit(LogsInfinity(), datamodule=ToyData())


def test_no_checkpoint_is_written_with_bad_parameters(tmp_path: Path) -> None:
    class Poisoned(ToyModule):
        def on_train_batch_end(self: LightningModule, *args: object) -> None:
            self.linear.weight.data[0, 0] = float("nan")
            self.trainer.save_checkpoint(tmp_path / "bad.ckpt", weights_only=False)

    with pytest.raises(NonFiniteError, match=r"parameter linear\.weight"):
        trainer_for(tmp_path, max_steps=5).fit(Poisoned(), datamodule=ToyData())
    assert not (tmp_path / "bad.ckpt").exists()


def test_parameters_that_are_split_among_processes_are_looked_at(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    module = ToyModule()
    fully_shard(module.linear, mesh=init_device_mesh("cpu", (1,)))
    NonFiniteGuard().on_save_checkpoint(trainer_for(tmp_path), module, {})
    with torch.no_grad():
        module.linear.weight.mul_(float("nan"))
    with pytest.raises(NonFiniteError, match=r"parameter linear\.weight became NaN"):
        NonFiniteGuard().on_save_checkpoint(trainer_for(tmp_path), module, {})
