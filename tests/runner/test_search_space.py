"""What a trial's command line is, beside what W&B's own code makes of the same values."""

import json
from typing import Any

import optuna
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from runner.search_space import Constant, SearchSpace, Tree


def space(tree: Tree) -> SearchSpace:
    return SearchSpace("", "random", "val/loss", "minimize", tree, None, (), None)


def test_arguments_are_those_that_wandb_makes() -> None:
    tree: Tree = {
        "model.init_args.lr": optuna.distributions.FloatDistribution(1e-5, 1.0, log=True),
        "model.init_args.flag": optuna.distributions.CategoricalDistribution([True, False]),
        "model.init_args.kind": optuna.distributions.CategoricalDistribution(["a", None]),
        "model.init_args.width": optuna.distributions.IntDistribution(4, 8, step=4),
        "model.init_args.fixed": Constant([1, 2]),
        "model.init_args.optimizer_args": {
            "ratio": optuna.distributions.FloatDistribution(0, 1, step=0.25),
            "deep": {"name": Constant("x")},
        },
    }
    drawn = {
        "model.init_args.lr": 1e-05,
        "model.init_args.flag": False,
        "model.init_args.kind": None,
        "model.init_args.width": 8,
        "model.init_args.optimizer_args.ratio": 0.75,
    }
    values: dict[str, Any] = {name: value for name, value in drawn.items() if "optimizer_args" not in name}
    values |= {"model.init_args.fixed": [1, 2]}
    values |= {"model.init_args.optimizer_args": {"ratio": 0.75, "deep": {"name": "x"}}}
    # W&B's agent gets them as JSON.
    command = json.loads(json.dumps({"args": {name: {"value": value} for name, value in values.items()}}))
    arguments = space(tree).draw(optuna.trial.FixedTrial(drawn))  # type: ignore[arg-type]
    assert sorted(arguments) == sorted(create_sweep_command_args(command)["args"])


def test_all_that_is_drawn_is_a_parameter_of_the_study() -> None:
    tree: Tree = {"a": {"b": optuna.distributions.IntDistribution(1, 3)}, "c": Constant(1)}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    assert space(tree).draw(trial)[1] == "--c=1"
    assert trial.params.keys() == trial.distributions.keys() == space(tree).distributions.keys() == {"a.b"}
