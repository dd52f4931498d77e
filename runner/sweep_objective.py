"""One trial: its values drawn, its process started, followed, pruned; what became of it."""

from __future__ import annotations

import math
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna import Trial, TrialPruned
from optuna.exceptions import UpdateFinishedTrialError

from runner.errors import UserError, nearest
from runner.search_space import SearchSpace
from runner.sweep_child import last_words, start, stop
from runner.sweep_metric import LoggedMetric
from runner.sweep_study import Sweep
from runner.sweep_trials import (
    CRASHED,
    FOLDER,
    HOST,
    INTERRUPTED,
    OUTCOME,
    REASON,
    REFUSED,
    WITHDRAWN,
    has_place,
    is_finished,
    trials_of,
)

POLL_SECONDS = 0.3
# What `fit` ends with when it is stopped by a signal, before it listens and after.
STOPPED = (130, 143, -2, -15)


class NoValueError(Exception):
    """A trial came to no value, which costs this trial only; its outcome is among its attributes."""


class Objective:
    """Runs a trial to its value.

    Args:
        sweep: the sweep.
        space: what is drawn from.
        study: what the trials belong to.
        record_heartbeat: tells the storage that a trial lives.
        asked_to_stop: whether the worker shall end.
    """

    def __init__(
        self,
        sweep: Sweep,
        space: SearchSpace,
        study: optuna.Study,
        record_heartbeat: Callable[[int], None],
        asked_to_stop: Callable[[], bool],
    ) -> None:
        self._sweep, self._space, self._study = sweep, space, study
        self._record_heartbeat, self._asked_to_stop = record_heartbeat, asked_to_stop
        self.was_taken = False
        """Whether the last trial was taken for lost while it ran, and runs elsewhere now."""

    def __call__(self, trial: Trial) -> float:
        """The metric's last value.

        Raises:
            TrialPruned: it was no good compared with others.
            NoValueError: it crashed, was interrupted, or was one too many.
            UserError: no trial can go well like this.
            UpdateFinishedTrialError: it was taken for lost.
        """
        self.was_taken = False
        try:
            value = self._run(trial)
            # Refused if another worker has ended the trial.
            trial.set_user_attr(REASON, "")
        except UpdateFinishedTrialError:
            self.was_taken = True
            raise
        return value

    def _run(self, trial: Trial) -> float:
        # Before the folder is known: who has a folder and no heartbeat is lost.
        self._record_heartbeat(trial._trial_id)
        folder = self._sweep.path / "trials" / str(trial.number)
        trial.set_user_attr(FOLDER, str(folder))
        trial.set_user_attr(HOST, socket.gethostname())
        if not has_place(self._study, trials_of(self._study)[trial.number], self._sweep.limit):
            raise _ended(trial, WITHDRAWN)
        arguments = [*self._sweep.arguments, *self._space.draw(trial), f"--trainer.default_root_dir={folder}"]
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "output.log").open("wb") as output:
            child = start("runner.sweep_child", arguments, {}, stdin=subprocess.DEVNULL, stdout=output)
        metric = LoggedMetric(folder, self._space.metric)
        try:
            self._follow(trial, child, metric)
        finally:
            if child.returncode != 0:
                stop(child)
        return self._value(trial, child.returncode, metric, folder / "output.log")

    def _follow(self, trial: Trial, child: subprocess.Popen[bytes], metric: LoggedMetric) -> None:
        """Waits for the child's end and compares the trial with the others on the way."""
        count = 0
        while True:
            ended = child.poll() is not None
            for value in metric.read():
                count += 1
                if self._is_bad(trial, value, count) and not ended:
                    raise TrialPruned
            if ended:
                return
            if self._asked_to_stop():
                raise _ended(trial, INTERRUPTED)
            time.sleep(POLL_SECONDS)

    def _is_bad(self, trial: Trial, value: float, count: int) -> bool:
        if self._space.halving is None or not self._space.halving.is_rung(count):
            return False
        trial.report(value, count)
        return trial.should_prune()

    def _value(self, trial: Trial, code: int, metric: LoggedMetric, output: Path) -> float:
        if code in STOPPED:
            raise _ended(trial, INTERRUPTED)
        if code == 0 and metric.values and not math.isnan(metric.values[-1]):
            return metric.values[-1]
        if code != 0:
            reason = last_words(output)
        elif metric.values:
            reason = f"{self._space.metric} became NaN."
        else:
            reason = f"{self._space.metric} was not logged.{nearest(self._space.metric, metric.columns)}"
        # A mistake in the command line or in the search space stops the first trial as it would stop all others.
        mistaken = code == 2 or (code == 0 and not metric.values)
        if mistaken and not any(map(is_finished, trials_of(self._study))):
            raise _refused(trial, reason)
        raise _ended(trial, CRASHED, reason)


def _ended(trial: Trial, outcome: str, reason: str = "") -> NoValueError:
    trial.set_user_attr(REASON, reason)
    trial.set_user_attr(OUTCOME, outcome)
    return NoValueError(outcome)


def _refused(trial: Trial, reason: str) -> UserError:
    trial.set_user_attr(OUTCOME, REFUSED)
    return UserError(reason)
