"""The trials of a sweep: what became of each, which count, and how one that was cut off comes back."""

from __future__ import annotations

import time
from itertools import islice

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from runner.search_space import SearchSpace

# User attributes of a trial.
FOLDER, HOST, OUTCOME, REASON, CELL, ATTEMPT = "folder", "host", "outcome", "reason", "cell", "attempt"
# What became of a trial that Optuna calls failed. One that was never told is lost: its worker is gone.
CRASHED, INTERRUPTED, WITHDRAWN, REFUSED, LOST = "crashed", "interrupted", "withdrawn", "refused", "lost"
# After so many lost workers a trial counts as crashed: it may be what kills them.
ATTEMPTS = 3
# A worker is gone that has begun a trial and said nothing for so many seconds.
SILENCE = 60.0


def outcome(trial: FrozenTrial) -> str:
    """`complete`, `pruned`, `crashed`, `running`, `waiting`, `lost`, `interrupted`, `withdrawn` or `refused`."""
    if trial.state != TrialState.FAIL:
        return trial.state.name.lower()
    told = trial.user_attrs.get(OUTCOME, LOST)
    return CRASHED if told == LOST and trial.user_attrs.get(ATTEMPT, 1) >= ATTEMPTS else told


def is_finished(trial: FrozenTrial) -> bool:
    """Whether it is one of the results that the sweep was asked for."""
    return outcome(trial) in ("complete", "pruned", CRASHED)


def takes_place(trial: FrozenTrial) -> bool:
    """Whether it is a result, or is going to be one."""
    return is_finished(trial) or trial.state == TrialState.RUNNING


def trials_of(study: optuna.Study) -> list[FrozenTrial]:
    """All trials, in the order of their numbers, not to be changed."""
    return study.get_trials(deepcopy=False)


def count_finished(study: optuna.Study) -> int:
    """How many results there are."""
    return sum(map(is_finished, trials_of(study)))


def enqueue_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Has the parameters of a trial that was cut off drawn again by the next worker that is free."""
    attempt = trial.user_attrs.get(ATTEMPT, 1) + (outcome(trial) == LOST)
    parameters = trial.system_attrs.get("fixed_params", {}) | trial.params
    # A cell of a grid comes back by itself, see `fill_grid`.
    if parameters and outcome(trial) != CRASHED and CELL not in trial.user_attrs:
        study.enqueue_trial(parameters, user_attrs={ATTEMPT: attempt})


def fill_grid(study: optuna.Study, space: SearchSpace, limit: int) -> None:
    """Enqueues the cells of a grid that nobody has.

    Args:
        limit: how many cells there shall be.
    """
    trials = trials_of(study)
    held = {trial.user_attrs.get(CELL) for trial in trials if takes_place(trial) or trial.state == TrialState.WAITING}
    lost = [trial.user_attrs.get(CELL) for trial in trials if outcome(trial) == LOST]
    for number, cell in enumerate(islice(space.cells(), limit)):
        if number not in held:
            study.enqueue_trial(cell, user_attrs={CELL: number, ATTEMPT: lost.count(number) + 1})


def has_place(study: optuna.Study, trial: FrozenTrial, limit: int) -> bool:
    """Whether a trial that has just begun is one of those that were asked for.

    Two workers may both see one place left. Of two that begin at once the later, at least, sees the other and
    gives way, so that there is never one too many; where both give way, they try again. Of two that hold the same cell
    of a grid the second gives way.
    """
    others = [other for other in trials_of(study) if other.number != trial.number]
    cell = trial.user_attrs.get(CELL)
    earlier = (other for other in others if other.number < trial.number and other.user_attrs.get(CELL) == cell)
    taken = cell is not None and any(takes_place(other) or outcome(other) == "waiting" for other in earlier)
    return not taken and sum(map(takes_place, others)) < limit


class LostTrials:
    """Finds the trials whose workers are gone, and enqueues them again.

    Args:
        study: what they belong to.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._silent_since: dict[int, float] = {}

    def enqueue_again(self) -> None:
        """Those whose lock is free or whose heart has stopped, and those that never said where they run."""
        fail_stale_trials(self._study)
        for trial in trials_of(self._study):
            if trial.state == TrialState.RUNNING and FOLDER not in trial.user_attrs:
                since = self._silent_since.setdefault(trial.number, time.monotonic())
                if time.monotonic() - since > SILENCE:
                    self._give_up(trial)

    def _give_up(self, trial: FrozenTrial) -> None:
        try:
            self._study.tell(trial.number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):
            # Somebody else was faster.
            return
        enqueue_again(self._study, trial)
