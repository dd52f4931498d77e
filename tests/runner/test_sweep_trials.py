"""Which trials count, and how those that were cut off come back, on a journal."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from runner import sweep_trials
from runner.search_space import SearchSpace
from runner.sweep_study import Sweep, open_study, quiet_optuna
from runner.sweep_trials import (
    CRASHED,
    FOLDER,
    INTERRUPTED,
    OUTCOME,
    LostTrials,
    count_finished,
    enqueue_again,
    fill_grid,
    has_place,
    outcome,
    trials_of,
)

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
GRID = SearchSpace(
    text="",
    method="grid",
    metric="val/loss",
    goal="minimize",
    tree={"a": optuna.distributions.IntDistribution(0, 2), "b": optuna.distributions.CategoricalDistribution("xy")},
    halving=None,
    fixed=(),
    run_cap=None,
)


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    quiet_optuna()
    return another_process(tmp_path)


def another_process(folder: Path) -> optuna.Study:
    """The same study as another process sees it."""
    return open_study(Sweep("sweep", str(folder), None, [], 6), GRID)[0]


def begin(study: optuna.Study, *, folder: bool = True) -> optuna.Trial:
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial = study.ask()
    study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    if folder:
        trial.set_user_attr(FOLDER, "somewhere")
    return trial


def end(study: optuna.Study, trial: optuna.Trial, told: str) -> None:
    trial.set_user_attr(OUTCOME, told)
    study.tell(trial, state=TrialState.FAIL)


def test_results_and_crashes_count_interrupted_and_lost_trials_do_not(study: optuna.Study) -> None:
    study.tell(begin(study), 1.0)
    end(study, begin(study), CRASHED)
    end(study, begin(study), INTERRUPTED)
    study.tell(begin(study), state=TrialState.FAIL)
    begin(study)
    assert [outcome(trial) for trial in trials_of(study)] == ["complete", "crashed", "interrupted", "lost", "running"]
    assert count_finished(study) == 2


def test_a_trial_whose_process_is_gone_comes_back_with_its_values(tmp_path: Path, study: optuna.Study) -> None:
    trial = begin(study)
    drawn = trial.suggest_int("a", 0, 2)
    other = another_process(tmp_path)
    LostTrials(other).enqueue_again()
    assert [outcome(trial) for trial in trials_of(other)] == ["running"]
    # As the system does at the end of a process.
    study._storage._held.pop(trial._trial_id).release()  # type: ignore[attr-defined]
    LostTrials(other).enqueue_again()
    LostTrials(another_process(tmp_path)).enqueue_again()
    assert [outcome(trial) for trial in trials_of(other)] == ["lost", "waiting"]
    assert begin(other).suggest_int("a", 0, 2) == drawn


def test_a_trial_that_never_said_where_it_runs_is_lost_after_a_while(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(study, folder=False)
    lost = LostTrials(study)
    lost.enqueue_again()
    assert outcome(trials_of(study)[0]) == "running"
    monkeypatch.setattr(sweep_trials, "SILENCE", -1.0)
    lost.enqueue_again()
    assert outcome(trials_of(study)[0]) == "lost"


def test_what_kills_three_workers_is_not_tried_again(study: optuna.Study) -> None:
    begin(study).suggest_int("a", 0, 2)
    for _ in range(3):
        last = trials_of(study)[-1]
        study.tell(last.number, state=TrialState.FAIL)
        enqueue_again(study, trials_of(study)[-1])
        if trials_of(study)[-1].state == TrialState.WAITING:
            begin(study).suggest_int("a", 0, 2)
    assert [outcome(trial) for trial in trials_of(study)] == ["lost", "lost", "crashed"]
    assert count_finished(study) == 1


def test_an_interruption_is_not_held_against_a_trial(study: optuna.Study) -> None:
    begin(study).suggest_int("a", 0, 2)
    for _ in range(5):
        last = trials_of(study)[-1]
        study._storage.set_trial_user_attr(last._trial_id, OUTCOME, INTERRUPTED)
        study.tell(last.number, state=TrialState.FAIL)
        enqueue_again(study, trials_of(study)[-1])
        begin(study).suggest_int("a", 0, 2)
    assert [outcome(trial) for trial in trials_of(study)] == ["interrupted"] * 5 + ["running"]
    assert len({trial.params["a"] for trial in trials_of(study)}) == 1
    # Were the interruptions counted, this would be a crash.
    study.tell(5, state=TrialState.FAIL)
    assert outcome(trials_of(study)[5]) == "lost"


def test_of_two_that_begin_at_once_at_least_one_gives_way(study: optuna.Study) -> None:
    study.tell(begin(study), 1.0)
    first, second = begin(study), begin(study)
    for trial in (first, second):
        assert has_place(study, trials_of(study)[trial.number], 3)
        assert not has_place(study, trials_of(study)[trial.number], 2)


def test_every_cell_of_a_grid_is_taken_once(tmp_path: Path, study: optuna.Study) -> None:
    # Two processes fill the queue at the same moment.
    other = another_process(tmp_path)
    trials_before = trials_of(study)
    fill_grid(study, GRID, 6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_trials, "trials_of", lambda _: trials_before)
        fill_grid(other, GRID, 6)
    assert len(trials_of(study)) == 12
    taken = []
    for _ in range(12):
        trial = begin(study)
        if has_place(study, trials_of(study)[trial.number], 7):
            taken.append((trial.suggest_int("a", 0, 2), trial.suggest_categorical("b", "xy")))
            study.tell(trial, 0.0)
        else:
            end(study, trial, "withdrawn")
    assert taken == [(a, b) for a in range(3) for b in "xy"]
    fill_grid(study, GRID, 6)
    assert len(trials_of(study)) == 12


def test_a_lost_cell_is_put_in_the_queue_again(study: optuna.Study) -> None:
    fill_grid(study, GRID, 1)
    study.tell(begin(study), state=TrialState.FAIL)
    enqueue_again(study, trials_of(study)[0])
    for _ in range(2):
        fill_grid(study, GRID, 1)
    assert [outcome(trial) for trial in trials_of(study)] == ["lost", "waiting"]
