"""A worker of a sweep: a process that runs one trial after another until the sweep has its results."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from types import FrameType

import optuna
from optuna.trial import FrozenTrial

from runner.errors import UserError
from runner.search_space import SearchSpace
from runner.sweep_child import end_with_parent
from runner.sweep_file import read_space
from runner.sweep_objective import NoValueError, Objective
from runner.sweep_study import Sweep, open_study, quiet_optuna
from runner.sweep_trials import (
    INTERRUPTED,
    WITHDRAWN,
    LostTrials,
    count_finished,
    enqueue_again,
    fill_grid,
    outcome,
    takes_place,
    trials_of,
)


class Worker:
    """Runs trials until there are enough results, or until it is asked to stop.

    Args:
        sweep: the sweep.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._space: SearchSpace = read_space(sweep.space_file)
        self._study, storage = open_study(sweep, self._space)
        self._lost = LostTrials(self._study)
        self._stop = False
        self._objective = Objective(sweep, self._space, self._study, storage.record_heartbeat, lambda: self._stop)

    def ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        """Takes a signal: the trial is stopped and enqueued again."""
        self._stop = True

    def run(self) -> None:
        """Works; while others run the last trials it waits, for they may be lost.

        Raises:
            UserError: no trial can go well like this.
        """
        while not self._stop and count_finished(self._study) < self._sweep.limit:
            self._lost.enqueue_again()
            if sum(map(takes_place, trials_of(self._study))) >= self._sweep.limit:
                time.sleep(1)
                continue
            if self._space.method == "grid":
                fill_grid(self._study, self._space, self._sweep.limit)
            self._run_one()

    def _run_one(self) -> None:
        try:
            self._study.optimize(self._objective, n_trials=1, catch=(NoValueError,), callbacks=[self._after])
        except ValueError:
            # Optuna's for the end of a trial that has ended. A machine that hung for a while comes back.
            if not self._objective.was_taken:
                raise

    def _after(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if outcome(trial) in (INTERRUPTED, WITHDRAWN):
            enqueue_again(study, trial)
        if outcome(trial) == WITHDRAWN:
            # Where two gave way to one another, they should not try again at the same moment.
            time.sleep(random.uniform(0.1, 1))


def main() -> int:
    """Works on the sweep that stands on the standard input, as JSON.

    Returns:
        The exit code: 0 done or stopped, 2 the user's mistake, which is printed.
    """
    end_with_parent(signal.SIGTERM)
    quiet_optuna()
    worker = Worker(Sweep(**json.load(sys.stdin)))
    signal.signal(signal.SIGTERM, worker.ask_to_stop)
    try:
        worker.run()
    except UserError as error:
        print(f"error: {error}", flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
