"""The progress bar of Keras for Lightning's Trainer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from callbacks.keras_line import Line
from callbacks.keras_screen import Screen
from callbacks.keras_task import Task, counts_the_run, headline, training_task
from callbacks.keras_values import LoggedValues


class KerasProgressBar(ProgressBar):
    """Shows a run as Keras does, in a terminal, a notebook or a file.

        Epoch 1/10
         234/1875 ━━━━━━━━━━━━━━━━━━━━ 12s 3ms/step - loss: 0.1234 - accuracy: 0.9876

    Behind the bar stands the time left, and on a finished line the time taken. Values that a training step logs with
    `prog_bar=True` are means over the epoch's batches so far; what an epoch's end or a validation logs follows as it
    is. A validation ends the line, and training goes on in a new one. Where only `max_steps` limits a run, its epochs
    are nobody's concern: steps count from the run's beginning, and means begin anew after each validation. Like
    `keras.utils.Progbar`; see docs/keras_progress_bar.md.

    Args:
        stateful_metrics: names of training values that are shown as they were logged last instead of as means; "all"
            for all of them.
        refresh_rate: batches between two updates, of which there are at most 20 a second; 0 shows nothing.
        width: cells of the bar.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self, stateful_metrics: list[str] | Literal["all"] | None = None, refresh_rate: int = 1, width: int = 20
    ) -> None:
        super().__init__()
        if isinstance(stateful_metrics, str) and stateful_metrics != "all":
            raise ValueError(f'stateful_metrics must be "all" or a list of names, got {stateful_metrics!r}')
        if refresh_rate < 0:
            raise ValueError(f"refresh_rate must be 0 or more batches, got {refresh_rate}")
        if width < 1:
            raise ValueError(f"width must be 1 or more cells, got {width}")
        self._refresh_rate = refresh_rate
        self._width = width
        self._is_enabled = True
        self._values = LoggedValues(stateful_metrics or ())
        self._terminal: Screen | None = None
        # The epoch's (or the run's) steps, and what is done meanwhile: an evaluation.
        self._training: Task | None = None
        self._inner: Task | None = None
        # The training line: whether there is one, whether its epoch ends too, and its last state once that is reached.
        self._is_open = self._epoch_is_over = False
        self._complete: Line | None = None

    # ---- What Lightning asks of a progress bar ----

    @property
    def is_enabled(self) -> bool:
        """Whether anything is shown."""
        return self._is_enabled and self._refresh_rate > 0

    @property
    def is_disabled(self) -> bool:
        """Whether nothing is shown."""
        return not self.is_enabled

    def disable(self) -> None:
        """Show nothing from now on."""
        self._is_enabled = False

    def enable(self) -> None:
        """Show again."""
        self._is_enabled = True

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The values beside the bar, by name; override it to show others."""
        return self._values.shown(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The means, so that a run resumed in the middle of an epoch goes on with them."""
        over = self._complete and (self._epoch_is_over or counts_the_run(self.trainer))
        return {} if over else self._values.state_dict(self.trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on with the means of a checkpoint, if there is training to go on with."""
        if self.trainer.state.fn == "fit":
            self._values.load_state_dict(state_dict)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gets the terminal; on other processes than the first nothing is shown."""
        super().setup(trainer, pl_module, stage)
        self._forget()
        self._values.restart()
        self._terminal = Screen(sys.stdout)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leaves the terminal."""
        self._forget()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leaves the line as it stands, so that the error's text begins in a line of its own."""
        if self._is_open:
            self._complete_line()
            self._finish_line()
        elif self._inner and self._screen and not trainer.sanity_checking:
            self._screen.keep(self._inner.line({}, self._width, over=True))
        self._forget()

    def _forget(self) -> None:
        if self._terminal is not None:
            self._terminal.clear()
        self._terminal = self._training = self._inner = self._complete = None
        self._is_open = self._epoch_is_over = False
        self._values.release()

    # ---- Training ----

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes in what the module logged in `on_train_epoch_end`, which came after the bar's."""
        if self._is_open:
            self._values.add_results(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begins a line if the last one is complete."""
        if self._screen:
            self._values.settle(trainer)
            self._finish_line()
            self._open_line(trainer, self._screen, batch_idx)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the step."""
        if self._training:
            self._values.step_done()
            self._training.step(trainer.global_step if counts_the_run(trainer) else batch_idx + 1)
            self._update(self._training, batch_idx + 1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Completes an epoch's line; it stays open until all that belongs to the epoch is logged."""
        self._values.settle(trainer)
        self._values.before_results(trainer)
        if counts_the_run(trainer):
            return
        if self._is_open:
            self._epoch_is_over = True
            self._complete_line()
        else:
            # Resumed at the very end of an epoch: its means are none of the next one's.
            self._values.restart()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Completes the last line."""
        if self._is_open:
            self._values.add_results(trainer)
            if self._complete is None:
                self._complete_line()
            self._finish_line()
        self._values.warn_of_unknown()

    def _open_line(self, trainer: Trainer, screen: Screen, batches_done: int) -> Task:
        if self._training is None:
            if not counts_the_run(trainer):
                screen.keep(headline(trainer))
                # A checkpoint of an epoch's last batch brings that epoch's means.
                if batches_done == 0:
                    self._values.restart()
            self._training = training_task(trainer, batches_done)
        self._training.go_on()
        self._is_open = True
        return self._training

    def _complete_line(self) -> None:
        assert self._training is not None
        self._complete = self._training.line(self._shown(), self._width, over=True)
        if self._screen and self._screen.live:
            self._screen.show(self._complete)

    def _finish_line(self) -> None:
        """Lets a complete line stay."""
        if self._complete is None or self._screen is None:
            return
        # With what was logged since it was complete; the times are those of then.
        self._screen.keep(replace(self._complete, values=self._shown()))
        self._values.forget_results()
        if self._epoch_is_over or counts_the_run(self.trainer):
            self._values.restart()
        if self._epoch_is_over:
            self._training = None
        self._complete, self._is_open, self._epoch_is_over = None, False, False

    # ---- Evaluation ----

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a line that goes away."""
        self._inner = Task(sum(trainer.num_sanity_val_batches), label=self.sanity_check_description)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes it away."""
        self._inner = None
        self._show_at_once(None)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a line, which in a fit stands in for the training's."""
        if self._screen is None or trainer.sanity_checking:
            return
        if trainer.state.fn == "fit":
            self._values.settle(trainer)
            self._open_line(trainer, self._screen, trainer.fit_loop.batch_idx + 1).pause()
        self._begin_evaluation(trainer, trainer.num_val_batches)

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Counts the batch."""
        if self._inner:
            self._inner.step(self._inner.count + 1)
            self._update(self._inner, self._inner.count)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Completes the training's line with the results, or its own."""
        if self._is_open:
            self._inner = None
            self._values.add_results(trainer)
            self._complete_line()
        elif not trainer.sanity_checking:
            self._end_evaluation(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a line."""
        self._begin_evaluation(trainer, trainer.num_test_batches)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a line."""
        self._begin_evaluation(trainer, trainer.num_predict_batches)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Completes the line."""
        self._end_evaluation(trainer)

    on_predict_end = on_test_end

    def _begin_evaluation(self, trainer: Trainer, batches: Sequence[float]) -> None:
        self._values.before_results(trainer)
        self._inner = Task(sum(batches), label=self.validation_description if trainer.state.fn == "fit" else "")

    def _end_evaluation(self, trainer: Trainer) -> None:
        if self._inner and self._screen:
            self._values.add_results(trainer)
            self._screen.keep(self._inner.line(self._shown(), self._width, over=True))
        self._inner = None

    # ---- The screen ----

    @contextmanager
    def stage(self, description: str, total: int | None) -> Iterator[Callable[[int], object]]:
        """Shows the progress of `total` (None: unknown) units of another callback's work, in place of the current line.

        What it yields is to be called with the number of units just done.
        """
        task = Task(total, label=description)

        def advance(done: int) -> None:
            task.step(task.count + done)
            self._update(task)

        self._show_at_once(task)
        try:
            yield advance
        finally:
            self._show_at_once(self._inner or self._training)

    def _update(self, task: Task, batches_done: int = 0) -> None:
        """Shows how a task stands, if it is time."""
        if self._screen and batches_done % self._refresh_rate == 0:
            values = self._shown if task is self._training else dict
            self._screen.update(lambda: task.line(values(), self._width))

    def _show_at_once(self, task: Task | None) -> None:
        """Shows how a task stands in place of what was there, be it time or not."""
        if self._screen:
            self._screen.clear()
        if task:
            self._update(task)

    @property
    def _screen(self) -> Screen | None:
        return self._terminal if self.is_enabled else None

    def _shown(self) -> dict[str, Any]:
        return self.get_metrics(self.trainer, self.trainer.lightning_module)
