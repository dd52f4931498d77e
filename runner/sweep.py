"""`run.py sweep`: searches hyper-parameters with Optuna, on one machine or several, with or without a network."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import optuna
import yaml
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError

from runner.config_files import as_typed, find_file, refuse_urls
from runner.errors import UserError
from runner.search_space import SearchSpace
from runner.sweep_crew import Crew
from runner.sweep_file import find_space, read_space
from runner.sweep_report import best_trial, draw_pictures, short, table, write_csv
from runner.sweep_study import Sweep, prepare_study, quiet_optuna
from runner.sweep_trials import count_finished
from runner.tables import table_console

OPTIONS = ("--config", "--space", "--trials", "--workers", "--storage")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"sweep: {message}.")


def main(arguments: list[str]) -> int:
    """Runs a sweep, or goes on with it.

    Args:
        arguments: the command line, command first; `--debug` anywhere shows tracebacks.

    Returns:
        The exit code: 0 done, 1 ended without all results, 2 the user's mistake, 130 or 143 stopped by a signal.
    """
    debug = "--debug" in arguments
    try:
        options, rest = _parse([argument for argument in arguments[1:] if argument != "--debug"])
        return _run(options, rest, as_typed(arguments))
    except UserError as error:
        if debug:
            traceback.print_exception(error)
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (StorageInternalError, DBAPIError) as error:
        if debug:
            traceback.print_exception(error)
        said = str(error.__cause__ or error).splitlines()[0]
        print(f"error: the database failed: {said} The same command goes on with the sweep.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options of the sweep, and what goes to each trial's `fit`."""
    parser = _Parser(
        prog="run.py sweep",
        allow_abbrev=False,
        description="Runs a trial for each draw from a search space, several at once. All further arguments go to "
        "each trial: --trainer.devices 2. The same command goes on with a sweep that was stopped.",
    )
    parser.add_argument("--config", "-c", required=True, help="config file that all trials share")
    parser.add_argument("--space", required=True, help="search space in W&B's sweep format")
    parser.add_argument("--trials", required=True, type=int, help="number of results in all, earlier ones included")
    parser.add_argument("--workers", default=1, type=int, help="number of trials at once (default: 1)")
    parser.add_argument("--storage", help="database that several machines share: postgresql://, mysql://")
    parser.add_argument("--trainer.default_root_dir", dest="root", help="where the sweep's folder is (default: runs)")
    options, rest = parser.parse_known_args(arguments)
    for name in ("trials", "workers"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1, not {getattr(options, name)}.")
    for word in (argument.split("=")[0] for argument in rest):
        if near := difflib.get_close_matches(word, OPTIONS, n=1, cutoff=0.8):
            raise UserError(f"there is no option {word}. Did you mean {near[0]!r}?")
    return options, rest


def _run(options: argparse.Namespace, rest: list[str], command: str) -> int:
    quiet_optuna()
    refuse_urls(["--config", options.config])
    space = read_space(find_space(options.space))
    sweep = _sweep(options, rest, space)
    study = prepare_study(sweep, space)
    crew = Crew(sweep, options.workers)
    try:
        crew.watch(study, space)
    finally:
        crew.kill()
    table_console().print(table(study, space))
    write_csv(sweep.path / "trials.csv", study, space)
    draw_pictures(sweep.path / "media", study, space)
    for label, text in _summary(sweep, study, space, command):
        print(f"{label:<12}{text}")
    return crew.exit_code(study)


def _summary(sweep: Sweep, study: optuna.Study, space: SearchSpace, command: str) -> list[tuple[str, str]]:
    """What came out, where it is, how to go on."""
    best = best_trial(study)
    lines = [("trials", f"{count_finished(study)} of {sweep.limit}")]
    if best:
        lines.append(("best", f"{space.metric} {short(best.value)} (trial {best.number})"))
        lines.append(("pictures", os.path.relpath(sweep.path / "media")))
    lines.append(("runs", os.path.relpath(sweep.path / "trials" / "<trial>")))
    lines.append(("table", os.path.relpath(sweep.path / "trials.csv")))
    if count_finished(study) < sweep.limit:
        return [*lines, ("continue", command)]
    return [*lines, ("more", "the same command with a larger --trials")]


def _sweep(options: argparse.Namespace, rest: list[str], space: SearchSpace) -> Sweep:
    config = find_file(Path(options.config), "configs", "config file")
    name = f"{config.stem}/sweep-{find_space(options.space).stem}"
    return Sweep(
        name=name,
        folder=str((Path(options.root or _root_of(config)) / name).resolve()),
        storage=options.storage,
        arguments=["--config", str(config), *space.fixed, *rest],
        limit=int(min(options.trials, space.run_cap or options.trials, space.num_cells())),
    )


def _root_of(config: Path) -> str:
    """Where the runs of a config are."""
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
        return str(content["trainer"]["default_root_dir"])
    except (yaml.YAMLError, KeyError, TypeError):
        # It does not say; or it is no config, which the first trial explains.
        return "runs"
