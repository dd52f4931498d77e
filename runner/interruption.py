"""SIGTERM and Ctrl-C: finish the step, write last.ckpt, exit 143 or 130."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from runner.checkpoints import RunCheckpoint
from runner.exact_resume import ExactResume


class RunInterrupted(BaseException):
    """The run was asked to stop by a signal, and its checkpoint is written.

    Not an Exception: nobody should take it for a failure and go on.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.exit_code = 128 + signal_number


class GracefulStop(Callback):
    """Stops a run at the next moment that it can be resumed from exactly.

    Lightning ends with exit code 0 and saves nothing; it also starts a collective inside the signal
    handler. Here the handler sets a flag, and all ranks agree on it after each batch, of training or validation.

    Args:
        exact_resume: tells the moments between optimizer steps.
    """

    def __init__(self, exact_resume: ExactResume) -> None:
        self._exact_resume = exact_resume
        self._signal: int | None = None

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals over from Lightning."""
        self._listen()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals over from Lightning."""
        self._listen()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals over from Lightning."""
        self._listen()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals over from Lightning."""
        self._listen()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals over from Lightning."""
        self._listen()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops after this batch if its step is whole."""
        if self._asked(trainer) and self._exact_resume.at_boundary:
            self._stop(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stops within the validation, which then runs again when the run is resumed."""
        if not trainer.sanity_checking and self._asked(trainer) and self._exact_resume.at_boundary:
            self._stop(trainer)

    def on_test_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Stops; there is nothing to save."""
        if self._asked(trainer):
            self._stop(trainer)

    def on_predict_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Stops; there is nothing to save."""
        if self._asked(trainer):
            self._stop(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A signal that came when all was done still decides the exit code."""
        if self._signal is not None:
            raise RunInterrupted(self._signal)

    def _listen(self) -> None:
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        # A second Ctrl-C ends the process at once.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _say("stopping after this step" + ("; Ctrl-C again: at once" if number == signal.SIGINT else ""))

    def _asked(self, trainer: Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False)

    def _stop(self, trainer: Trainer) -> None:
        if trainer.state.fn == "fit":
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, RunCheckpoint):
                    callback.save_last_checkpoint(trainer)
        # A rank that was not signaled itself stops with the others.
        raise RunInterrupted(self._signal or signal.SIGTERM)


@rank_zero_only
def _say(text: str) -> None:
    print(f"\n{text}", file=sys.stderr, flush=True)
