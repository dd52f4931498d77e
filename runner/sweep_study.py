"""The study of a sweep: made, checked and opened alike by the command line and by its workers."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from runner.errors import UserError
from runner.run_folder import write_atomically
from runner.search_space import SearchSpace
from runner.sweep_storage import LockedJournal, open_storage
from runner.sweep_trials import count_finished, enqueue_again, trials_of

SPACE = "space"


@dataclass(frozen=True)
class Sweep:
    """What command line and workers share.

    Args:
        name: of the study.
        folder: of the sweep, absolute.
        storage: address of a database; none for the journal in the folder.
        arguments: of every trial's `fit`, the config among them.
        limit: how many results are wanted.
    """

    name: str
    folder: str
    storage: str | None
    arguments: list[str]
    limit: int

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(self.folder)

    @property
    def space_file(self) -> Path:
        """The copy of the search space."""
        return self.path / "space.yaml"

    def to_json(self) -> str:
        """For another process: `Sweep(**json.loads(text))`."""
        return json.dumps(asdict(self))


def quiet_optuna() -> None:
    """Optuna says what the sweep says itself, and that parts of it are new."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)


def open_study(sweep: Sweep, space: SearchSpace) -> tuple[optuna.Study, LockedJournal | RDBStorage]:
    """The study with its sampler and pruner, and what keeps it.

    Raises:
        UserError: the database cannot be used.
    """
    storage = open_storage(sweep.path, sweep.storage, enqueue_again)
    study = optuna.create_study(
        storage=storage,
        study_name=sweep.name,
        direction=StudyDirection[space.goal.upper()],
        sampler=_sampler(space),
        pruner=_pruner(space),
        load_if_exists=True,
    )
    return study, storage


def prepare_study(sweep: Sweep, space: SearchSpace) -> optuna.Study:
    """Makes the study, or opens the one that is there if it is of the same search space.

    One that has no result yet, because of a mistake in the file say, gives way to another file.

    Raises:
        UserError: there are results of another file.
    """
    study, storage = open_study(sweep, space)
    before = study.user_attrs.get(SPACE)
    if before not in (None, space.text):
        if count_finished(study) or any(trial.state == TrialState.RUNNING for trial in trials_of(study)):
            raise UserError(
                f"the sweep {sweep.name} has results of another search space, see {sweep.space_file}: "
                "give the new file a name of its own."
            )
        optuna.delete_study(study_name=sweep.name, storage=storage)
        study, _ = open_study(sweep, space)
    if SPACE not in study.user_attrs:
        study.set_user_attr(SPACE, space.text)
    sweep.path.mkdir(parents=True, exist_ok=True)
    write_atomically(sweep.space_file, space.text)
    return study


def _sampler(space: SearchSpace) -> BaseSampler:
    # No seeds: workers that share one would draw the same values. A grid's values are in the queue.
    return TPESampler() if space.method == "bayes" else RandomSampler()


def _pruner(space: SearchSpace) -> BasePruner:
    if space.halving is None:
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=space.halving.min_iter, reduction_factor=space.halving.eta)
