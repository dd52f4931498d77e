"""The values beside a Keras progress bar: means over the steps, metrics as they are, results of validations."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from typing import Any, Literal

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor


class LoggedValues:
    """What was logged with `prog_bar=True`, as Keras shows it.

    A value of a training step is averaged over the steps since `restart`, each of the same weight; a stateful one is
    shown as it was logged last. Values of an epoch's end or of a validation are shown as they are.

    Args:
        stateful: the names of values that are not averaged; "all" for none.
    """

    def __init__(self, stateful: Collection[str] | Literal["all"]) -> None:
        self._stateful = stateful
        self._sums: dict[str, tuple[float, int]] = {}
        self._results: dict[str, Any] = {}
        # Whether a step is done and not in the sums.
        self._pending = False
        self._had_steps = False
        self._known: set[str] = set()
        self._tensors: dict[str, Tensor] = {}

    def restart(self) -> None:
        """Begins new means, and forgets the results."""
        self._sums, self._results, self._pending = {}, {}, False

    def step_done(self) -> None:
        """Tells that a step is done; called in `on_train_batch_end`."""
        self._pending = self._had_steps = True

    def settle(self, trainer: Trainer) -> None:
        """Counts that step; called in the hook that follows.

        The module, and callbacks further down the list, may log in their own `on_train_batch_end`, after the bar's.
        """
        if self._pending:
            kept = _kept_for_the_bar(trainer)
            self._sums = self._with({name: kept[name] for name, _ in _logged_in_step(trainer)})
            self._pending = False

    def before_results(self, trainer: Trainer) -> None:
        """Remembers what was logged so far."""
        self._tensors = dict(_kept_for_callbacks(trainer))

    def add_results(self, trainer: Trainer) -> None:
        """Takes in what was logged since `before_results`; Lightning itself keeps old results among the new."""
        tensors = _kept_for_callbacks(trainer)
        for name, value in _kept_for_the_bar(trainer).items():
            if tensors.get(name) is not self._tensors.get(name):
                self._results[name] = value
        self.before_results(trainer)

    def forget_results(self) -> None:
        """Leaves the means alone."""
        self._results = {}

    def shown(self, trainer: Trainer) -> dict[str, Any]:
        """All values by name, the means before the results."""
        means = {name: total / count for name, (total, count) in self._with_pending(trainer).items()}
        return means | {name: value for name, value in self._results.items() if name not in means}

    def warn_of_unknown(self) -> None:
        """Warns of stateful names that no step logged anything under."""
        names = [] if self._stateful == "all" or not self._had_steps else self._stateful
        for name in names:
            if name not in self._known:
                nearest = difflib.get_close_matches(name, self._known, 1, 0)
                hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
                rank_zero_warn(f"stateful_metrics: no training step logged {name!r} with prog_bar=True{hint}")

    def state_dict(self, trainer: Trainer) -> dict[str, list[float]]:
        """Sum and number of steps by name.

        In a checkpoint that is written at the end of a step, what was logged after the bar's turn is that of the step
        before.
        """
        return {name: [total, count] for name, (total, count) in self._with_pending(trainer).items()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Goes on with these means."""
        self.restart()
        self._sums = {name: (total, int(count)) for name, (total, count) in state.items()}

    def release(self) -> None:
        """Lets go of the tensors."""
        self._tensors = {}

    def _with_pending(self, trainer: Trainer) -> dict[str, tuple[float, int]]:
        if not self._pending:
            return self._sums
        return self._with({name: float(value) for name, value in _logged_in_step(trainer)})

    def _with(self, step: dict[str, float]) -> dict[str, tuple[float, int]]:
        """The sums with one step more."""
        self._known |= step.keys()
        sums = dict(self._sums)
        for name, value in step.items():
            total, count = (0.0, 0) if self._stateful == "all" or name in self._stateful else sums.get(name, (0.0, 0))
            sums[name] = (total + value, count + 1)
        return sums


# Lightning's public dictionaries hold whatever was logged last, by earlier validations too, and to ask for them at an
# epoch's end starts an exchange between processes, in which the others would not take part. The private names that
# are needed instead stand here alone.


def _logged_in_step(trainer: Trainer) -> Iterator[tuple[str, Tensor]]:
    """What the last training step logged for the progress bar."""
    for result in trainer.fit_loop.epoch_loop._results.values():
        is_from_step = result.meta.prog_bar and result.meta.on_step and not result.has_reset
        # A torchmetric that was only updated has no value of the step.
        if is_from_step and isinstance(result._forward_cache, Tensor):
            yield result.meta.forked_name(True), result._forward_cache


def _kept_for_the_bar(trainer: Trainer) -> dict[str, Any]:
    """All that was logged for the progress bar until the last batch, epoch or validation ended."""
    return trainer._logger_connector._progress_bar_metrics


def _kept_for_callbacks(trainer: Trainer) -> dict[str, Tensor]:
    """The same and more, as tensors, of which each that is logged anew is another object."""
    return trainer._logger_connector._callback_metrics
