"""What a Keras progress bar counts and times: the steps of an epoch, of a run or of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from time import monotonic

from lightning.pytorch import Trainer

from callbacks.keras_line import Line


class Task:
    """Steps that are counted and timed.

    Args:
        total: the number of steps; None or infinity if nobody knows.
        count: steps done before.
        label: stands before the count.
    """

    def __init__(self, total: float | None, count: int = 0, label: str = "") -> None:
        self.total = None if total is None or math.isinf(total) else int(total)
        self.count = count
        self.label = label
        # When it began and when its first step was done, each with the count.
        self._marks = [(monotonic(), count)]
        self._paused, self._pause_began = 0.0, -1.0

    def step(self, count: int) -> None:
        """`count` steps are done."""
        if len(self._marks) == 1 and count > self.count:
            self._marks.append((monotonic(), count))
        self.count = count

    def pause(self) -> None:
        """What follows is none of the steps' time."""
        if self._pause_began < 0:
            self._pause_began = monotonic()

    def go_on(self) -> None:
        """Steps follow again."""
        if self._pause_began >= 0:
            self._paused, self._pause_began = self._paused + monotonic() - self._pause_began, -1.0

    def line(self, values: Mapping[str, float | str], width: int, *, over: bool = False) -> Line:
        """How the task stands; `over` for the last state of its line."""
        now = monotonic()
        total = self.count if over and self.total is None else self.total
        # As in Keras, the first step counts only as long as there is no other: it takes longer.
        began, count = self._marks[-1] if self.count > self._marks[-1][1] else self._marks[0]
        steps = self.count - count
        seconds = now - self._marks[0][0]
        if total is not None and not over:
            seconds = (now - began) / max(steps, 1) * max(total - self.count, 0)
        worked = now - began - self._paused - (now - self._pause_began if self._pause_began >= 0 else 0)
        return Line(self.count, total, seconds, worked / steps if steps else 0.0, values, self.label, over, width)


def counts_the_run(trainer: Trainer) -> bool:
    """Whether `max_steps` alone limits the run."""
    return trainer.max_epochs == -1 and trainer.max_steps > 0


def headline(trainer: Trainer) -> str:
    epochs = trainer.max_epochs or -1
    return f"Epoch {trainer.current_epoch + 1}" + (f"/{epochs}" if epochs > 0 else "")


def training_task(trainer: Trainer, batches_done: int) -> Task:
    """The optimizer steps of the run, or the batches of the epoch."""
    if counts_the_run(trainer):
        return Task(trainer.max_steps, trainer.global_step)
    total = float(trainer.num_training_batches)
    if trainer.max_steps > 0 and trainer.lightning_module.automatic_optimization:
        # The epoch may be cut short.
        left = (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches
        total = min(total, batches_done + left)
    return Task(total, batches_done)
