"""What all modules share: logging a step cheaply gives what Lightning's log gives."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor, nn

from lit_modules.parts.base import BaseModule


class Kept(DummyLogger):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, metrics))


class Watching(Callback):
    """Keeps what callbacks and the progress bar see after each batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, float], dict[str, float]]] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        shown = {name: float(value) for name, value in trainer.progress_bar_metrics.items()}
        self.seen.append(({name: float(value) for name, value in trainer.callback_metrics.items()}, shown))


class Cheap(BaseModule):
    """Logs two numbers a step by log_step, the second one on odd batches only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.calls = 0

    def values(self, batch: Any, batch_idx: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.layer(batch[0]).square().mean()
        return loss, {"train/loss": loss} | ({"train/odd": 2 * loss} if batch_idx % 2 else {})

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, values = self.values(batch, batch_idx)
        self.log_step(values, in_bar=("odd",))
        return loss

    def log(self, *args: Any, **kwargs: Any) -> None:
        self.calls += 1
        super().log(*args, **kwargs)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        LightningModule.log(self, "val/loss", self.layer(batch[0]).mean(), batch_size=1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class Lightnings(Cheap):
    """The same by Lightning's log."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, values = self.values(batch, batch_idx)
        for name, value in values.items():
            self.log(name, value, on_step=True, on_epoch=False, prog_bar=name.endswith("odd"))
        return loss


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"log_every_n_steps": 3}], ids=str)
def test_it_logs_what_lightning_logs(trainer: Any, batches: Any, points: Tensor, options: dict[str, int]) -> None:
    """To loggers, callbacks and the progress bar, over epochs, validations and a second fit."""
    results = []
    for kind in Cheap, Lightnings:
        torch.manual_seed(0)
        model, logger, watching = kind(), Kept(), Watching()
        for _ in range(2):
            settings: dict[str, Any] = {"log_every_n_steps": 1, "max_epochs": 2, "val_check_interval": 3} | options
            t = trainer(logger=logger, callbacks=[watching], num_sanity_val_steps=0, max_steps=-1, **settings)
            t.fit(model, batches(points, 8), batches(points, 32))
        results.append((model, logger.rows, watching.seen))
    (cheap, *logged), (plain, *expected) = results
    assert logged == expected
    assert len(expected[0]) > 8
    # Once a name and fit, against once a value.
    assert (cheap.calls, plain.calls) == (4, 48)


def test_without_a_trainer_it_is_silent() -> None:
    with pytest.warns(UserWarning, match="self.log"):
        Cheap().log_step({"train/loss": torch.ones(())}, in_bar=())


def test_evaluating_leaves_the_mode_as_it_was() -> None:
    module = BaseModule()
    for training in (True, False):
        module.train(training)
        with module.evaluating():
            assert not module.training
        assert module.training == training
        with pytest.raises(AttributeError), module.evaluating():
            _ = module.absent
        assert module.training == training
