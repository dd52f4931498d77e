"""What a sweep leaves behind: a table on the terminal, trials.csv, pictures."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import matplotlib
import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from runner.run_folder import write_atomically
from runner.search_space import SearchSpace
from runner.sweep_trials import FOLDER, HOST, REASON, WITHDRAWN, outcome, trials_of

SHOWN = 20
# Importances say nothing about fewer trials.
MIN_TRIALS = 4


def shown_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that ran, the best first, those without a value last."""
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    ran = [trial for trial in trials_of(study) if outcome(trial) not in (WITHDRAWN, "waiting")]
    return sorted(ran, key=lambda trial: (trial.value is None, trial.state.value, sign * (trial.value or 0)))


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The best of those that came to their end."""
    first = next(iter(shown_trials(study)), None)
    return first if first and first.state == TrialState.COMPLETE else None


def table(study: optuna.Study, space: SearchSpace) -> Table:
    """The best trials: value, parameters, what became of them."""
    names = sorted(space.distributions)
    shown = Table("trial", space.metric, *map(_short_name, names), "state")
    for trial in shown_trials(study)[:SHOWN]:
        values = [short(trial.params.get(name, "")) for name in names]
        shown.add_row(str(trial.number), short(trial.value), *values, outcome(trial))
    return shown


def write_csv(path: Path, study: optuna.Study, space: SearchSpace) -> None:
    """All trials that ran, a row each, the best first."""
    names = sorted(space.distributions)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["trial", space.metric, *names, "state", "reason", "start", "end", "host", "folder"])
    for trial in shown_trials(study):
        values = [trial.params.get(name) for name in names]
        times = [time and time.isoformat(" ", "seconds") for time in (trial.datetime_start, trial.datetime_complete)]
        told = [trial.user_attrs.get(key) for key in (HOST, FOLDER)]
        reason = trial.user_attrs.get(REASON)
        writer.writerow([trial.number, trial.value, *values, outcome(trial), reason, *times, *told])
    write_atomically(path, text.getvalue())


def draw_pictures(folder: Path, study: optuna.Study, space: SearchSpace) -> None:
    """history.png, parallel_coordinates.png and, once there is something to compare, importances.png."""
    values = {trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    if not values:
        return
    # Pictures for files: no window, whatever the user's matplotlib is set to.
    matplotlib.use("agg")
    from optuna.visualization import matplotlib as plots

    folder.mkdir(parents=True, exist_ok=True)
    _save(plots.plot_optimization_history(study, target_name=space.metric), folder / "history.png")
    if space.distributions:
        axes = plots.plot_parallel_coordinate(study, target_name=space.metric)
        # Optuna cuts names after 20 characters, of which `model.init_args.` takes most.
        axes.set_xticks(axes.get_xticks(), [space.metric, *map(_short_name, sorted(space.distributions))])
        _save(axes, folder / "parallel_coordinates.png")
    if space.distributions and len(values) >= MIN_TRIALS:
        _save(plots.plot_param_importances(study, target_name=space.metric), folder / "importances.png")


def _save(axes: Any, path: Path) -> None:
    from matplotlib import pyplot

    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    axes.figure.savefig(temporary, dpi=150, bbox_inches="tight")
    temporary.replace(path)
    pyplot.close(axes.figure)


def short(value: object) -> str:
    """A value as a table shows it: a number to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _short_name(name: str) -> str:
    return name.removeprefix("model.init_args.")
