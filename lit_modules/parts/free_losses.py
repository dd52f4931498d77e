"""A LightningModule's base that trains on losses, and logs metrics, from anywhere in the model (see ``added_losses``).

L = (what ``training_step`` returns) + sum of w_i L_i over the calls ``add_loss(name_i, L_i, weight=w_i)`` of the step,
made by the module itself or by any part of it.
"""

import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn

from lit_modules.parts.added_losses import OPEN, Collected, add_loss, add_metric, collect_step, weighted_sum
from lit_modules.parts.distributed import mean_over_ranks, rank_and_world_size
from lit_modules.parts.step_log import log_training_step

_SPLITS = {"training_step": "train", "validation_step": "val", "test_step": "test"}


class FreeLosses(LightningModule):
    """Makes any LightningModule train on the losses, and log the metrics, that its parts add.

        class Mine(FreeLosses, LightningModule): ...

    or, of a finished module, ``class Mine(FreeLosses, Theirs)``. ``training_step`` may return a loss of its own (or a
    dict with "loss"), to which what was added is added, or nothing. ``validation_step`` and ``test_step`` stay as they
    are. Logged are train/NAME in each step, val/NAME and test/NAME as means over the epoch, and where a loss was added,
    also the sum as train/loss, val/loss and test/loss. In a distributed run all of these are means over processes.

    In manual optimization the losses come from :meth:`take_losses`.

    Raises:
        ValueError: (in a step) the step logs one of these names itself.
        RuntimeError: (in a step) processes added different names, or manual optimization took not all losses.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, split in _SPLITS.items():
            step = getattr(cls, name)
            if step is not getattr(LightningModule, name) and not hasattr(step, "_collects"):
                setattr(cls, name, _collecting(step, split))

    def add_loss(self, name: str, value: Tensor, weight: float | Tensor = 1.0) -> None:
        """As the function :func:`add_loss`, which parts of the module call."""
        add_loss(name, value, weight)

    def add_metric(self, name: str, value: Tensor | float) -> None:
        """As the function :func:`add_metric`, which parts of the module call."""
        add_metric(name, value)

    def take_losses(self) -> Tensor:
        """The sum (scalar) of what was added in this step since the last call; it is then not added to the step's loss.

        Raises:
            RuntimeError: nothing was added, or no step is running.
        """
        total = OPEN[-1].take() if OPEN else None
        if total is None:
            raise RuntimeError("take_losses() found no loss: nothing called add_loss in this step since the last call")
        return total

    def log(self, name: str, *args: Any, **kwargs: Any) -> None:
        """LightningModule's, which also remembers the names that a step has taken."""
        if OPEN:
            OPEN[-1].logged.add(name)
        super().log(name, *args, **kwargs)

    # The names that all processes were seen to have.
    _agreed: tuple[str, ...] = ()

    @torch.compiler.disable  # Lightning's log cannot be compiled.
    def _log_added(self, collected: Collected, loss: Tensor | None, split: str) -> None:
        values = collected.values()
        if loss is not None:
            values["loss"] = loss.detach()
        for name in values:
            if f"{split}/{name}" in collected.logged:
                raise ValueError(f"{split}/{name} is logged by {type(self).__name__} and added: rename one of the two")
        if split == "train":
            means = self._means({name: values[name] for name in sorted(values)})
            log_training_step(self, {f"train/{name}": means[name] for name in values}, in_bar=("",))
            return
        for name, value in values.items():
            self.log(f"{split}/{name}", value, on_step=False, on_epoch=True, sync_dist=True, prog_bar=True)

    def _means(self, values: dict[str, Tensor | float]) -> dict[str, Tensor]:
        """Means over processes, float32.

        One exchange, which also tells whether all have the same names. The memory is no value's own: a CUDA graph that
        is replayed writes to that again.
        """
        numbers = [torch.as_tensor(value, dtype=torch.float32, device=self.device) for value in values.values()]
        means = torch.stack(numbers)
        if rank_and_world_size()[1] > 1:
            means = self._over_processes(tuple(values), means)
        return dict(zip(values, means, strict=True))

    def _over_processes(self, names: tuple[str, ...], numbers: Tensor) -> Tensor:
        code = zlib.crc32("\n".join(names).encode())
        # Small whole numbers: exact in float32, and so is their mean if they are equal.
        header = [float(len(names)), float(code & 0xFFF), float(code >> 12 & 0xFFF)]
        numbers = torch.cat([torch.tensor(header, device=self.device), numbers])
        # Padded, so that processes that disagree still exchange tensors of one size, and can say so.
        means = mean_over_ranks(nn.functional.pad(numbers, (0, -len(numbers) % 64)))
        # Reading numbers waits for a GPU: done when the names are new.
        if names != self._agreed and means[:3].tolist() != header:
            raise RuntimeError(
                f"the processes added different losses or metrics in one step (this one: {', '.join(names)}): all have"
                " to add the same names in each step; add a zero where there is nothing"
            )
        self._agreed = names
        return means[3 : 3 + len(names)]


def _collecting(step: Callable[..., Any], split: str) -> Callable[..., Any]:
    """A step that collects, unless it is a part of one that does (as with ``super().training_step``)."""

    @functools.wraps(step)
    def collecting_step(self: FreeLosses, *args: Any, **kwargs: Any) -> Any:
        if OPEN and OPEN[-1].module is not None:
            return step(self, *args, **kwargs)
        with collect_step(self) as collected:
            returned = step(self, *args, **kwargs)
        if not collected.losses and not collected.metrics:
            return returned
        if split != "train":
            return _finish_evaluation(self, collected, returned, split)
        _warn_of_constants(collected)
        finish = _finish_training if self.automatic_optimization else _finish_manual_training
        return finish(self, collected, returned)

    collecting_step._collects = True  # type: ignore[attr-defined]
    return collecting_step


def _finish_training(module: FreeLosses, collected: Collected, returned: Any) -> Any:
    """What the step returns, with the added losses in it; logs all."""
    is_mapping = isinstance(returned, Mapping)
    if not (returned is None or is_mapping or isinstance(returned, Tensor)):
        return returned  # Lightning says what is wrong with it.
    loss = _sum(returned.get("loss") if is_mapping else returned, collected.take())
    module._log_added(collected, loss if collected.losses else None, "train")
    return {**returned, "loss": loss} if is_mapping else loss


def _finish_manual_training(module: FreeLosses, collected: Collected, returned: Any) -> Any:
    """What the step returns, as it is; logs all."""
    if left := collected.untaken():
        names = ", ".join(sorted({loss.name for loss in left}))
        raise RuntimeError(f"manual optimization left {names} out: pass self.take_losses() to manual_backward")
    module._log_added(collected, weighted_sum(collected.losses), "train")
    return returned


def _finish_evaluation(module: FreeLosses, collected: Collected, returned: Any, split: str) -> Any:
    """What the step returns, as it is; logs all, with a loss that it returns in the sum."""
    own = returned.get("loss") if isinstance(returned, Mapping) else returned
    own = own if isinstance(own, Tensor) and own.numel() == 1 else None
    module._log_added(collected, _sum(own, collected.take()) if collected.losses else None, split)
    return returned


def _sum(own: Tensor | None, added: Tensor | None) -> Tensor | None:
    return added if own is None else own if added is None else own + added


def _warn_of_constants(collected: Collected) -> None:
    for loss in collected.losses:
        if not loss.value.requires_grad and not loss.owes_gradient:
            # Shown once for each name: Python's filters see the same message and line.
            rank_zero_warn(
                f"add_loss({loss.name!r}) got a value without gradient, a constant in the loss. Was it detached, or is"
                " all that it depends on frozen? To watch a value, use add_metric."
            )
