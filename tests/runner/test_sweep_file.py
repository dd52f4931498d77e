"""W&B's sweep format, key by key, as Optuna's distributions; what is not understood is named."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from runner.errors import UserError
from runner.search_space import Halving, SearchSpace
from runner.sweep_file import find_space, read_space

METRIC = {"name": "val/loss"}


def read(folder: Path, parameters: dict[str, Any], **keys: Any) -> SearchSpace:
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({"method": "random", "metric": METRIC, "parameters": parameters} | keys))
    return read_space(path)


def log(low: float, high: float) -> FloatDistribution:
    return FloatDistribution(low, high, log=True)


@pytest.mark.parametrize(
    ("keys", "distribution"),
    [
        ({"values": [1, "a", None, 0.5]}, CategoricalDistribution([1, "a", None, 0.5])),
        ({"values": [[1, 2], [3]]}, CategoricalDistribution(["[1, 2]", "[3]"])),
        ({"distribution": "categorical", "values": [True]}, CategoricalDistribution([True])),
        ({"min": 1, "max": 5}, IntDistribution(1, 5)),
        ({"min": 1, "max": 5.0}, FloatDistribution(1, 5)),
        ({"distribution": "uniform", "min": 1, "max": 5}, FloatDistribution(1, 5)),
        ({"distribution": "int_uniform", "min": -2, "max": 2}, IntDistribution(-2, 2)),
        ({"distribution": "q_uniform", "min": 3, "max": 21, "q": 5}, IntDistribution(5, 20, step=5)),
        ({"distribution": "q_uniform", "min": 0.2, "max": 1.1, "q": 0.5}, FloatDistribution(0, 1, step=0.5)),
        ({"distribution": "q_uniform", "min": 1, "max": 4}, IntDistribution(1, 4)),
        ({"distribution": "log_uniform_values", "min": 0.01, "max": 10}, log(0.01, 10)),
        ({"distribution": "inv_log_uniform_values", "min": 0.01, "max": 10}, log(0.01, 10)),
        ({"distribution": "log_uniform", "min": -2, "max": 1}, log(math.exp(-2), math.e)),
        ({"distribution": "inv_log_uniform", "min": -1, "max": 2}, log(math.exp(-2), math.e)),
    ],
)
def test_distributions(keys: dict[str, Any], distribution: BaseDistribution, tmp_path: Path) -> None:
    assert read(tmp_path, {"x": keys}).distributions == {"x": distribution}


def test_a_nested_parameter_has_the_names_above_it(tmp_path: Path) -> None:
    space = read(tmp_path, {"a": {"parameters": {"b": {"values": [1]}, "c": {"value": 2}}}})
    assert space.distributions == {"a.b": CategoricalDistribution([1])}


@pytest.mark.parametrize(
    ("early_terminate", "halving", "rungs"),
    [
        # By default eta is 3.
        ({"min_iter": 2}, Halving(2, 3, math.inf), [2, 6, 18]),
        ({"min_iter": 1, "eta": 2}, Halving(1, 2, math.inf), [1, 2, 4, 8, 16]),
        # W&B's own: 27 / 3 and 27 / 9.
        ({"max_iter": 27, "s": 2}, Halving(3, 3, 27), [3, 9]),
        ({"max_iter": 5, "s": 4, "eta": 2}, Halving(1, 2, 5), [1, 2, 4]),
    ],
)
def test_hyperband(early_terminate: dict[str, Any], halving: Halving, rungs: list[int], tmp_path: Path) -> None:
    space = read(tmp_path, {"x": {"values": [1]}}, early_terminate={"type": "hyperband", **early_terminate})
    assert space.halving == halving
    assert [count for count in range(1, 28) if halving.is_rung(count)] == rungs


def test_a_grid_has_all_combinations_in_the_order_of_the_names(tmp_path: Path) -> None:
    values: dict[str, Any] = {"b": {"min": 1, "max": 2}, "a": {"values": ["x", "y"]}, "c": {"value": 7}}
    values["d"] = {"distribution": "q_uniform", "min": 0.0, "max": 0.5, "q": 0.5}
    space = read(tmp_path, values, method="grid")
    cells = list(space.cells())
    assert space.num_cells() == len(cells) == 8
    assert cells[:3] == [{"a": "x", "b": 1, "d": 0}, {"a": "x", "b": 1, "d": 0.5}, {"a": "x", "b": 2, "d": 0}]
    assert read(tmp_path, {"a": {"values": [1]}}).num_cells() == math.inf


def test_what_the_command_adds_goes_to_fit(tmp_path: Path) -> None:
    command = ["${env}", "python", "${program}", "fit", "--config", "x.yaml", "--trainer.max_steps=5", "${args}"]
    assert read(tmp_path, {"x": {"value": 1}}, command=command).fixed == ("--trainer.max_steps=5",)
    assert read(tmp_path, {"x": {"value": 1}}).fixed == ()


ONE = {"x": {"values": [1]}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"paramters": ONE}, "knows no paramters. Did you mean 'parameters'?"),
        ({"method": "gird"}, "knows no method 'gird'. Did you mean 'grid'?"),
        ({"metric": {"goal": "minimize"}}, "metric.name is missing."),
        ({"metric": {"name": "x", "goal": "minimise"}}, "metric.goal 'minimise'. Did you mean 'minimize'?"),
        ({"parameters": {}}, "there is nothing in parameters."),
        ({"parameters": {"x": 3}}, "x must have keys, it is 3."),
        ({"parameters": {"x": {"min": 1}}}, "x.max is missing."),
        ({"parameters": {"x": {"vales": [1]}}}, "knows no x.vales."),
        ({"parameters": {"x": {"value": 1, "min": 2}}}, "knows no x.min."),
        ({"parameters": {"x": {"values": [1], "probabilities": [1]}}}, "knows no x.probabilities."),
        ({"parameters": {"x": {"distribution": "normal"}}}, "knows no x.distribution 'normal'."),
        ({"parameters": {"x": {"min": "1e-3", "max": 1.0}}}, "x.min must be a number, not '1e-3' (YAML reads 1e-3 as"),
        ({"parameters": {"x": {"min": 2, "max": 1}}}, "x: "),
        ({"parameters": {"x": {"values": 1}}}, "x: values must be a list."),
        (
            {"parameters": {"a.b": {"values": [1]}, "a": {"parameters": {"b": {"values": [1]}}}}},
            "two parameters 'a.b'.",
        ),
        ({"method": "grid", "parameters": {"x": {"min": 0.0, "max": 1.0}}}, "method grid needs values"),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate.min_iter is missing."),
        ({"early_terminate": {"type": "hyperband", "max_iter": 9}}, "early_terminate.s is missing."),
        ({"early_terminate": {"type": "hyperband", "max_iter": 2, "s": 2}}, "no bracket is left"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 1}}, "eta must be at least 2."),
        ({"early_terminate": {"type": "envelope", "min_iter": 1}}, "early_terminate.type 'envelope'."),
        ({"command": ["${args_no_hyphens}"]}, "${args_no_hyphens} is not known here"),
        ({"run_cap": 0}, "run_cap must be a whole number above 0, not 0."),
    ],
)
def test_what_is_not_understood_is_named(content: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump({"method": "random", "metric": METRIC, "parameters": ONE} | content))
    with pytest.raises(UserError) as error:
        read_space(path)
    assert said in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


def test_a_file_that_is_no_yaml(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("method: random\n  metric: [")
    with pytest.raises(UserError, match=r"space\.yaml is not YAML, line 2"):
        read_space(path)


def test_shipped_files_are_found_and_all_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = sorted(find_space("sweeps/relativistic_gan.yaml").parent.glob("*.yaml"))
    assert len(shipped) >= 9
    for path in shipped:
        assert read_space(path).distributions
    with pytest.raises(UserError, match=r"Did you mean 'relativistic_gan\.yaml'"):
        find_space("sweeps/relativstic_gan.yaml")
