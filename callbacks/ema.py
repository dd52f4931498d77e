"""Exponential moving average of a submodule's weights, such as a GAN's generator."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class ExponentialMovingAverage(Callback):
    """Keeps averaged weights of one submodule and validates, tests and predicts with them.

    The average starts as a copy of the weights; then average <- decay * average + (1 - decay) * weights.
    Buffers, such as batch norm's statistics, are copied. Weights in half precision are averaged in float32.

    A step is a training batch in which an optimizer stepped: accumulation makes no steps, and a GAN's two
    optimizers make one together. Lightning's own `EMAWeightAveraging` counts `trainer.global_step`, which two
    optimizers move by two, and with `update_every_n_steps=2` then never updates (PL#21724).

    The averaged weights are copied into the module from `on_validation_start` to `on_validation_end` (the
    same for test and predict), the raw ones back afterwards, also after an exception. The callback moves
    itself to the front of the trainer's callbacks, so that all others see the same weights wherever they are
    listed. Checkpoints hold the raw weights in `state_dict` at any time, and the averaged ones in this
    callback's state: `load_averaged_weights` reads them.

    Args:
        module: path of the submodule, such as "generator"; "" averages the whole LightningModule.
        decay: share of the old average that an update keeps, in [0, 1].
        every_n_steps: steps from one update to the next.
        start_step: number of steps before the first update.

    Raises:
        ValueError: an argument is out of its range, or (when training starts) `module` is no submodule's
            path.
    """

    def __init__(self, module: str, decay: float = 0.999, every_n_steps: int = 1, start_step: int = 0) -> None:
        if every_n_steps < 1 or start_step < 0:
            raise ValueError(
                f"every_n_steps must be at least 1 and start_step at least 0, got {every_n_steps} and {start_step}"
            )
        self.module = module
        self.decay = decay
        self.every_n_steps = every_n_steps
        self.start_step = start_step
        self._blend = get_ema_multi_avg_fn(decay)
        self._average: dict[str, Tensor] = {}
        self._raw: dict[str, Tensor] = {}  # holds the raw weights while the averaged ones are in the module
        self._steps = 0
        self._updates = 0
        self._global_step = 0

    @property
    def updates(self) -> int:
        """Number of updates so far; 0 means that nothing was averaged yet."""
        return self._updates

    @property
    def state_key(self) -> str:
        """Key of this callback's state in a checkpoint: one for each submodule."""
        return self._generate_state_key(module=self.module)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Move to the front; a new list, because Lightning is iterating over the present one."""
        trainer.callbacks = [self, *(other for other in trainer.callbacks if other is not self)]  # type: ignore[attr-defined]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the submodule's path before anything is trained."""
        _submodule(pl_module, self.module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count from where the run stands: a resumed one doesn't start at 0."""
        self._global_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average if an optimizer stepped in this batch and it is the average's turn."""
        if trainer.global_step == self._global_step:
            return
        self._global_step = trainer.global_step
        self._steps += 1
        if self._steps > self.start_step and (self._steps - self.start_step - 1) % self.every_n_steps == 0:
            self._update(_tensors(_submodule(pl_module, self.module)))

    @contextmanager
    def averaged_weights(self, pl_module: pl.LightningModule) -> Iterator[None]:
        """The module with its averaged weights, also outside validation; no change if there are none yet."""
        swapped_before = bool(self._raw)
        self._swap_in(pl_module)
        try:
            yield
        finally:
            if not swapped_before:
                self._swap_out(pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the averaged weights into the module."""
        self._swap_in(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the raw weights back."""
        self._swap_out(pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the averaged weights into the module."""
        self._swap_in(pl_module)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the raw weights back."""
        self._swap_out(pl_module)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the averaged weights into the module."""
        self._swap_in(pl_module)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the raw weights back."""
        self._swap_out(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Put the raw weights back: whatever runs after this, such as a last checkpoint, sees them."""
        self._swap_out(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """See to it that a checkpoint made during validation holds the raw weights too."""
        if not self._raw:
            return
        self._swap_out(pl_module)
        prefix = f"{self.module}." if self.module else ""
        for name, value in trainer.strategy.lightning_module_state_dict().items():
            if name.startswith(prefix) and isinstance(value, Tensor):
                checkpoint["state_dict"][name] = value.clone()
        self._swap_in(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors, strings and integers: loads with `weights_only=True`."""
        return {
            "module": self.module,
            "average": self._average,
            "steps": self._steps,
            "updates": self._updates,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state that `state_dict` gave."""
        self._average = dict(state_dict["average"])
        self._steps = state_dict["steps"]
        self._updates = state_dict["updates"]

    @torch.no_grad()
    def _update(self, weights: dict[str, Tensor]) -> None:
        now = {name: value.detach().to(_averaging_dtype(value)) for name, value in weights.items()}
        if self._updates == 0:
            self._average = {name: value.clone() for name, value in now.items()}
        else:
            _check_names(self._average, weights, self.module)
            # A restored average comes from the CPU.
            self._average = {name: value.to(now[name].device) for name, value in self._average.items()}
            blended = [name for name, value in weights.items() if isinstance(value, nn.Parameter)]
            if blended:
                self._blend([self._average[name] for name in blended], [now[name] for name in blended], 0)
            for name in now.keys() - set(blended):
                self._average[name].copy_(now[name])
        self._updates += 1

    @torch.no_grad()
    def _swap_in(self, pl_module: pl.LightningModule) -> None:
        if self._updates == 0 or self._raw:
            return
        weights = _tensors(_submodule(pl_module, self.module))
        _check_names(self._average, weights, self.module)
        self._raw = {name: value.detach().clone() for name, value in weights.items()}
        _copy(self._average, weights)

    @torch.no_grad()
    def _swap_out(self, pl_module: pl.LightningModule) -> None:
        if self._raw:
            _copy(self._raw, _tensors(_submodule(pl_module, self.module)))
            self._raw = {}


@contextmanager
def averaged_weights(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[None]:
    """The module with the averaged weights of all the trainer's averages, also outside validation."""
    with ExitStack() as averaged:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ExponentialMovingAverage):
                averaged.enter_context(callback.averaged_weights(pl_module))
        yield


@torch.no_grad()
def load_averaged_weights(module: pl.LightningModule, checkpoint_path: str | Path) -> None:
    """Copy the averaged weights of a checkpoint into `module`, for use without a Trainer.

    `gan = RelativisticGAN.load_from_checkpoint(path)` gives the raw weights of the last training step;
    `load_averaged_weights(gan, path)` then replaces those that `ExponentialMovingAverage` averaged.

    Raises:
        ValueError: the checkpoint holds no averaged weights, or those of another network.
    """
    checkpoint = torch.load(checkpoint_path, map_location="cpu", weights_only=True)
    states = [
        state
        for key, state in checkpoint.get("callbacks", {}).items()
        if key.startswith(ExponentialMovingAverage.__qualname__) and state["updates"] > 0
    ]
    if not states:
        raise ValueError(f"{checkpoint_path!s} holds no averaged weights: was it trained with an EMA?")
    for state in states:
        weights = _tensors(_submodule(module, state["module"]))
        _check_names(state["average"], weights, state["module"])
        _copy(state["average"], weights)


def _submodule(pl_module: nn.Module, path: str) -> nn.Module:
    try:
        return pl_module.get_submodule(path)
    except AttributeError:
        paths = [name for name, _ in pl_module.named_modules() if name]
        near = difflib.get_close_matches(path, paths, n=3) or [name for name in paths if "." not in name]
        raise ValueError(
            f"{type(pl_module).__name__} has no submodule {path!r}; the nearest: {', '.join(near)}"
        ) from None


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """The live parameters and persistent buffers of a module, named alike whether it is compiled or not."""
    return {
        name.replace("_orig_mod.", ""): value
        for name, value in module.state_dict(keep_vars=True).items()
        if isinstance(value, Tensor)
    }


def _averaging_dtype(value: Tensor) -> torch.dtype:
    # A step of 0.001 of the difference is lost in 8 or 11 bits.
    return torch.promote_types(value.dtype, torch.float32) if value.is_floating_point() else value.dtype


def _check_names(average: dict[str, Tensor], weights: dict[str, Tensor], path: str) -> None:
    differing = sorted(average.keys() ^ weights.keys())
    differing += [n for n in average.keys() & weights.keys() if average[n].shape != weights[n].shape]
    if differing:
        raise ValueError(
            f"the averaged weights of {path or 'the module'!r} are those of another network:"
            f" {', '.join(differing[:3])} differ"
        )


def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    # In place: optimizers, compiled graphs and DDP keep their references.
    for name, value in target.items():
        value.copy_(source[name])
