"""Files in W&B's sweep format, read for Optuna.

The format: https://docs.wandb.ai/guides/sweeps/define-sweep-configuration. What a file asks for and Optuna cannot
do is refused by name, so that a file means the same here and for `wandb sweep`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from runner.config_files import find_file
from runner.errors import UserError, nearest
from runner.search_space import Constant, Halving, SearchSpace, Tree, leaves

METHODS = ("grid", "random", "bayes")
GOALS = ("minimize", "maximize")
READ = {"method", "metric", "parameters", "early_terminate", "command", "run_cap"}
# How W&B files a sweep: nothing to do with what is run.
LABELS = {"program", "entity", "project", "name", "description"}
MACROS = {"${env}", "${interpreter}", "${program}", "${args}"}


def find_space(name: str) -> Path:
    """The file that `--space` means, a shipped one if there is none in the current folder.

    Raises:
        UserError: there is none.
    """
    return find_file(Path(name), "sweeps", "search space")


def read_space(path: Path) -> SearchSpace:
    """Reads a file in W&B's sweep format.

    Raises:
        UserError: it is no YAML, or asks for what is not there; names the file and the key.
    """
    text = path.read_text(encoding="utf-8")
    try:
        return _parse(text, _mapping(yaml.safe_load(text), "the file"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise UserError(f"{path} is not YAML{f', line {mark.line + 1}' if mark else ''}.") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _parse(text: str, content: dict[str, Any]) -> SearchSpace:
    _check_keys(content, READ | LABELS, {"method", "metric", "parameters"}, "")
    method, metric = content["method"], _mapping(content["metric"], "metric")
    _check_keys(metric, {"name", "goal"}, {"name"}, "metric.")
    tree = _tree(_mapping(content["parameters"], "parameters"), "")
    names = [name for name, _ in leaves(tree)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"there are two parameters {twice!r}.")
    space = SearchSpace(
        text=text,
        method=_one_of(method, METHODS, "method"),
        metric=str(metric["name"]),
        goal=_one_of(metric.get("goal", "minimize"), GOALS, "metric.goal"),
        tree=tree,
        halving=_halving(content["early_terminate"]) if "early_terminate" in content else None,
        fixed=_fixed(content.get("command") or []),
        run_cap=_whole(content["run_cap"], "run_cap") if "run_cap" in content else None,
    )
    space.num_cells()
    return space


def _tree(parameters: dict[str, Any], above: str) -> Tree:
    if not parameters:
        raise UserError(f"there is nothing in parameters{above and ' of ' + above.rstrip('.')}.")
    return {name: _parameter(_mapping(keys, above + name), above + name) for name, keys in parameters.items()}


def _parameter(keys: dict[str, Any], name: str) -> Constant | BaseDistribution | Tree:
    """One parameter by its keys, the distribution guessed as W&B guesses it."""
    if "parameters" in keys:
        _check_keys(keys, {"parameters"}, set(), f"{name}.")
        return _tree(_mapping(keys["parameters"], f"{name}.parameters"), f"{name}.")
    kind = _one_of(keys.get("distribution") or _guess(keys), KINDS, f"{name}.distribution")
    wanted, make = KINDS[kind]
    _check_keys(keys, {"distribution", *wanted}, set(wanted) - {"q"}, f"{name}.")
    if wanted[0] == "min":
        keys = keys | {key: _number(keys[key], f"{name}.{key}") for key in wanted if key in keys}
    try:
        return make(keys)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error


def _guess(keys: dict[str, Any]) -> str:
    if "value" in keys or "values" in keys:
        return "constant" if "value" in keys else "categorical"
    bounds = [keys.get("min"), keys.get("max")]
    return "int_uniform" if all(isinstance(bound, int) for bound in bounds) else "uniform"


def _categorical(keys: dict[str, Any]) -> BaseDistribution:
    if not isinstance(keys["values"], list):
        raise ValueError("values must be a list.")
    # Optuna keeps plain values only; as text a list means the same on the command line.
    plain = (bool, int, float, str, type(None))
    return CategoricalDistribution([one if isinstance(one, plain) else str(one) for one in keys["values"]])


def _int_uniform(keys: dict[str, Any]) -> BaseDistribution:
    if not isinstance(keys["min"], int) or not isinstance(keys["max"], int):
        raise ValueError("min and max must be whole numbers.")
    return IntDistribution(keys["min"], keys["max"])


def _q_uniform(keys: dict[str, Any]) -> BaseDistribution:
    """The multiples of q that the numbers between min and max round to."""
    q = keys.get("q", 1)
    if not q > 0:
        raise ValueError("q must be above 0.")
    low, high = round(keys["min"] / q) * q, round(keys["max"] / q) * q
    return IntDistribution(low, high, step=q) if isinstance(q, int) else FloatDistribution(low, high, step=q)


def _log_values(low: float, high: float) -> BaseDistribution:
    return FloatDistribution(low, high, log=True)


# W&B's name -> the keys that it takes, what it becomes. The log of a value that is uniform is the log of its
# inverse, with the bounds exchanged.
KINDS: dict[str, tuple[tuple[str, ...], Callable[[dict[str, Any]], Constant | BaseDistribution]]] = {
    "constant": (("value",), lambda keys: Constant(keys["value"])),
    "categorical": (("values",), _categorical),
    "int_uniform": (("min", "max"), _int_uniform),
    "uniform": (("min", "max"), lambda keys: FloatDistribution(keys["min"], keys["max"])),
    "q_uniform": (("min", "max", "q"), _q_uniform),
    "log_uniform": (("min", "max"), lambda keys: _log_values(math.exp(keys["min"]), math.exp(keys["max"]))),
    "log_uniform_values": (("min", "max"), lambda keys: _log_values(keys["min"], keys["max"])),
    "inv_log_uniform": (("min", "max"), lambda keys: _log_values(math.exp(-keys["max"]), math.exp(-keys["min"]))),
    "inv_log_uniform_values": (("min", "max"), lambda keys: _log_values(keys["min"], keys["max"])),
}


def _halving(early_terminate: Any) -> Halving:
    keys = _mapping(early_terminate, "early_terminate")
    known = {"type", "min_iter", "max_iter", "s", "eta"}
    _check_keys(keys, known, {"type"} | ({"s"} if "max_iter" in keys else {"min_iter"}), "early_terminate.")
    _one_of(keys["type"], ("hyperband",), "early_terminate.type")
    numbers = {key: _whole(keys[key], f"early_terminate.{key}") for key in known - {"type"} if key in keys}
    eta = numbers.get("eta", 3)
    if eta < 2:
        raise UserError("early_terminate.eta must be at least 2.")
    if "max_iter" not in numbers:
        return Halving(numbers["min_iter"], eta, math.inf)
    # W&B counts the brackets from the end: max_iter / eta, and s - 1 below it, as far as there is one.
    brackets = [numbers["max_iter"] // eta**k for k in range(1, numbers["s"] + 1)]
    lowest = min((bracket for bracket in brackets if bracket), default=0)
    if not lowest:
        raise UserError("early_terminate: no bracket is left; take a larger max_iter or a smaller eta.")
    return Halving(lowest, eta, numbers["max_iter"])


def _fixed(command: Any) -> tuple[str, ...]:
    """What W&B's command line gives `fit` beside the config and the parameters."""
    words = [str(word) for word in command]
    if macro := next((word for word in words if "${" in word and word not in MACROS), None):
        raise UserError(f"command: {macro} is not known here; ${{args}} gives the parameters.")
    rest = words[words.index("fit") + 1 :] if "fit" in words else []
    kept = [w for w in rest if w != "${args}" and not w.startswith("--config=")]
    while "--config" in kept:
        del kept[kept.index("--config") : kept.index("--config") + 2]
    return tuple(kept)


def _check_keys(keys: dict[str, Any], known: Iterable[str], needed: set[str], above: str) -> None:
    """Refuses keys that are not known, and asks for those that are missing; names both by what is above them."""
    if unknown := next((key for key in keys if key not in known), None):
        raise UserError(f"run.py sweep knows no {above}{unknown}.{nearest(str(unknown), known)}")
    if missing := sorted(needed - keys.keys()):
        raise UserError(f"{above}{missing[0]} is missing.")


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{name} must have keys, it is {value!r}.")
    return value


def _one_of(value: Any, known: Iterable[str], name: str) -> str:
    if value not in known:
        raise UserError(f"run.py sweep knows no {name} {value!r}.{nearest(str(value), known)}")
    return str(value)


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        hint = " (YAML reads 1e-3 as text, 1.0e-3 as a number)" if isinstance(value, str) and "e" in value else ""
        raise UserError(f"{name} must be a number, not {value!r}{hint}.")
    return value


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{name} must be a whole number above 0, not {value!r}.")
    return value
