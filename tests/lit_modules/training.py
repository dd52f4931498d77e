"""What the tests of several modules do with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from tests.comparing import assert_same


def fitted(trainer: Any, loader: Any, model: LightningModule, **kwargs: Any) -> dict[str, Tensor]:
    """The state dict after training, which is finite; 3 steps unless ``kwargs`` of the Trainer say otherwise."""
    trainer(**({"max_steps": 3} | kwargs)).fit(model, loader)
    assert all(v.isfinite().all() for v in model.state_dict().values())
    return model.state_dict()


def parameters_differ_by(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference of two state dicts."""
    return max((a[k] - b[k]).abs().max().item() for k in a)


def assert_resumes(
    trainer: Callable[..., Trainer],
    make: Callable[[], LightningModule],
    data: Callable[[], Any],
    folder: Path,
    *,
    epochs: int,
) -> Trainer:
    """See that a run that was stopped halfway ends as if it hadn't been, to the last bit.

    Returns the Trainer of its second half.

    Args:
        trainer: makes Trainers.
        make: makes the module.
        data: makes what it is trained on.
        folder: for the checkpoint.
        epochs: of the whole run.
    """
    torch.manual_seed(1)
    whole = make()
    trainer(max_epochs=epochs).fit(whole, data())
    torch.manual_seed(1)
    half = trainer(max_epochs=epochs // 2)
    half.fit(make(), data())
    half.save_checkpoint(folder / "half.ckpt", weights_only=False)
    resumed, end = make(), trainer(max_epochs=epochs)
    end.fit(resumed, data(), ckpt_path=folder / "half.ckpt", weights_only=True)
    assert_same(dict(resumed.state_dict()), dict(whole.state_dict()))
    return end


def logged(trainer: Trainer, split: str) -> dict[str, float]:
    """What was logged under names that begin with ``split``, by the rest of them."""
    found = trainer.callback_metrics.items()
    return {name.removeprefix(split): value.item() for name, value in found if name.startswith(split)}
