"""Several optimizers and several batches count as one step."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from lit_modules import RelativisticGAN

TINY: dict[str, Any] = {"network": "points", "latent_dim": 2, "width": 4}


class Count(Callback):
    """Batches, and the parameters and learning rates after each."""

    def __init__(self) -> None:
        self.global_steps: list[int] = []
        self.lrs: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.global_steps.append(trainer.global_step)
        self.lrs.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize("generator_steps", [1, 3])
def test_max_steps_counts_steps(trainer: Any, batches: Any, points: Tensor, generator_steps: int) -> None:
    count = Count()
    t = trainer(max_steps=10, callbacks=[count])
    t.fit(RelativisticGAN(**TINY, generator_steps=generator_steps), batches(points, 4))
    assert count.global_steps == list(range(1, 11))


def test_a_step_of_several_batches(trainer: Any, batches: Any, points: Tensor) -> None:
    """6 batches a step, 16 an epoch: steps of 6, 6 and 4."""
    count = Count()
    t = trainer(max_epochs=2, callbacks=[count])
    t.fit(RelativisticGAN(**TINY, discriminator_steps=3, accumulate_grad_batches=2), batches(points, 4))
    epoch = [0] * 5 + [1] * 6 + [2] * 4 + [3]
    assert count.global_steps == epoch + [3 + n for n in epoch]


def test_limit_train_batches_ends_an_epoch(trainer: Any, batches: Any, points: Tensor) -> None:
    count = Count()
    t = trainer(max_epochs=2, limit_train_batches=5, callbacks=[count])
    t.fit(RelativisticGAN(**TINY, accumulate_grad_batches=4), batches(points, 4))
    assert count.global_steps == [0, 0, 0, 1, 2, 2, 2, 2, 3, 4]


@pytest.mark.parametrize("gathered", [1, 3])
def test_logger_axis_is_the_global_step(
    trainer: Any, batches: Any, points: Tensor, tmp_path: Path, gathered: int
) -> None:
    logger = CSVLogger(tmp_path, name="", version="csv", flush_logs_every_n_steps=1)
    t = trainer(max_epochs=2, logger=logger, log_every_n_steps=1, callbacks=[LearningRateMonitor()])
    t.fit(
        RelativisticGAN(**TINY, accumulate_grad_batches=gathered, warmup_steps=2),
        batches(points, 4),
        batches(points, 32),
    )
    with open(tmp_path / "csv" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    steps = 2 * -(-16 // gathered)
    assert t.global_step == t.fit_loop.epoch_loop._batches_that_stepped == steps
    # Each step once, and validation at the step it followed.
    assert [int(row["step"]) for row in rows if row["train/d_loss"]] == list(range(steps))
    assert [int(row["step"]) for row in rows if row["val/d_real"]] == [steps // 2 - 1, steps - 1]


def test_checkpoint_names(trainer: Any, batches: Any, points: Tensor, tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, every_n_train_steps=2, save_top_k=-1, filename="{step}")
    t = trainer(max_steps=5, enable_checkpointing=True, callbacks=[checkpoint])
    t.fit(RelativisticGAN(**TINY, discriminator_steps=2), batches(points, 4))
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["step=2.ckpt", "step=4.ckpt"]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_schedule_spans_the_run(trainer: Any, batches: Any, points: Tensor, accumulate: int) -> None:
    count = Count()
    t = trainer(max_epochs=2, callbacks=[count])
    t.fit(
        RelativisticGAN(**TINY, lr_schedule="linear", accumulate_grad_batches=accumulate, discriminator_lr=1.0),
        batches(points, 4),
    )
    steps = 2 * -(-16 // accumulate)
    expected = [1 - s / steps for s in count.global_steps]
    assert count.lrs == pytest.approx(expected)
    assert count.lrs[-1] == 0


def test_schedule_with_max_steps(trainer: Any, batches: Any, points: Tensor) -> None:
    count = Count()
    t = trainer(max_steps=4, max_epochs=-1, callbacks=[count])
    model = RelativisticGAN(**TINY, lr_schedule="linear", discriminator_steps=2, discriminator_lr=1.0)
    t.fit(model, batches(points, 4))
    assert count.lrs == pytest.approx([1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25, 0])


def test_schedule_without_an_end(trainer: Any, batches: Any, points: Tensor) -> None:
    with pytest.raises(ValueError, match=r"set trainer\.max_steps"):
        trainer(max_epochs=-1).fit(RelativisticGAN(**TINY, lr_schedule="cosine"), batches(points, 4))


def test_plain_ddp_is_refused(trainer: Any, batches: Any, points: Tensor) -> None:
    with pytest.raises(ValueError, match="ddp_find_unused_parameters_true"):
        trainer(strategy="ddp", max_steps=1).fit(RelativisticGAN(**TINY), batches(points, 4))
    torch.distributed.destroy_process_group()
