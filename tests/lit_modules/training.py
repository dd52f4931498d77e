"""What the tests of several modules do with them."""

from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor


def fitted(trainer: Any, loader: Any, model: LightningModule, **kwargs: Any) -> dict[str, Tensor]:
    """The state dict after training, which is finite; 3 steps unless ``kwargs`` of the Trainer say otherwise."""
    trainer(**({"max_steps": 3} | kwargs)).fit(model, loader)
    assert all(v.isfinite().all() for v in model.state_dict().values())
    return model.state_dict()


def parameters_differ_by(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference of two state dicts."""
    return max((a[k] - b[k]).abs().max().item() for k in a)
