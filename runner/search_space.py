"""What a sweep draws from: parameters, what is optimized, when trials are stopped early."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from runner.errors import UserError


@dataclass(frozen=True)
class Constant:
    """A parameter that every trial gets alike."""

    value: Any


# A parameter, or the parameters below it: W&B hands a nested one over as a single dictionary.
Tree = dict[str, "Constant | BaseDistribution | Tree"]


@dataclass(frozen=True)
class Halving:
    """Successive halving: at `min_iter * eta**k` logged values, below `max_iter`, the best of `eta` trials go on."""

    min_iter: int
    eta: int
    max_iter: float

    def is_rung(self, count: int) -> bool:
        """Whether trials are compared when the metric was logged `count` times."""
        rung = self.min_iter
        while rung < count:
            rung *= self.eta
        return rung == count and count < self.max_iter


@dataclass(frozen=True)
class SearchSpace:
    """What a sweep draws from.

    Args:
        text: the file, word by word.
        method: `grid`, `random` or `bayes`.
        metric: logged name of what is optimized.
        goal: `minimize` or `maximize`.
        tree: the parameters.
        halving: when trials are compared and stopped; none: never.
        fixed: arguments of `fit` that the file's `command` gives every trial.
        run_cap: at most so many trials.
    """

    text: str
    method: str
    metric: str
    goal: str
    tree: Tree
    halving: Halving | None
    fixed: tuple[str, ...]
    run_cap: int | None

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """What is drawn, by name; a nested parameter's name has the names above it before a dot."""
        return dict(leaves(self.tree))

    def draw(self, trial: Trial) -> list[str]:
        """The arguments of one trial, built as W&B builds its `${args}`.

        Args:
            trial: draws the values.
        """
        return [f"--{name}={value}" for name, value in _draw(self.tree, "", trial).items()]

    def cells(self) -> Iterator[dict[str, Any]]:
        """All combinations of a grid, parameters in the order of their names."""
        names = sorted(self.distributions)
        for values in itertools.product(*(_points(self.distributions[name]) for name in names)):
            yield dict(zip(names, values, strict=True))

    def num_cells(self) -> float:
        """How many different trials there are: infinite unless the method is grid."""
        if self.method != "grid":
            return math.inf
        return math.prod(len(_points(distribution)) for distribution in self.distributions.values())


def leaves(tree: Tree, above: str = "") -> Iterator[tuple[str, BaseDistribution]]:
    """The parameters that are drawn, by their full names.

    Args:
        tree: the parameters.
        above: what stands before their names.
    """
    for name, node in tree.items():
        if isinstance(node, dict):
            yield from leaves(node, f"{above}{name}.")
        elif isinstance(node, BaseDistribution):
            yield above + name, node


def _draw(tree: Tree, above: str, trial: Trial) -> dict[str, Any]:
    return {name: _draw_one(node, above + name, trial) for name, node in tree.items()}


def _draw_one(node: Constant | BaseDistribution | Tree, name: str, trial: Trial) -> Any:
    match node:
        case dict():
            return _draw(node, f"{name}.", trial)
        case CategoricalDistribution():
            return trial.suggest_categorical(name, node.choices)
        case IntDistribution():
            return trial.suggest_int(name, node.low, node.high, step=node.step)
        case FloatDistribution():
            return trial.suggest_float(name, node.low, node.high, step=node.step, log=node.log)
        case Constant():
            return node.value


def _points(distribution: BaseDistribution) -> list[Any]:
    """All values of one parameter of a grid."""
    match distribution:
        case CategoricalDistribution():
            return list(distribution.choices)
        case IntDistribution():
            return list(range(distribution.low, distribution.high + 1, distribution.step))
        case FloatDistribution(step=float(step)):
            return [
                distribution.low + k * step for k in range(round((distribution.high - distribution.low) / step) + 1)
            ]
    raise UserError("method grid needs values, whole numbers or q_uniform for every parameter.")
