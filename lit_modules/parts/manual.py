"""Manual optimization with several optimizers, counted as one step.

Lightning's manual mode counts every ``optimizer.step()`` in ``trainer.global_step`` (so with two optimizers
``max_steps=10`` would stop after 5 batches), every *batch* on the logger's axis, and leaves accumulation,
clipping and schedulers to the module. This is the one place that sets it right, and the only one that
touches private names of Lightning 2.6: ``LightningOptimizer._on_before_step`` and ``_on_after_step``,
``Trainer._results``, ``_TrainingEpochLoop._batches_that_stepped`` and ``DDPStrategy._ddp_kwargs``. Tests
watch them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ParallelStrategy
from torch import Tensor

Micro = TypeVar("Micro")


def _nothing() -> None:
    """Stands in for the hooks by which Lightning counts a step."""


@contextmanager
def _counting(optimizer: LightningOptimizer, counts: bool) -> Iterator[None]:
    """Let ``optimizer.step()`` move ``trainer.global_step`` or not."""
    hooks = optimizer._on_before_step, optimizer._on_after_step
    if not counts:
        optimizer._on_before_step = optimizer._on_after_step = _nothing
    try:
        yield
    finally:
        optimizer._on_before_step, optimizer._on_after_step = hooks


def update(
    module: LightningModule,
    optimizer: LightningOptimizer,
    micro_batches: Sequence[Micro],
    sizes: Sequence[int],
    loss_of: Callable[[Micro], Tensor],
    *,
    counts: bool,
) -> None:
    """One optimizer step on the gradient averaged over ``micro_batches``, as of one batch that held them all.

    Ranks exchange gradients at the last micro-batch only. Clipping belongs into
    ``on_before_optimizer_step``: only there are gradients free of fp16's loss scale.

    Args:
        module: whose ``manual_backward`` is used.
        optimizer: one of ``module.optimizers()``.
        micro_batches: what ``loss_of`` takes, one after the other.
        sizes: number of samples of each: their weights in the average.
        loss_of: the loss (a scalar, mean over its samples) of a micro-batch.
        counts: whether this step is the one that moves ``trainer.global_step``.
    """
    optimizer.zero_grad()
    total, last = sum(sizes), len(micro_batches) - 1
    for i, (micro, size) in enumerate(zip(micro_batches, sizes, strict=True)):
        loss = loss_of(micro)
        strategy = module.trainer.strategy
        blocked = i < last and isinstance(strategy, ParallelStrategy)
        with strategy.block_backward_sync() if blocked else nullcontext():  # type: ignore[attr-defined]
            module.manual_backward(loss * (size / total))
    with _counting(optimizer, counts):
        optimizer.step()


def step_schedulers(module: LightningModule) -> None:
    """Step every scheduler of ``configure_optimizers`` once."""
    schedulers = module.lr_schedulers()
    if schedulers is None:
        return
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        scheduler.step()  # type: ignore[call-arg]


def discount_batch(trainer: Trainer) -> None:
    """Take a batch that only waits for the rest of its step out of what the loggers see.

    Lightning adds 1 to the logger's axis after every batch, and logs once more what the last step logged.
    Here the axis goes one back in advance and the values of ``on_step`` are dropped. To be called in
    ``training_step``.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step - 1
    for result in (trainer._results or {}).values():
        if not result.meta.on_epoch:
            result.reset()


def total_steps(trainer: Trainer, batches_per_step: int) -> float:
    """Training steps in the whole run when ``batches_per_step`` batches make a step (fewer at the end)."""
    if batches_per_step == 1:
        return trainer.estimated_stepping_batches
    limits = [float(trainer.max_steps)] if trainer.max_steps != -1 else []
    # Reading it sets the loader up, on which num_training_batches depends.
    endless = math.isinf(trainer.estimated_stepping_batches) or trainer.max_epochs in (None, -1)
    if not endless and not math.isinf(trainer.num_training_batches):
        epochs = max(trainer.max_epochs or 1, 1)
        limits.append(math.ceil(trainer.num_training_batches / batches_per_step) * epochs)
    return min(limits, default=math.inf)


def check_strategy(trainer: Trainer) -> None:
    """Refuse the distributed strategies under which alternating updates are known to fail.

    Raises:
        ValueError: DDP that doesn't look for unused parameters, or FSDP.
    """
    strategy = trainer.strategy
    wanted = "set trainer.strategy=ddp_find_unused_parameters_true"
    if isinstance(strategy, FSDPStrategy):
        raise ValueError(f"FSDP does not work with manual optimization (two optimizers in turn): {wanted}")
    if isinstance(strategy, DDPStrategy) and not strategy._ddp_kwargs.get("find_unused_parameters"):
        raise ValueError(
            "plain DDP fails when the discriminator and the generator are updated in turn, because each"
            f" update leaves the other network's parameters unused: {wanted}"
        )
