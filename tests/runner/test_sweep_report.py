"""The table, trials.csv and the pictures of a sweep with trials of every kind."""

import csv
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from rich.console import Console

from runner.search_space import SearchSpace, Tree
from runner.sweep_report import best_trial, draw_pictures, table, write_csv
from runner.sweep_trials import CRASHED, OUTCOME, REASON, WITHDRAWN

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
LR, KIND = "model.init_args.lr", "model.init_args.kind"
TREE: Tree = {LR: FloatDistribution(0.001, 1, log=True), KIND: CategoricalDistribution(["a", "b"])}


def sweep(goal: str, values: list[float]) -> tuple[optuna.Study, SearchSpace]:
    """A study with these results, one pruned trial that has the best value, a crash and a trial that gave way."""
    space = SearchSpace("", "random", "val/f1", goal, TREE, None, (), None)
    study = optuna.create_study(direction=goal)
    for number, value in enumerate(values):
        study.add_trial(create_trial(value=value, params=params(number), distributions=space.distributions))
    best = 100.0 if goal == "maximize" else -100.0
    given = {"params": params(0), "distributions": space.distributions}
    study.add_trial(create_trial(state=TrialState.PRUNED, value=best, intermediate_values={1: best}, **given))
    told = {OUTCOME: CRASHED, REASON: "loss became NaN\nat step 4"}
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=told, **given))
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={OUTCOME: WITHDRAWN}))
    return study, space


def params(number: int) -> dict[str, object]:
    return {LR: 0.01 * (number + 1), KIND: "ab"[number % 2]}


@pytest.mark.parametrize(("goal", "best"), [("maximize", 2), ("minimize", 1)])
def test_trials_are_in_order_the_best_first(goal: str, best: int, tmp_path: Path) -> None:
    study, space = sweep(goal, [0.5, 0.25, 0.75])
    trial = best_trial(study)
    assert trial is not None
    assert trial.number == best
    write_csv(tmp_path / "trials.csv", study, space)
    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == [str(best), "0", str(3 - best), "3", "4"]
    assert [row["state"] for row in rows] == ["complete"] * 3 + ["pruned", "crashed"]
    assert (rows[1]["val/f1"], rows[1][LR], rows[1][KIND]) == ("0.5", "0.01", "a")
    assert rows[4]["reason"] == "loss became NaN\nat step 4"
    assert [path.name for path in tmp_path.iterdir()] == ["trials.csv"]


def test_the_table_has_short_names() -> None:
    console = Console(width=100, record=True)
    console.print(table(*sweep("maximize", [0.123456])))
    text = console.export_text()
    assert "0.1235" in text
    assert "lr" in text
    assert "init_args" not in text


@pytest.mark.slow
def test_pictures_are_drawn_as_far_as_there_are_results(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "none", *sweep("minimize", []))
    assert not (tmp_path / "none").exists()
    draw_pictures(tmp_path / "same", *sweep("minimize", [0.5] * 5))
    assert {path.name for path in (tmp_path / "same").iterdir()} == {"history.png", "parallel_coordinates.png"}
    draw_pictures(tmp_path / "four", *sweep("minimize", [0.5, 0.25, 0.75, 0.4]))
    names = {"history.png", "importances.png", "parallel_coordinates.png"}
    assert {path.name for path in (tmp_path / "four").iterdir()} == names
