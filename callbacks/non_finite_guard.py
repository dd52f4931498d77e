"""Stops a run whose numbers have become NaN or infinite, before they reach a checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor


class NonFiniteError(RuntimeError):
    """A logged quantity or a parameter is NaN or infinite; the message names it and the step."""


class NonFiniteGuard(Callback):
    """Ends training within one step of the first non-finite number; Lightning runs on to the end.

    After each batch it looks at the returned loss and at everything logged in that batch: one `isfinite` over one
    small tensor, one synchronization with the device. Whenever a checkpoint is about to be written it looks at the
    parameters too, so that none is ever saved with NaN in it.

    Raises:
        NonFiniteError: on all ranks together, also when only one of them met the number.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Checks the loss and what was logged."""
        bad = _non_finite(_named(outputs) | _training_metrics(trainer))
        if trainer.strategy.reduce_boolean_decision(bool(bad), all=False):
            raise NonFiniteError(_message(bad, trainer))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Checks the parameters; the checkpoint is not written if one is bad."""
        bad = _non_finite(dict(pl_module.named_parameters()))
        if bad:
            raise NonFiniteError(_message([f"parameter {name}" for name in bad], trainer))


def _named(outputs: Any) -> dict[str, Tensor]:
    """What training_step returned, by name."""
    outputs = outputs if isinstance(outputs, dict) else {"loss": outputs}
    return {name: value for name, value in outputs.items() if isinstance(value, Tensor)}


def _training_metrics(trainer: Trainer) -> dict[str, Tensor]:
    """What was logged, without the evaluations: a metric that has no value yet is no reason to stop training."""
    logged = trainer.callback_metrics.items()
    return {name: value for name, value in logged if not name.startswith(("val/", "test/"))}


def _non_finite(tensors: dict[str, Tensor]) -> list[str]:
    """The names of the floating-point tensors that hold a NaN or an infinity."""
    floats = {name: tensor.detach() for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floats:
        return []
    finite = torch.stack([_whole(torch.isfinite(tensor).all()) for tensor in floats.values()]).tolist()
    return [name for name, good in zip(floats, finite, strict=True) if not good]


def _whole(flag: Tensor) -> Tensor:
    """Of a parameter that is split among the processes, what all of them find."""
    return flag.full_tensor() if isinstance(flag, DTensor) else flag


def _message(bad: list[str], trainer: Trainer) -> str:
    what = ", ".join(bad) if bad else "a quantity on another process"
    return f"{what} became NaN or infinite at step {trainer.global_step}; the last good checkpoint is kept."
