"""Canaries: they fail when an upgrade changes what lit_modules works around."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]


class Alternating(LightningModule):
    """The textbook GAN in manual optimization: two optimizers, both counted."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.g, self.d = nn.Linear(2, 2), nn.Linear(2, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        optimizers: Any = self.optimizers()
        g_optimizer, d_optimizer = optimizers
        for optimizer in (d_optimizer, g_optimizer):
            self.toggle_optimizer(optimizer)
            optimizer.zero_grad()
            self.manual_backward(self.d(self.g(batch)).mean())
            optimizer.step()
            self.untoggle_optimizer(optimizer)

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), 0.1) for part in (self.g, self.d)]


class Batches:
    """20 batches of 4 points."""

    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Any:
        return iter(torch.ones(20, 4, 2))


def quiet(**kwargs: Any) -> Any:
    silent: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    return Trainer(accelerator="cpu", devices=1, **(silent | kwargs))


def test_two_optimizers_double_the_global_step(tmp_path: Path) -> None:
    """If this fails, manual.update may no longer need its ``counts``."""
    trainer = quiet(max_steps=10, default_root_dir=tmp_path)
    trainer.fit(Alternating(), Batches())
    assert trainer.global_step == 10
    assert trainer.fit_loop.epoch_loop.total_batch_idx + 1 == 5
    assert trainer.fit_loop.epoch_loop._batches_that_stepped == 5


def test_alternating_gan_fails_on_plain_ddp(tmp_path: Path) -> None:
    """If this fails, manual.check_strategy may let plain DDP pass. One process is enough to see it."""
    trainer = quiet(max_steps=4, strategy="ddp", default_root_dir=tmp_path)
    with pytest.raises(RuntimeError, match="parameters that were not used in producing the loss"):
        trainer.fit(Alternating(), Batches())
    torch.distributed.destroy_process_group()


def test_manual_mode_never_steps_schedulers(tmp_path: Path) -> None:
    class Scheduled(Alternating):
        def configure_optimizers(self) -> Any:
            optimizers = super().configure_optimizers()
            return optimizers, [torch.optim.lr_scheduler.StepLR(o, 1) for o in optimizers]

    trainer = quiet(max_steps=4, default_root_dir=tmp_path)
    trainer.fit(Scheduled(), Batches())
    assert [o.param_groups[0]["lr"] for o in trainer.optimizers] == [0.1, 0.1]


class Activated(LightningModule):
    """A hyper-parameter that is a function."""

    def __init__(self, activation: Any = torch.tanh) -> None:
        super().__init__()
        self.save_hyperparameters()


def test_callable_hyperparameters_make_checkpoints_unloadable(tmp_path: Path) -> None:
    trainer, model = quiet(default_root_dir=tmp_path), Activated()
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    with pytest.raises(Exception, match="weights_only"):
        torch.load(tmp_path / "a.ckpt", weights_only=True)


def test_registered_callbacks_join_every_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the project's plugins have entry-point groups of their own."""
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lightning.pytorch.callbacks_factory]\nstranger = stranger:make\n")
    (tmp_path / "stranger.py").write_text(
        "from lightning.pytorch import Callback\nclass Stranger(Callback): pass\ndef make(): return Stranger()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    joined = [type(callback).__name__ for callback in quiet(default_root_dir=tmp_path).callbacks]
    monkeypatch.delitem(sys.modules, "stranger")
    assert "Stranger" in joined
