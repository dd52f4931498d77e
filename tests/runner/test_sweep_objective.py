"""A trial whose place was taken while it ran, and W&B's own agent beside this one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from runner import sweep_objective
from runner.search_space import Constant, SearchSpace, Tree
from runner.sweep_file import read_space
from runner.sweep_objective import Objective
from runner.sweep_study import Sweep, open_study, quiet_optuna
from runner.sweep_trials import outcome, trials_of
from tests.runner.command_line import ROOT

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


class Finished:
    """A process that has ended well."""

    returncode = 0

    def poll(self) -> int:
        return 0


def test_a_trial_that_was_taken_for_lost_has_no_second_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet_optuna()
    tree: Tree = {"x": Constant(1)}
    space, sweep = (
        SearchSpace("", "random", "val/loss", "minimize", tree, None, (), None),
        Sweep("s", str(tmp_path), None, [], 1),
    )
    study, storage = open_study(sweep, space)
    another = open_study(sweep, space)[0]

    def train(module: str, arguments: list[str], *rest: Any, **options: Any) -> Finished:
        folder = Path(arguments[-1].partition("=")[2]) / "config" / "run"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text("step,val/loss\n1,0.5\n")
        # Meanwhile, elsewhere.
        another.tell(0, state=TrialState.FAIL)
        return Finished()

    monkeypatch.setattr(sweep_objective, "start", train)
    objective = Objective(sweep, space, study, storage.record_heartbeat, lambda: False)
    with pytest.raises(ValueError, match="Cannot tell a FAIL trial"):
        study.optimize(objective, n_trials=1)
    assert objective.was_taken
    assert [outcome(trial) for trial in trials_of(study)] == ["lost"]


@pytest.mark.slow
def test_the_command_line_that_wandbs_agent_makes_of_a_shipped_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent itself, W&B's server taken away, is told to run what Optuna draws; its command line trains."""
    from wandb import wandb_agent

    path = ROOT / "sweeps/optimization_flow.yaml"
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    ours = read_space(path).draw(trial)
    content = yaml.safe_load(path.read_text())
    started: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], **options: Any) -> None:
            started.append(command)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    monkeypatch.setattr(wandb_agent, "AgentProcess", Process)
    agent = wandb_agent.Agent(api=None, queue=None, sweep_id="abc")
    agent._sweep_command = content["command"]
    values = {name: {"value": value} for name, value in trial.params.items()}
    agent._command_run({"type": "run", "run_id": "1", "program": content["program"], "args": values})
    (command,) = started
    assert command[:4] == ["/usr/bin/env", "python", "run.py", "fit"]
    assert sorted(command[6:]) == sorted(ours)
    few = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", f"--trainer.default_root_dir={tmp_path}"]
    path_first = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path_first, "WANDB_MODE": "disabled"}
    del environment["WANDB_RUN_ID"]
    done = subprocess.run([*command, *few], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    (config,) = tmp_path.glob("optimization_flow/*/config.yaml")
    arguments = yaml.safe_load(config.read_text())["model"]["init_args"]
    assert arguments["learning_rate"] == trial.params["model.init_args.learning_rate"]
    assert arguments["optimizer_args"] == {"max_ratio": trial.params["model.init_args.optimizer_args.max_ratio"]}
