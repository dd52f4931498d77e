"""Sweeps as a user runs them: killed, interrupted, mistaken, crashed, pruned, on several processes."""

import os
import re
import shlex
import shutil
import signal
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

import run
import runner.sweep
from runner.sweep import _parse
from runner.sweep_file import find_space, read_space
from tests.runner.command_line import ROOT, finish
from tests.runner.sweeping import (
    LR,
    TIMEOUT,
    kill_a_busy_worker,
    processes,
    results,
    start_sweep,
    states,
    sweep_to_end,
    wait_until,
    write_sweep,
)

pytestmark = pytest.mark.timeout(900)
SLOWLY = "--model.init_args.step_seconds=0.5"


@pytest.mark.slow
def test_a_worker_is_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    command = write_sweep(tmp_path, LR)
    sweep = start_sweep(tmp_path, *command, "--trials=12", "--workers=3", SLOWLY, wandb="offline", until=4)
    kill_a_busy_worker(tmp_path)
    said = finish(sweep, timeout=TIMEOUT)
    assert "trials      12 of 12" in said
    assert states(tmp_path) == ["complete"] * 12 + ["lost"]
    # The lost one came back with the values that it had.
    (lost,) = (row for row in results(tmp_path) if row["state"] == "lost")
    values = [row["model.init_args.lr"] for row in results(tmp_path) if row["state"] == "complete"]
    assert lost["model.init_args.lr"] in values
    assert len(set(values)) == 12
    assert not processes(tmp_path)
    media = tmp_path / "runs/toy/sweep-space/media"
    assert {path.name for path in media.iterdir()} == {"history.png", "importances.png", "parallel_coordinates.png"}
    assert f"best        val/loss {float(results(tmp_path)[0]['val/loss']):.4g}" in said


@pytest.mark.slow
def test_ctrl_c_stops_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = (*write_sweep(tmp_path, LR, method="bayes"), "--trials=3", "--workers=2", SLOWLY)
    sweep = start_sweep(tmp_path, *command, until=2)
    sweep.send_signal(signal.SIGINT)
    said = finish(sweep, code=130, timeout=TIMEOUT)
    assert "continue    python run.py sweep --config=toy.yaml" in said
    assert states(tmp_path) == ["interrupted"] * 2
    assert not processes(tmp_path)
    drawn = {row["model.init_args.lr"] for row in results(tmp_path)}
    # The trials saved what they had.
    assert len(list(tmp_path.glob("runs/toy/sweep-space/trials/*/*/*/checkpoints/last.ckpt"))) == 2
    said = sweep_to_end(tmp_path, *command)
    assert "trials      3 of 3" in said
    done = [row for row in results(tmp_path) if row["state"] == "complete"]
    assert len(done) == 3
    assert drawn < {row["model.init_args.lr"] for row in done}
    # Nothing is left to do.
    assert "trials      3 of 3" in sweep_to_end(tmp_path, *command)
    assert len(results(tmp_path)) == 5


@pytest.mark.slow
def test_when_the_command_is_killed_its_workers_and_trials_end(tmp_path: Path) -> None:
    command = (*write_sweep(tmp_path, LR), "--trials=2", "--workers=2", SLOWLY)
    sweep = start_sweep(tmp_path, *command, until=2)
    sweep.kill()
    finish(sweep, code=-signal.SIGKILL, timeout=TIMEOUT)
    wait_until(lambda: not processes(tmp_path))
    sweep_to_end(tmp_path, *command)
    assert states(tmp_path) == ["complete"] * 2 + ["interrupted"] * 2


@pytest.mark.slow
def test_a_mistake_ends_the_sweep_and_the_mended_file_begins_it(tmp_path: Path) -> None:
    command = (*write_sweep(tmp_path, {"model.init_args.lrr": {"values": [0.1]}}), "--trials=2")
    said = sweep_to_end(tmp_path, *command, code=2)
    assert "error: ToyModule has no argument 'lrr'. Did you mean 'lr'? (on the command line)" in said
    assert "Traceback" not in said
    write_sweep(tmp_path, LR, metric={"name": "val/los"})
    assert "error: val/los was not logged. Did you mean 'val/loss'?" in sweep_to_end(tmp_path, *command, code=2)
    write_sweep(tmp_path, LR)
    sweep_to_end(tmp_path, *command)
    assert states(tmp_path) == ["complete"] * 2
    write_sweep(tmp_path, LR, method="bayes")
    said = sweep_to_end(tmp_path, *command, code=2)
    assert "error: the sweep toy/sweep-space has results of another search space" in said


@pytest.mark.slow
def test_a_crash_costs_one_trial_of_a_grid(tmp_path: Path) -> None:
    grid = {"model.init_args.bad_step": {"values": [3, -1, -2]}}
    said = sweep_to_end(tmp_path, *write_sweep(tmp_path, grid, method="grid"), "--trials=9", "--workers=2")
    assert "trials      3 of 3" in said
    rows = {row["model.init_args.bad_step"]: row for row in results(tmp_path)}
    assert {value: row["state"] for value, row in rows.items()} == {"3": "crashed", "-1": "complete", "-2": "complete"}
    assert "became NaN or infinite at step 4" in rows["3"]["reason"]
    assert len(results(tmp_path)) == 3


@pytest.mark.slow
def test_a_trial_that_is_no_good_is_stopped(tmp_path: Path) -> None:
    """The flow from 10 has a loss of thousands at its first validation, the flow from the minimum of nothing."""
    space = {"model.init_args.start": {"values": [[0.407], [10.0]]}}
    halving = {"type": "hyperband", "min_iter": 1, "eta": 2}
    command = write_sweep(tmp_path, space, method="grid", early_terminate=halving)
    shutil.copy(ROOT / "configs/optimization_flow.yaml", tmp_path / "toy.yaml")
    many = ("--trainer.max_steps=1000", "--trainer.val_check_interval=10", "--trainer.callbacks=null")
    sweep_to_end(tmp_path, *command, "--trials=2", *many)
    rows = {row["model.init_args.start"]: row for row in results(tmp_path)}
    assert (rows["[0.407]"]["state"], rows["[10.0]"]["state"]) == ("complete", "pruned")
    logs = [next(Path(row["folder"]).glob("*/*/metrics.csv")).read_text() for row in rows.values()]
    assert len(logs[1]) < len(logs[0])
    assert list(Path(rows["[10.0]"]["folder"]).glob("*/*/checkpoints/last.ckpt"))


@pytest.mark.slow
def test_a_trial_on_two_processes(tmp_path: Path) -> None:
    command = (*write_sweep(tmp_path, LR), "--trials=1", "--trainer.devices=2", "--trainer.strategy=ddp")
    sweep_to_end(tmp_path, *command)
    (trial,) = results(tmp_path)
    assert trial["state"] == "complete"
    assert "Starting with 2 processes" in (Path(trial["folder"]) / "output.log").read_text()


@pytest.mark.slow
def test_a_trial_on_two_processes_ends_with_its_worker(tmp_path: Path) -> None:
    two = ("--trainer.devices=2", "--trainer.strategy=ddp", SLOWLY)
    sweep = start_sweep(tmp_path, *write_sweep(tmp_path, LR), "--trials=1", *two, until=1)
    assert len(processes(tmp_path, "runner.sweep_child")) == 2
    (worker,) = processes(tmp_path, "runner.sweep_worker")
    os.kill(worker, signal.SIGKILL)
    assert "a worker ended with -9" in finish(sweep, code=1, timeout=TIMEOUT)
    wait_until(lambda: not processes(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--space=s.yaml"], "the following arguments are required: --config/-c, --trials"),
        (["--config=c.yaml", "--space=s.yaml", "--trials=x"], "argument --trials: invalid int value: 'x'"),
        (["--config=c.yaml", "--space=s.yaml", "--trials=0"], "--trials must be at least 1, not 0."),
        (["--config=c.yaml", "--space=s.yaml", "--trials=1", "--wrokers=2"], "Did you mean '--workers'?"),
        (["--config=http://x/c.yaml", "--space=sweeps/freeform_classifier.yaml", "--trials=1"], "not read from addr"),
        (["--config=c.yaml", "--space=s.yaml", "--trials=1"], "there is no search space s.yaml."),
        (["--config=freeform.yaml", "--space=sweeps/freeform_classifier.yaml", "--trials=1"], "there is no config"),
    ],
)
def test_mistakes_in_the_command_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.main(["sweep", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_database_that_fails_leaves_a_sweep_to_go_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(sweep: object, space: object) -> None:
        raise OperationalError("SELECT", {}, ConnectionError("the server closed the connection"))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner.sweep, "prepare_study", fail)
    assert run.main([*write_sweep(tmp_path, LR), "--trials=1"]) == 1
    said = capsys.readouterr().err
    assert "the server closed the connection" in said
    assert "The same command goes on" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("page", ["README.md", "docs/sweeps.md"])
def test_commands_of_the_docs_are_right(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / page).read_text().replace("\\\n", " ")
    for command in re.findall(r"python run\.py (sweep [^\n`&|#]*)", text):
        options, rest = _parse(shlex.split(command)[1:])
        assert read_space(find_space(options.space)).distributions
        assert Path(options.config).is_file()
        assert not rest


def test_other_commands_do_not_import_optuna() -> None:
    for path in (ROOT / "runner").glob("*.py"):
        if not path.name.startswith(("sweep", "search_space")):
            text = path.read_text()
            assert not re.search(r"import optuna|from optuna|runner\.(sweep|search_space)", text), path.name
