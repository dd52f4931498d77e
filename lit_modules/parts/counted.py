"""Evaluations whose numbers are made of counts over all batches and processes, in validation and test alike."""

from abc import abstractmethod
from typing import Any

from lightning.pytorch import LightningModule


class CountedEvaluation(LightningModule):
    """Counts batches and logs what the counts of an epoch come to. What is counted is the subclass's business."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Count a batch."""
        self._count(batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Count a batch."""
        self._count(batch)

    def on_validation_epoch_start(self) -> None:
        """Forget what was counted in an evaluation that was broken off."""
        self._forget()

    def on_test_epoch_start(self) -> None:
        """Forget what was counted in an evaluation that was broken off."""
        self._forget()

    def on_validation_epoch_end(self) -> None:
        """Log what the counts come to, as val/..."""
        self._log_counts("val")

    def on_test_epoch_end(self) -> None:
        """Log what the counts come to, as test/..."""
        self._log_counts("test")

    @abstractmethod
    def _count(self, batch: Any) -> None:
        """Count a batch."""

    @abstractmethod
    def _forget(self) -> None:
        """Begin to count anew."""

    @abstractmethod
    def _log_counts(self, split: str) -> None:
        """Log the numbers of all processes together, as split/..."""
